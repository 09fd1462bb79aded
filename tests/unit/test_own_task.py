"""Values that are opened asynchronously: one task opens and closes each, and the event loop turns only to wait."""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import nullcontext
from contextvars import Context, ContextVar
from typing import Any

import pytest

from p8fs_cluster import Container, Provide, Scoped, inject
from p8fs_cluster.exceptions import InjectionError

NAME: ContextVar[str] = ContextVar("name", default="nobody's")


def application(provides: Callable[[], AsyncIterator[Any]]) -> Any:
    class Application(Container):
        value = Scoped(provides)

    return Application()


async def turned() -> None:
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def waited(waits: bool) -> None:
    if waits:
        await asyncio.sleep(0)


@pytest.mark.parametrize("opening_waits", [False, True])
@pytest.mark.parametrize("closing_waits", [False, True])
def test_one_task_opens_and_closes(opening_waits: bool, closing_waits: bool) -> None:
    tasks: list[Any] = []

    async def opened() -> AsyncIterator[str]:
        async with asyncio.timeout(60), asyncio.TaskGroup():
            tasks.append(asyncio.current_task())
            await waited(opening_waits)
            tasks.append(asyncio.current_task())
            yield "value"
            tasks.append(asyncio.current_task())
            await waited(closing_waits)
            tasks.append(asyncio.current_task())

    async def main() -> None:
        here = asyncio.current_task()
        for _ in range(3):  # compiled from the second one on
            async with container.scope("request"):
                assert await container.value() == "value"
                assert asyncio.current_task() is here
            assert asyncio.current_task() is here
            assert len(tasks) == 4
            assert len(set(tasks)) == 1
            assert here not in tasks
            tasks.clear()
        await turned()
        assert asyncio.all_tasks() == {here}

    container = application(opened)
    asyncio.run(main())


@pytest.mark.parametrize("waits", [False, True])
def test_the_event_loop_turns_only_to_wait(waits: bool) -> None:
    async def opened() -> AsyncIterator[str]:
        await waited(waits)
        yield "value"
        await waited(waits)

    @inject
    async def use(value: str = Provide["value"]) -> str:
        return value

    async def main() -> None:
        for _ in range(3):
            others: list[str] = []
            asyncio.get_running_loop().call_soon(others.append, "ran")
            async with container.scope("request"):
                assert await use() == "value"
            assert others == (["ran"] if waits else [])
            await turned()

    container = application(opened)
    asyncio.run(main())


def test_its_context_is_its_own() -> None:
    found: list[str] = []

    async def opened() -> AsyncIterator[str]:
        NAME.set("the value's")
        yield "value"
        found.append(NAME.get())

    async def main() -> None:
        NAME.set("the request's")
        async with container.scope("request"):
            await container.value()
            assert NAME.get() == "the request's"
            NAME.set("the request's later on")

    container = application(opened)
    asyncio.run(main())
    assert found == ["the value's"]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("fault", [LookupError, asyncio.CancelledError])
def test_what_could_not_be_opened_is_tried_again(waits: bool, fault: type[BaseException]) -> None:
    calls: list[int] = []

    async def opened() -> AsyncIterator[int]:
        calls.append(len(calls))
        await waited(waits)
        if len(calls) == 1:
            raise fault
        yield len(calls)

    async def main() -> None:
        async with container.scope("request"):
            with pytest.raises(fault):
                await container.value()
            await turned()
            assert await container.value() == 2
        await turned()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    container = application(opened)
    asyncio.run(main())


@pytest.mark.parametrize("waits", [False, True])
def test_what_its_end_raises_reaches_the_scope(waits: bool) -> None:
    async def opened() -> AsyncIterator[str]:
        yield "value"
        await waited(waits)
        raise LookupError

    async def main() -> None:
        with pytest.raises(LookupError):
            async with container.scope("request"):
                await container.value()

    container = application(opened)
    asyncio.run(main())


@pytest.mark.parametrize("waits", [False, True])
def test_a_generator_that_goes_on(waits: bool) -> None:
    closed: list[str] = []

    async def opened() -> AsyncIterator[str]:
        try:
            yield "value"
            await waited(waits)
            yield "another one"
        finally:
            closed.append("closed")

    async def main() -> None:
        with pytest.raises(RuntimeError, match="more than once"):
            async with container.scope("request"):
                await container.value()
        assert closed == ["closed"]

    container = application(opened)
    asyncio.run(main())


