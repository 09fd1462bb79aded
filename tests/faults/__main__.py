"""Does every fault to the handle and to the bare pool, and prints both columns; fails if the handle breaks a promise.

python -m tests.faults [--short] [--on STORE] [FAULT …]
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
from collections.abc import Callable

from tests.faults import faults
from tests.faults.faults import Outcome
from tests.servers import SQL

FAULTS: dict[str, tuple[Callable[[bool, str, int], Outcome], tuple[str, ...], int, int]] = {
    "rotations": (faults.rotations, SQL, 100, 5),
    "moves": (faults.moves, SQL, 100, 6),
    "restarts": (faults.restarts, SQL, 20, 2),
    "idle": (faults.idle, SQL, 20, 2),
    "outage": (faults.outage, SQL, 60, 3),
    "hang": (faults.hang, SQL, 10, 3),
    "network": (faults.network, SQL, 10, 3),
    "forks": (faults.forks, SQL, 1000, 20),
    "rocksdb_forks": (faults.rocksdb_forks, ("rocksdb",), 1000, 5),
    "kills": (faults.kills, (*SQL, "rocksdb"), 100, 3),
}
"""Name → what does it, on which stores, how many times or seconds, and how many in the short form."""


def done(name: str, store: str, ours: bool, short: bool) -> Outcome:
    """Do one fault to one side."""
    action, _, full, few = FAULTS[name]
    return action(ours, store, few if short else full)


def main() -> int:
    """Do those that were asked for; `network` needs a network of its own, into which the program is started anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", choices=[*FAULTS, []], metavar="FAULT", help=", ".join(FAULTS))
    parser.add_argument("--on", choices=[*SQL, "rocksdb"], help="on this store alone")
    parser.add_argument("--short", action="store_true", help="few times and short ones, as the tests do")
    parser.add_argument("--ours", action="store_true", help="without the bare pools")
    arguments = parser.parse_args()
    if os.environ.get("OWN_NETWORK") is None and os.geteuid() == 0:
        into = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
        command = [*into, sys.executable, "-m", "tests.faults", *sys.argv[1:]]
        return subprocess.run(command, env={**os.environ, "OWN_NETWORK": "own"}).returncode
    logging.disable()
    broken = 0
    for name in arguments.faults or FAULTS:
        for store in FAULTS[name][1]:
            if arguments.on not in (None, store):
                continue
            outcome = done(name, store, True, arguments.short)
            broken += not outcome.kept
            print(f"{'kept  ' if outcome.kept else 'BROKEN'} {name} on {store}\n    handle  {outcome.told}", flush=True)
            if not arguments.ours:
                print(f"    bare    {done(name, store, False, arguments.short).told}", flush=True)
    return broken


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(min(code, 1))  # threads of bare pools may be stuck for ever
