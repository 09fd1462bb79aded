"""What the contenders' containers are made of, and how they are tried."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any


class Repo:
    """What other things are made of; `made` counts."""

    made = 0

    def __init__(self) -> None:
        time.sleep(0.01)  # long enough for other threads to come
        Repo.made += 1


class FakeRepo(Repo):
    """What a test puts in its place."""


class Notes:
    """Something that is made of another thing."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo


class Transaction:
    """Something that ends."""


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


seen: list[str] = []
"""How transactions ended, and what was called."""


def transaction() -> Iterator[Transaction]:
    """Give a transaction, and note how its time ended: told by a raised exception, or by the value of the `yield`."""
    try:
        told = yield Transaction()
    except ValueError:
        seen.append("failed")
        raise
    else:
        seen.append("failed" if isinstance(told, ValueError) else "done")


def nothing() -> None:
    """Return None, and note the call."""
    seen.append("called")


def built_once(get: Callable[[], object]) -> bool:
    """Return whether 16 threads that come at once get the same repo, built once."""
    Repo.made, found = 0, []
    barrier = threading.Barrier(16)

    def come() -> None:
        barrier.wait()
        found.append(get())

    threads = [threading.Thread(target=come) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Repo.made == 1 and len(set(map(id, found))) == 1


def called_once(get: Callable[[], object]) -> bool:
    """Return whether `nothing` is called once for two uses."""
    seen.clear()
    assert get() is None
    assert get() is None
    return seen == ["called"]


def told_of_failure(scope: Callable[[], AbstractContextManager[Any]], get: Callable[[Any], object]) -> bool:
    """Return whether a transaction learns that the block around it has failed."""
    seen.clear()
    try:
        with scope() as opened:
            assert isinstance(get(opened), Transaction)
            raise ValueError
    except ValueError:
        pass
    return seen == ["failed"]


def follows(get: Callable[[], Notes], override: Callable[[], AbstractContextManager[object]]) -> bool:
    """Return whether notes built before follow an override of their repo, and the same ones are back after it."""
    before = get()
    with override():
        inside = get()
    return isinstance(inside.repo, FakeRepo) and get() is before and not isinstance(before.repo, FakeRepo)


def is_alone(get: Callable[[], object], override: Callable[[], AbstractContextManager[object]]) -> bool:
    """Return whether another thread does not see an override."""
    found: list[object] = []
    with override():
        thread = threading.Thread(target=lambda: found.append(get()))
        thread.start()
        thread.join()
        return isinstance(get(), FakeRepo) and not isinstance(found[0], FakeRepo)


def refused(make: Callable[[], object]) -> bool:
    """Return whether something raises."""
    try:
        make()
    except Exception:  # each contender has errors of its own
        return True
    return False
