"""What the contenders' containers are made of."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Seen(Exception):
    """What was seen in place of a feature."""


class Repo:
    """What other things are made of."""


class FakeRepo(Repo):
    """What a test puts in its place."""


class Notes:
    """Something that is made of another thing."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo


class Lenient:
    """Something that may be made without another thing."""

    def __init__(self, repo: Repo | None = None) -> None:
        self.repo = repo


class Box(Generic[T]):
    """Something for any type."""


class Plugin:
    """What there are several of."""


class OnePlugin(Plugin):
    """The first of them."""


class OtherPlugin(Plugin):
    """The second of them."""


class Transaction:
    """Something that ends."""

    is_open = True


class Keeper:
    """Something that stays, and would keep what ends."""

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction


class Egg:
    """One half of a cycle."""

    def __init__(self, hen: Hen) -> None:
        self.hen = hen


class Hen:
    """The other half."""

    def __init__(self, egg: Egg) -> None:
        self.egg = egg


class Counted:
    """Something whose first building gives a second one a moment to begin."""

    made: list[Counted] = []  # noqa: RUF012
    again = threading.Event()

    def __init__(self) -> None:
        self.made.append(self)
        if len(self.made) > 1:
            self.again.set()
        else:
            self.again.wait(0.3)


class Slow:
    """Something whose building lasts until it is told to go on."""

    begun, go_on = threading.Event(), threading.Event()

    def __init__(self) -> None:
        self.begun.set()
        self.go_on.wait(30)


class Connection:
    """Something that belongs to a process."""

    def __init__(self) -> None:
        self.process = os.getpid()


class Second:
    """What is opened after a transaction, with it."""


ends: list[str] = []
"""How what was opened has ended, and what was called."""

tasks: list[asyncio.Task[object] | None] = []
"""The tasks that opened and closed something."""


def transaction() -> Iterator[Transaction]:
    """Give a transaction, and note how its time ended: told by a raised exception, or by the value of the `yield`."""
    given = Transaction()
    try:
        told = yield given
    except ValueError:
        ends.append("failed")
        raise
    else:
        ends.append("failed" if isinstance(told, ValueError) else "done")
    finally:
        given.is_open = False


def second(transaction: Transaction) -> Iterator[Second]:
    """Give what is opened second, and note its end."""
    yield Second()
    ends.append("second")


async def opened() -> AsyncIterator[Transaction]:
    """Give a transaction, and note the tasks that opened and closed it."""
    tasks.append(asyncio.current_task())
    try:
        yield Transaction()
    finally:
        tasks.append(asyncio.current_task())


def connection() -> Iterator[Connection]:
    """Give a connection of this process."""
    yield Connection()


def nothing() -> None:
    """Return None, and note the call."""
    ends.append("called")
