"""Many callers who all want each of some codes that serve once: one of them gets it, and nobody else.

python -m tests.chaos.kv.taking threads|asyncio THREADS CODES
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from tests.chaos.kv.worker import opened
from tests.chaos.lines import now
from tests.processes import PATIENCE, ROOT, variables

__all__ = ["give", "got", "name_of", "take_all", "wrong"]


SLOT = 0.03
"""Seconds between two codes; without them one process would be ahead of all others, and take them all."""


def name_of(number: int) -> str:
    """Return the key of a code."""
    return f"serves-once:{number}"


def give(kv: Any, codes: int) -> None:
    """Write the codes."""
    kv.put_many({name_of(number): b"%d" % number for number in range(codes)}, ttl=3600)


def take_all(kv: Any, codes: int, begun: float, slot: float = SLOT) -> list[int]:
    """Take one code after the other, each not before its moment, at which all want it; return those that were had."""
    taken = []
    for number in range(codes):
        time.sleep(max(begun + number * slot - now(), 0))
        if (code := kv.take(name_of(number))) is not None:
            taken.append(int(code))
    return taken


def got(settings: Mapping[str, object], processes: int, threads: int, codes: int) -> list[list[int]]:
    """Return the codes that each of some processes got, which began at one moment."""
    with ExitStack() as stack:
        begun = [stack.enter_context(_started(settings, number, threads, codes)) for number in range(processes)]
        for process in begun:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for process in begun:
            assert process.stdin is not None
            process.stdin.write(b"%f" % (now() + SLOT))
            process.stdin.close()
        told = [process.stdout.read() for process in begun if process.stdout is not None]
        assert all(process.wait(PATIENCE) == 0 for process in begun)
    return [json.loads(text) for text in told]


def _started(settings: Mapping[str, object], number: int, threads: int, codes: int) -> subprocess.Popen[bytes]:
    kind = "asyncio" if number % 2 else "threads"
    command = [sys.executable, "-m", "tests.chaos.kv.taking", kind, str(threads), str(codes)]
    given = {**settings, "pool_max_size": threads, "log_level": "ERROR"}
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, **variables(given)}
    )


def wrong(taken: list[list[int]], codes: int) -> list[str]:
    """Return the codes that not exactly one caller got."""
    times = Counter(code for each in taken for code in each)
    return [f"{name_of(code)}: {times[code]} callers" for code in range(codes) if times[code] != 1]


def main() -> None:
    kind, threads, codes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with opened(kind) as kv, ThreadPoolExecutor(threads) as pool:
        kv.get("first")
        print("ready", flush=True)
        begun = float(sys.stdin.read())
        taken = list(pool.map(lambda _: take_all(kv, codes, begun), range(threads)))
    print(json.dumps([code for each in taken for code in each]))


if __name__ == "__main__":
    main()