def test_one_that_yields_nothing() -> None:
    async def opened() -> AsyncIterator[str]:
        if False:
            yield "value"

    async def main() -> None:
        async with container.scope("request"):
            with pytest.raises(RuntimeError, match="did not yield"):
                await container.value()

    container = application(opened)
    asyncio.run(main())


@pytest.mark.parametrize("waits", [False, True])
def test_a_task_within_that_fails_is_told_at_the_end(waits: bool) -> None:
    async def failing() -> None:
        raise LookupError

    async def opened() -> AsyncIterator[str]:
        async with asyncio.TaskGroup() as group:
            await waited(waits)
            group.create_task(failing())
            yield "value"

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with container.scope("request"):
                assert await container.value() == "value"
                await turned()  # the asker is not cancelled
        assert isinstance(caught.value.exceptions[0], LookupError)

    container = application(opened)
    asyncio.run(main())


def test_a_time_limit_within_ends_the_value_and_not_the_asker() -> None:
    async def opened() -> AsyncIterator[asyncio.Timeout]:
        async with asyncio.timeout(None) as limit:
            yield limit

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with container.scope("request"):
                limit = await container.value()
                limit.reschedule(0)
                await turned()

    container = application(opened)
    asyncio.run(main())


@pytest.mark.parametrize("handles", [False, True])
@pytest.mark.parametrize("has_begun", [False, True])
def test_one_that_is_cancelled_between_its_opening_and_its_end(handles: bool, has_begun: bool) -> None:
    """What was rolled back is no success, unless the value itself says so."""
    ends: list[str] = []
    tasks: list[Any] = []

    async def opened() -> AsyncIterator[str]:
        tasks.append(asyncio.current_task())
        try:
            yield "value"
            ends.append("committed")
        except asyncio.CancelledError:
            ends.append("rolled back")
            if not handles:
                raise

    async def main() -> None:
        async with container.scope("request"):
            await container.value()
            if has_begun:
                await turned()
            tasks[0].cancel()
            await turned()

    container = application(opened)
    with nullcontext() if handles else pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert ends == ["rolled back"]


@pytest.mark.parametrize("has_begun", [False, True])
def test_one_that_cancels_itself_while_it_is_closed(has_begun: bool) -> None:
    found: list[str] = []

    async def opened() -> AsyncIterator[str]:
        yield "value"
        task: Any = asyncio.current_task()
        task.cancel()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            found.append("cancelled")

    async def main() -> None:
        async with container.scope("request"):
            await container.value()
            if has_begun:
                await turned()

    container = application(opened)
    asyncio.run(main())
    assert found == ["cancelled"]


def test_a_synchronous_end_is_refused() -> None:
    async def opened() -> AsyncIterator[str]:
        yield "value"

    async def main() -> None:
        scope = container.scope("request")
        scope.begin(asynchronous=True)
        await container.value()
        with pytest.raises(InjectionError, match="use `async with`"):
            scope.end()

    container = application(opened)
    asyncio.run(main())


def test_tasks_that_begin_at_once() -> None:
    """As asyncio's own eager tasks do, which there are from Python 3.12 on."""
    make: Any = getattr(asyncio, "eager_task_factory", None)

    def begun(
        loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], context: Context
    ) -> asyncio.Task[Any]:
        if make is not None:
            tasks.append(make(loop, coroutine, context=context))
            return tasks[-1]

        @types.coroutine
        def rest() -> Generator[Any, Any, Any]:
            waits_for = first
            while True:
                sent = yield waits_for
                try:
                    waits_for = coroutine.send(sent)
                except StopIteration as done:
                    return done.value

        async def go_on() -> None:
            await rest()

        first = context.run(coroutine.send, None)
        tasks.append(asyncio.Task(go_on(), loop=loop, context=context))
        return tasks[-1]

    async def opened() -> AsyncIterator[str]:
        yield "value"
        closed.append("closed")

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(begun)  # type: ignore[arg-type]
        async with container.scope("request"):
            assert await container.value() == "value"
        assert closed == ["closed"]
        await turned()
        asyncio.get_running_loop().set_task_factory(None)
        assert [task.exception() for task in tasks] == [None]

    closed: list[str] = []
    tasks: list[asyncio.Task[Any]] = []
    container = application(opened)
    asyncio.run(main())
