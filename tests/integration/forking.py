"""A process that uses its storage before and after it gets children: python -m tests.integration.forking HOW"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
from typing import Any

from p8fs_cluster import Container
from tests.integration.sessions import Parent, asked_in_parallel

container = Container()


def child(tell: Any) -> None:
    """Run in a child of multiprocessing; where it was spawned, this module and its container are made anew."""
    tell.send(asked_in_parallel(container))


def with_multiprocessing(how: str) -> list[list[int]]:
    context = multiprocessing.get_context(how)
    children = []
    for _ in range(2):
        hear, tell = context.Pipe(duplex=False)
        process = context.Process(target=child, args=(tell,))
        process.start()
        tell.close()
        children.append((process, hear))
    answers = [hear.recv() for _, hear in children]
    for process, _ in children:
        process.join()
        assert process.exitcode == 0
    return answers


def with_os_fork() -> list[list[int]]:
    """The children leave by SystemExit through their parent's blocks, and their interpreters end as any other does."""
    with container.storage() as connection:
        connection.cursor().execute("INSERT INTO before_the_fork VALUES ('forked')")  # the parent's to commit
        pipes = [forked() for _ in range(2)]
        answers = [json.loads(os.read(hear, 65536) or b"null") for _, hear in pipes]
        for pid, _ in pipes:
            assert os.waitpid(pid, 0)[1] == 0
    return answers


def forked() -> tuple[int, int]:
    """Return the process id of a child, and where to read what it tells."""
    hear, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(tell, json.dumps(asked_in_parallel(container)).encode())
        sys.exit(0)
    os.close(tell)
    return pid, hear


def while_threads_borrow() -> list[list[int]]:
    """Fork again and again while others are within the locks of the container, the storage and the pool."""
    ended = threading.Event()

    def borrow() -> None:
        while not ended.is_set():
            with container:
                container.storage().ping()

    threads = [threading.Thread(target=borrow) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        return [session for _ in range(5) for session in with_os_fork()]
    finally:
        ended.set()
        for thread in threads:
            thread.join()


HOW = {
    "fork": lambda: with_multiprocessing("fork"),
    "spawn": lambda: with_multiprocessing("spawn"),
    "os.fork": with_os_fork,
    "busy": while_threads_borrow,
}


def main(how: str) -> None:
    with container:
        parent = Parent(container)
        told: dict[str, Any] = {"before": parent.before(), "children": HOW[how]()}
        told["after"] = parent.after()
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
