"""Callers in one process, which tell of each call in a file, until their input ends.

python -m tests.chaos.kv.worker FILE NAME threads|asyncio THREADS [BUG]
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from pathlib import Path
from typing import Any

from p8fs_cluster import Container
from tests.chaos.kv.caller import Caller
from tests.chaos.kv.calls import Journal
from tests.chaos.kv.keys import NAMESPACE
from tests.conformance.awaited import Loop
from tests.kv.twins import Twin

__all__ = ["opened"]


@contextlib.contextmanager
def opened(kind: str) -> Any:
    """Give the key-value store of the settings, through either handle."""
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(Loop().running()) if kind == "asyncio" else None
        container = stack.enter_context(Container())
        kv: Any = Twin(loop, container.async_kv()) if loop else container.kv()
        yield kv.namespace(NAMESPACE)
        if loop:
            loop.call(container.aclose)


def main() -> None:
    path, name, kind, threads, *seeded = sys.argv[1:]
    for bug in seeded:
        importlib.import_module("tests.chaos.kv.bugs").SEEDED[bug].seed(setattr)
    journal, over = Journal(Path(path)), threading.Event()
    with opened(kind) as kv:
        callers = [Caller(journal, kv, f"{name}.{number}") for number in range(int(threads))]
        working = [threading.Thread(target=_act, args=(caller, over), daemon=True) for caller in callers]
        for thread in working:
            thread.start()
        sys.stdin.read()
        over.set()
        for thread in working:
            thread.join(30)


def _act(caller: Caller, over: threading.Event) -> None:
    while not over.is_set():
        caller.act()


if __name__ == "__main__":
    main()
