"""Runs nodes under faults, and judges what they have told; fails if one moment of it must not have been.

python -m tests.chaos [--seconds N] [--server postgresql|mariadb|tidb] [--seed S] [--faults NAME …] [--bug NAME]
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from p8fs_cluster.coordination.terms import Timing
from tests.chaos.bugs import SEEDED
from tests.chaos.history import History, violations, waits
from tests.chaos.lease_faults import FAULTS
from tests.chaos.lines import now
from tests.chaos.told import Violation
from tests.chaos.world import World, world
from tests.servers import SQL, STARTED

TIMINGS = {
    "postgresql": Timing(2, 1.8, 0.7),
    "mariadb": Timing(2, 1.8, 0.7),
    "tidb": Timing(15, 10, 2),
}
"""Short ones, and deadlines as late as they may be; TiDB's clock allows no less."""
OPTIONS: dict[str, dict[str, Any]] = {"mariadb": {"innodb_flush_log_at_trx_commit": "2"}}
"""The options with which a kill of a server loses no commit."""
SHOWN = 10
"""Violations that are printed."""


def run(kind: str, seconds: float, names: list[str], folder: Path, *, seed: int, bug: str) -> History:
    """Return the history of nodes on a server, under one fault after the other, each as often as the others."""
    with (
        STARTED[kind](**OPTIONS.get(kind, {})) as server,
        world(server, TIMINGS[kind], folder, seed, bug) as made,
    ):
        end = now() + seconds
        waiting: list[str] = []
        while now() < end:
            waiting = waiting or made.random.sample(names, len(names))
            fault(made, waiting.pop())
        return made.history()


def fault(made: World, name: str) -> None:
    """Do a fault, and wait until somebody leads again, but not for ever: the checker tells if nobody did."""
    done = FAULTS[name](made)
    made.faults.append(done)
    made.until(lambda: made.led_since(done.healed), made.patience + 1)
    time.sleep(made.random.uniform(0.1, 0.5))


def told(kind: str, history: History, broken: list[Violation]) -> str:
    """Return a table of what was done, and what came of it."""
    counts = Counter(event.kind for event in history.events)
    lines = [f"{kind}: {len(history.faults)} faults, {counts['tick']} ticks; a leader within {history.patience:.1f} s?"]
    longest: dict[str, list[float]] = defaultdict(list)
    for each, seconds in zip(history.faults, waits(history.events, history.faults), strict=True):
        longest[each.name].append(seconds)
    lines += [
        f"  {name:<12} {len(times):>3} times, after {max(times):.2f} s at most" for name, times in longest.items()
    ]
    lines.append(f"  writes accepted {counts['accepted']}, refused {counts['refused']}, unsure {counts['unsure']}")
    lines.append(f"  counter {history.value}, locks taken {counts['acquired']}, not incremented "
                 f"{counts['not incremented']}")  # fmt: skip
    lines.append("  nothing broken" if not broken else f"  BROKEN: {dict(Counter(each.rule for each in broken))}")
    lines += [f"    {each.rule}: {each.told}" for each in broken[:SHOWN]]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="in all, shared by the servers")
    parser.add_argument("--server", choices=SQL, help="this one alone")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of the order of faults")
    parser.add_argument("--faults", nargs="*", choices=FAULTS, metavar="FAULT", help=", ".join(FAULTS))
    parser.add_argument("--bug", choices=SEEDED, default="", help="a bug that is seeded in all nodes")
    parser.add_argument("--logs", type=Path, help="an empty folder for what nodes tell; else one that goes if all held")
    arguments = parser.parse_args()
    servers = [arguments.server] if arguments.server else list(SQL)
    code = 0
    for kind in servers:
        folder = Path(tempfile.mkdtemp(prefix=f"p8fs-chaos-{kind}-", dir=arguments.logs))
        names = arguments.faults or list(FAULTS)
        history = run(kind, arguments.seconds / len(servers), names, folder, seed=arguments.seed, bug=arguments.bug)
        broken = violations(history)
        print(told(kind, history, broken), flush=True)
        if broken:
            code = 1
            print(f"  what the nodes have told is in {folder}")
        elif not arguments.logs:
            shutil.rmtree(folder)
    print(f"seed {arguments.seed}: again with --seed {arguments.seed}")
    return code


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
