"""Processes that log and end, one way or the other: python -m tests.integration.log_writers HOW NUMBER"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading

from p8fs_cluster import Container

log = Container().logger("p8fs")


def burst(number: int) -> None:
    for index in range(number):
        log.info("record", pid=os.getpid(), index=index)


def forked(number: int) -> None:
    """A child in the midst of other threads' records; both go on."""
    threads = [threading.Thread(target=burst, args=(number,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    pid = os.fork()
    if pid == 0:
        burst(number)
        sys.exit(0)
    for thread in threads:
        thread.join()
    assert os.waitpid(pid, 0)[1] == 0


def child(number: int) -> None:
    burst(number)
    process = multiprocessing.get_context("fork").Process(target=burst, args=(number,))
    process.start()
    process.join()


def main(how: str, number: int) -> None:
    if how in ("os.fork", "multiprocessing"):
        {"os.fork": forked, "multiprocessing": child}[how](number)
        return
    burst(number)
    if how == "sys.exit":
        sys.exit(0)
    if how == "exception":
        raise ZeroDivisionError


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
