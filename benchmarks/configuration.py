"""Reading a setting: the live view against a field of the model, in one run.

python -m benchmarks.configuration
"""

from __future__ import annotations

import statistics
from timeit import Timer

from benchmarks.rounds import measure, ratio
from p8fs_cluster.config.settings import P8FSConfig, config


def main() -> None:
    """Measure reads in turn, and print the medians and the median of the rounds' ratios."""
    settings = P8FSConfig()
    assert config.pg_host == settings.pg_host
    reads = {
        "config.pg_host": (lambda: config.pg_host, lambda: settings.pg_host),
        "config.pg_connection_string": (lambda: config.pg_connection_string, lambda: settings.pg_connection_string),
    }
    print(f"{'':30}{'live view':>12}{'model':>12}{'ratio':>8}")
    for name, (live, field) in reads.items():
        figures = measure({"live": Timer(live).timeit, "model": Timer(field).timeit}, rounds=31, seconds=0.01)
        ours, theirs = (statistics.median(seconds) * 1e9 for seconds in figures.values())
        print(f"{name:30}{ours:9.0f} ns{theirs:9.0f} ns{ratio(figures, 'live', 'model'):8.2f}")


if __name__ == "__main__":
    main()
