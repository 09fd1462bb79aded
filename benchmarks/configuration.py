"""Reading a setting: the live view against a field of the model, in one run.

python -m benchmarks.configuration
"""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable

from p8fs_cluster.config.settings import P8FSConfig, config

TIMES = 200_000


def nanoseconds(read: Callable[[], object]) -> float:
    """Return the time of one read, the call included."""
    return timeit.timeit(read, number=TIMES) / TIMES * 1e9


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
        pairs = [(nanoseconds(live), nanoseconds(field)) for _ in range(31)]
        ours, theirs = (statistics.median(values) for values in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"{name:30}{ours:9.0f} ns{theirs:9.0f} ns{ratio:8.2f}")


if __name__ == "__main__":
    main()
