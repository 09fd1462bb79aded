"""Calls the key-value store in many processes under faults, and judges what they have told.

python -m tests.chaos.kv [--seconds N] [--store rocksdb|postgresql|mariadb|tidb] [--processes N] [--threads N]
                         [--seed S] [--faults NAME …] [--bug NAME | --seeded]

Fails if one moment of it must not have been; with `--seeded`, if one of the bugs is not found.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tests.chaos.__main__ import OPTIONS
from tests.chaos.faults import FAULTS
from tests.chaos.kv.bugs import SEEDED
from tests.chaos.kv.history import violations
from tests.chaos.kv.run import SHOWN, Run, told, told_of_codes
from tests.chaos.kv.taking import wrong
from tests.servers import SQL, STARTED, Server

STORES = ("rocksdb", *SQL)
ATTEMPTS = 6
"""Runs in which a bug has to be found once: a commit is on its way by chance when its connection is lost."""


@contextlib.contextmanager
def store(kind: str, folder: Path) -> Iterator[Server]:
    """Give a server, or the settings of a store that is in the process itself."""
    if kind == "rocksdb":
        yield Server(kind, {"storage_provider": kind, "rocksdb_path": folder / "rocksdb"})
    else:
        with STARTED[kind](**OPTIONS.get(kind, {})) as server:
            yield server


def holds(kind: str, run: Run, codes: int, logs: Path | None) -> bool:
    """Run on one store, print what came of it, and return whether all rules held; a failed run's folder stays."""
    folder = Path(tempfile.mkdtemp(prefix=f"p8fs-chaos-kv-{kind}-", dir=logs))
    taken: list[list[int]] = []
    with store(kind, folder) as server:
        history = run.history(server, folder)
        if codes:
            taken = run.contest(server, codes)
    broken = violations(history)
    shown = 1 if run.bug else SHOWN
    print(told(kind, history, broken, shown), *([told_of_codes(taken, codes)] if codes else []), sep="\n", flush=True)
    held = not broken and not wrong(taken, codes)
    if held or run.bug:
        shutil.rmtree(folder)
    else:
        print(f"  what the processes have told is in {folder}")
    return held


def missed(stores: Sequence[str], run: Run) -> list[str]:
    """Seed each bug in each store that can have it, and return those that were not found."""
    seeded = [(bug, kind) for bug, seed in SEEDED.items() for kind in stores if kind in seed.kinds]
    return [f"{bug} in {kind}" for bug, kind in seeded if all(_passes(kind, run, bug) for _ in range(ATTEMPTS))]


def _passes(kind: str, run: Run, bug: str) -> bool:
    """Return whether a bug is not found in a run."""
    print(f"{bug}: ", end="")
    return holds(kind, replace(run, bug=bug, faults=SEEDED[bug].faults), 0, None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=90, help="on each store")
    parser.add_argument("--store", choices=STORES, help="this one alone")
    parser.add_argument("--processes", type=int, default=8, help="that call a server at once; RocksDB has one")
    parser.add_argument("--threads", type=int, default=8, help="in each process")
    parser.add_argument("--codes", type=int, default=300, help="that serve once, and that all callers want")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of the order of faults")
    parser.add_argument("--faults", nargs="*", choices=FAULTS, metavar="FAULT", help=", ".join(FAULTS))
    parser.add_argument("--bug", choices=SEEDED, default="", help="a bug that is seeded in all processes")
    parser.add_argument("--seeded", action="store_true", help="one bug after the other, in each store that can have it")
    parser.add_argument("--logs", type=Path, help="where a failed run leaves what its processes have told")
    given = parser.parse_args()
    stores = (given.store,) if given.store else STORES
    run = Run(given.processes, given.threads, given.seconds, given.faults or list(FAULTS), given.seed, given.bug)
    if given.seeded:
        not_found = missed(stores, run)
        print(f"NOT FOUND: {', '.join(not_found)}" if not_found else "every bug was found")
        return bool(not_found)
    held = [holds(kind, run, given.codes, given.logs) for kind in stores]
    print(f"seed {given.seed}: again with --seed {given.seed}")
    return not all(held)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
