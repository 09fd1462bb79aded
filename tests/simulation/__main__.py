"""Plays random schedules and prints what came of them; fails if anything did not hold.

python -m tests.simulation [--schedules 10000] [--seed 0]
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.checker import Violation
from tests.simulation.faults import play

_SHOWN = 20
"""The number of violations that are told in words."""


def main() -> int:
    """Play schedules whose seeds follow one another."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="that of the first schedule; each determines its course")
    arguments = parser.parse_args()
    began = time.monotonic()
    events = grants = losses = writes = 0
    violations: list[tuple[int, Violation]] = []
    for seed in range(arguments.seed, arguments.seed + arguments.schedules):
        result = play(seed)
        events, grants = events + result.events, grants + result.grants
        losses, writes = losses + result.losses, writes + result.writes
        violations += ((seed, violation) for violation in result.violations)
    for seed, violation in violations[:_SHOWN]:
        print(f"seed {seed}, after {violation.when:.3f} s: {violation.kind}: {violation.details}")
    print(
        f"{arguments.schedules:,} schedules, {events:,} events, {grants:,} grants, {losses:,} losses, {writes:,} writes"
    )
    print(f"{len(violations)} violations, {time.monotonic() - began:.0f} s")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
