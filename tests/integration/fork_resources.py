"""A process with resources of its own that forks: python -m tests.integration.fork_resources HOW"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from typing import Any

from dependency_injector import providers

from p8fs_cluster import Provide, inject
from tests.integration.recorded import Recorded, note


class User:
    """Built from a resource, and kept."""

    def __init__(self, line: str) -> None:
        self.line = line


class Application(Recorded):
    user = providers.Singleton(User, Recorded.line)
    indirect = providers.ThreadSafeSingleton(User, user.provided.line)


container = Application()


@inject
def injected(user: User = Provide[Application.user]) -> str:
    return user.line


def lines() -> list[str]:
    """Return what each way to the resource gives: all the same, in one process."""
    return [container.line(), container.user().line, container.indirect().line, injected()]


def kept() -> list[int]:
    """Return which objects these are."""
    return [id(container.line()), id(container.user()), id(container.indirect())]


def in_child(action: Any, leave: Any) -> Any:
    """Fork, and return what `action` returns in the child, which then ends as `leave` says."""
    hear, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(tell, json.dumps(action()).encode())
        leave()
    os.close(tell)
    answer = json.loads(os.read(hear, 65536) or b"null")
    assert os.waitpid(pid, 0)[1] == 0
    return answer


def close_and_exit() -> None:
    container.close()
    os._exit(0)


def grandchild() -> list[Any]:
    return [lines(), in_child(lines, sys.exit)]


def with_multiprocessing() -> list[str]:
    """Its children end by `os._exit`: what they opened they close themselves."""
    context = multiprocessing.get_context("fork")
    hear, tell = context.Pipe(duplex=False)
    process = context.Process(target=_tell_and_close, args=(tell,))
    process.start()
    answer: list[str] = hear.recv()
    process.join()
    assert process.exitcode == 0
    return answer


def _tell_and_close(tell: Any) -> None:
    with container:
        tell.send(lines())
    container.close()


HOW = {
    "used": lambda: in_child(lines, sys.exit),
    "used, closed": lambda: in_child(lines, close_and_exit),
    "unused": lambda: in_child(lambda: None, sys.exit),
    "unused, closed": lambda: in_child(lambda: None, close_and_exit),
    "grandchild": lambda: in_child(grandchild, sys.exit),
    "multiprocessing": with_multiprocessing,
}


def main(how: str) -> None:
    parent = os.getpid()
    with container:
        before = lines(), kept()
        answer = HOW[how]()  # the child leaves through this block as well
        note("back")
        same = (lines(), kept()) == before
    print(json.dumps({"parent": parent, "lines": before[0], "answer": answer, "same": same}))


if __name__ == "__main__":
    main(sys.argv[1])
