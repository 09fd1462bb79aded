"""How the features are tried, in the same way for every contender. Each judge raises `Seen` with what it saw."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

from benchmarks.features.parts import Counted, FakeRepo, Notes, Seen, Slow, Transaction, ends, tasks

THREADS = 16


def expect(works: bool, seen: str) -> None:
    """Raise `Seen` with what was seen where something does not work."""
    if not works:
        raise Seen(seen)


def assume(right: bool, told: str) -> None:
    """Raise RuntimeError where a program itself did not do what shows its feature."""
    if not right:
        raise RuntimeError(told)


def refused(make: Callable[[], object], error: type[Exception], seen: str) -> None:
    """Expect that something raises the error that its library has for it."""
    try:
        make()
    except error:
        return
    raise Seen(seen)


def missing(make: Callable[[], object], error: type[Exception]) -> None:
    """Expect that a container is refused in which a dependency is missing."""
    refused(make, error, "It was not found.")


def cycle(make: Callable[[], object], error: type[Exception]) -> None:
    """Expect that a container is refused in which a cycle is."""
    refused(make, error, "The check passed.")


def wrong_type(make: Callable[[], object], error: type[Exception]) -> None:
    """Expect that a container is refused that would give something of another class."""
    refused(make, error, "An object of another class was accepted.")


def built_once(get: Callable[[], object]) -> None:
    """Expect that 16 threads that come at once get the same thing, built once."""
    Counted.made.clear()
    Counted.again.clear()
    barrier = threading.Barrier(THREADS)
    found: list[object] = []

    def come() -> None:
        barrier.wait(30)
        found.append(get())

    join([start(come) for _ in range(THREADS)])
    expect(len(Counted.made) == 1, "It was built several times.")
    assume(
        len(found) == THREADS and len(set(map(id, found))) == 1, "the threads did not all get the one that was built"
    )


def independent(get_slow: Callable[[], object], get_other: Callable[[], object]) -> None:
    """Expect that a first access does not wait for the building of something else."""
    Slow.begun.clear()
    Slow.go_on.clear()
    building = start(get_slow)
    assume(Slow.begun.wait(30), "nothing was built")
    other = start(get_other)
    other.join(3)
    waits = other.is_alive()
    Slow.go_on.set()
    join([building, other])
    expect(not waits, "The first access to another singleton waited for the slow one.")


def called_once(get: Callable[[], object]) -> None:
    """Expect that `nothing` is called once for two uses."""
    ends.clear()
    assume(get() is None and get() is None, "something was given")
    expect(ends == ["called"], "It was called for each use.")


def told_of_failure(scope: Callable[[], AbstractContextManager[Any]], get: Callable[[Any], object]) -> None:
    """Expect that a transaction learns that the block around it has failed."""
    ends.clear()
    with contextlib.suppress(ValueError), scope() as opened:
        assume(isinstance(get(opened), Transaction), "no transaction was given")
        raise ValueError
    expect(ends == ["failed"], "It ended as if nothing had happened.")


def reverse(scope: Callable[[], AbstractContextManager[Any]], get_second: Callable[[Any], object]) -> None:
    """Expect that what was opened second is closed first."""
    ends.clear()
    with scope() as opened:
        get_second(opened)
        assume(not ends, "something was closed within the scope")
    expect(ends == ["second", "done"], f"The order was: {', '.join(ends)}.")


def same_task(scope: Callable[[], AbstractAsyncContextManager[Any]], get: Callable[[Any], Awaitable[object]]) -> None:
    """Expect that what a child task has opened is closed in the task that opened it."""

    async def main() -> None:
        async def ask(opened: Any) -> object:
            return await get(opened)

        async with scope() as opened:
            assume(isinstance(await asyncio.create_task(ask(opened)), Transaction), "no transaction was given")

    tasks.clear()
    asyncio.run(main())
    expect(len(tasks) == 2 and tasks[0] is tasks[1], "One task opened it, and another one closed it.")


def per_call(call: Callable[[Callable[[Transaction], None]], object]) -> None:
    """Expect that what a call has open stays open when another call ends; `call` gives its argument a transaction."""
    inside, go_on = threading.Event(), threading.Event()
    was_open: list[bool] = []

    def stay(transaction: Transaction) -> None:
        inside.set()
        go_on.wait(30)
        was_open.append(transaction.is_open)

    staying = start(lambda: call(stay))
    assume(inside.wait(30), "nothing was called")
    join([start(lambda: call(lambda transaction: None))])
    go_on.set()
    join([staying])
    expect(was_open == [True], "The call that ended closed it.")


def replaced(get: Callable[[], Any], override: Callable[[], AbstractContextManager[object]]) -> None:
    """Expect that a fake is given within the block of an override, and not after it."""
    with override():
        inside = get()
    assume(isinstance(inside, FakeRepo), "the fake was not given")
    expect(not isinstance(get(), FakeRepo), "The fake stayed.")


def follows(get: Callable[[], Notes], override: Callable[[], AbstractContextManager[object]]) -> None:
    """Expect that notes built before follow an override of their repo, and the same ones are back after it."""
    before = get()
    with override():
        expect(isinstance(get().repo, FakeRepo), "What was built before kept what it had.")
    expect(get() is before, "Another one is there after the override.")


def is_alone(get: Callable[[], object], override: Callable[[], AbstractContextManager[object]]) -> None:
    """Expect that another thread does not see an override."""
    found: list[object] = []
    with override():
        thread = threading.Thread(target=lambda: found.append(get()))  # it has no context of ours
        thread.start()
        join([thread])
        assume(isinstance(get(), FakeRepo), "the fake was not given")
    expect(not isinstance(found[0], FakeRepo), "Another thread saw it.")


def own_after_fork(get: Callable[[], Any]) -> None:
    """Expect that a forked child is given a connection of its own."""
    get()
    if not (child := os.fork()):
        own = False
        try:
            own = get().process == os.getpid()
        finally:
            os._exit(0 if own else 1)
    expect(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "The child was given its parent's connection.")


def start(function: Callable[[], object]) -> threading.Thread:
    """Start a thread that runs a function in a copy of this context, as asyncio and frameworks do."""
    thread = threading.Thread(target=contextvars.copy_context().run, args=(function,))
    thread.start()
    return thread


def join(threads: list[threading.Thread]) -> None:
    """Wait for threads.

    Raises RuntimeError if one does not end.
    """
    for thread in threads:
        thread.join(30)
        assume(not thread.is_alive(), "a thread did not end")
