"""What every engine promises to those who borrow."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from p8fs_cluster.exceptions import PoolExhausted, StorageClosed, StorageError
from tests.conformance.cases import Case
from tests.servers.capabilities import needs


def test_what_was_written_is_read_by_the_next(case: Case) -> None:
    case.put("key", "wärde → 値")
    assert case.get("key") == "wärde → 値"
    assert case.get("other") is None
    assert case.size() == 0


def test_an_exception_passes_and_the_connection_goes_back(case: Case) -> None:
    for _ in range(10):  # more often than there are connections
        with pytest.raises(ZeroDivisionError), case.storage as connection:
            case.access.put(connection, "undone", "x")
            1 / 0  # noqa: B018
        assert case.size() == 0
        if not case.transactional:
            break
    assert (case.get("undone") is None) is case.transactional


def test_base_exceptions_roll_back_as_well(case: Case) -> None:
    for kind in (KeyboardInterrupt, GeneratorExit, asyncio.CancelledError):
        with pytest.raises(kind), case.storage:
            raise kind
        assert case.size() == 0


def test_nested_blocks_have_their_own_connections(case: Case) -> None:
    with case.storage as outer:
        with case.storage as inner:
            case.access.put(inner, "inner", "1")
            assert case.size() == 2
        assert case.size() == 1
        case.access.put(outer, "outer", "2")
        assert case.access.get(outer, "outer") == "2"
    assert (case.get("inner"), case.get("outer")) == ("1", "2")


def test_interleaved_generators_end_their_own_block(thread_case: Case) -> None:
    needs(thread_case.kind, "two writers at once")

    def writer(key: str) -> Iterator[None]:
        with thread_case.storage as connection:
            yield
            thread_case.access.put(connection, key, "x")
            yield
            if key == "bad":
                raise ValueError(key)

    good, bad = writer("good"), writer("bad")
    next(good), next(bad), next(good), next(bad)
    assert list(good) == []
    assert thread_case.get("good") == "x"
    assert thread_case.size() == 1
    with pytest.raises(ValueError, match="bad"):
        next(bad)
    assert (thread_case.get("bad") is None) is thread_case.transactional
    assert thread_case.size() == 0


def test_a_generator_that_goes_on_in_another_thread(thread_case: Case) -> None:
    """As FastAPI runs synchronous dependencies with `yield`: each half in a thread and a context of its own."""

    def dependency() -> Iterator[Any]:
        with thread_case.storage as connection:
            thread_case.access.put(connection, "threads", "x")
            yield connection

    async def request() -> None:
        running = dependency()
        with thread_case.storage:  # something else is open in this context
            await asyncio.to_thread(next, running)
            assert thread_case.size() == 2
            await asyncio.to_thread(list, running)
            assert thread_case.size() == 1

    asyncio.run(request())
    assert thread_case.size() == 0
    assert thread_case.get("threads") == "x"


def test_an_abandoned_generator_gives_its_connection_back(thread_case: Case) -> None:
    def abandoned() -> Iterator[None]:
        with thread_case.storage:
            yield

    running = abandoned()
    next(running)
    assert thread_case.size() == 1
    del running
    assert thread_case.size() == 0


def test_tasks_and_exit_stacks(thread_case: Case) -> None:
    needs(thread_case.kind, "two writers at once")

    async def task(key: str, ready: asyncio.Barrier) -> None:
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(thread_case.storage)
            await ready.wait()
            thread_case.access.put(connection, key, key)
            await ready.wait()
            if key == "b":
                raise ValueError(key)

    async def both() -> list[Any]:
        ready = asyncio.Barrier(2)
        return await asyncio.gather(task("a", ready), task("b", ready), return_exceptions=True)

    assert [type(result) for result in asyncio.run(both())] == [type(None), ValueError]
    assert thread_case.size() == 0
    assert thread_case.get("a") == "a"
    assert (thread_case.get("b") is None) is thread_case.transactional


def test_an_explicit_connection(case: Case) -> None:
    borrowed = case.storage.connection()
    assert case.size() == 0
    with borrowed as connection:
        case.access.put(connection, "explicit", "x")
        assert case.size() == 1
    assert (case.size(), case.get("explicit")) == (0, "x")


def test_a_stack_keeps_what_was_entered_by_a_function_that_has_returned(thread_case: Case) -> None:
    """Also when others have waited in vain, and the pool has looked for blocks that were interrupted."""
    storage = thread_case.storage

    def entered() -> tuple[contextlib.ExitStack, Any]:
        stack = contextlib.ExitStack()
        return stack, stack.enter_context(storage)

    stack, connection = entered()
    assert thread_case.size() == 1
    if thread_case.sql:
        with storage, storage, pytest.raises(PoolExhausted), storage.connection(timeout=0.5):
            pass
    thread_case.access.put(connection, "key", "value")
    assert [lease.connection for lease in storage.holders()] == [connection]
    stack.close()
    assert thread_case.size() == 0
    assert thread_case.get("key") == "value"


def test_a_block_ends_once(thread_case: Case) -> None:
    block = thread_case.storage.connection()
    block.__enter__()
    block.__exit__(None, None, None)
    with pytest.raises(StorageError, match="ended already"):
        block.__exit__(None, None, None)
    with thread_case.storage as first, thread_case.storage as second:
        assert first is not second or not thread_case.sql
    with block:
        thread_case.put("key", "value")
    assert thread_case.size() == 0


def test_leaving_what_was_not_entered_is_a_clear_error(thread_case: Case) -> None:
    with pytest.raises(StorageError, match=r"storage\.connection\(\)"):
        thread_case.storage.__exit__(None, None, None)


def test_32_threads_at_first_use_open_one_engine(case: Case) -> None:
    together, results = threading.Barrier(32), []

    def use(number: int) -> None:
        together.wait()
        case.put(f"thread{number}", str(number))
        results.append(case.get(f"thread{number}"))

    with case.container.config.override(case.elsewhere):
        threads = [threading.Thread(target=use, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(int, results)) == list(range(32))
        assert case.storage.stats()["engines"] <= 2
    assert case.size() == 0


def test_ping_and_stats(case: Case) -> None:
    assert case.storage.ping() > 0
    stats = case.storage.stats()
    assert stats["provider"] == case.storage.provider
    assert (stats["borrowed"], stats["engines"]) == (0, 1)
    assert stats["size"] >= stats["idle"] >= 1
    with case.storage:
        assert case.storage.stats()["borrowed"] == 1


def lent_by(case: Case) -> Any:
    """Return the engine in force."""
    with case.storage:
        return case.storage.holders()[-1].lifecycle


def test_an_override_is_followed_and_the_former_engine_comes_back(case: Case) -> None:
    case.put("here", "x")
    before = lent_by(case)
    with case.container.config.override(case.elsewhere):
        assert case.storage.ping() > 0
        assert lent_by(case) is not before
        assert case.storage.stats()["engines"] == 2
    assert case.get("here") == "x"
    assert case.storage.stats()["engines"] == 1
    assert lent_by(case) is before, "the very same engine is back"


def test_settings_that_do_not_concern_the_engine_keep_it(case: Case) -> None:
    case.storage.open()
    with case.container.config.override({"log_level": "DEBUG", "api_port": 9}):
        case.storage.open()
        assert case.storage.stats()["engines"] == 1


def test_a_borrowed_connection_stays_good_while_its_engine_drains(case: Case) -> None:
    context = case.container.config.override(case.elsewhere)
    with case.storage as connection:
        case.access.put(connection, "draining", "x")
        context.__exit__(None, None, None)
        assert case.storage.ping() > 0
        assert case.access.get(connection, "draining") == "x"
        assert case.storage.stats()["engines"] == 2, "the draining one and the one in force"
    assert case.storage.stats()["engines"] == 1
    assert case.storage.ping() > 0


def test_a_draining_engine_serves_again_when_its_settings_come_back(case: Case) -> None:
    with case.container.config.override(case.elsewhere):
        borrowed = case.storage.connection()
        connection = borrowed.__enter__()
    assert case.storage.ping() > 0
    with case.container.config.override(case.elsewhere):
        assert case.storage.ping() > 0
        case.access.put(connection, "revived", "x")
        borrowed.__exit__(None, None, None)
        assert case.get("revived") == "x"
        assert case.storage.stats()["engines"] == 2
    assert case.storage.stats()["engines"] == 1


def test_closed_and_entered_again(case: Case) -> None:
    case.put("kept", "x")
    storage = case.storage
    storage.shut()
    for use in (storage.ping, storage.open, storage.connection().__enter__, storage.__enter__):
        with pytest.raises(StorageClosed):
            use()
    storage.reopen()
    assert case.get("kept") == "x"


def test_many_threads_with_swaps_lose_nothing(case: Case) -> None:
    stop, faults, done = threading.Event(), [], []

    def use() -> None:
        while not stop.is_set():
            try:
                case.get("nothing") if not case.sql else case.storage.execute("SELECT 1")
                done.append(1)
            except Exception as exc:
                faults.append(exc)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        with case.container.config.override(case.elsewhere):
            case.storage.ping()
        case.storage.ping()
    stop.set()
    for thread in threads:
        thread.join()
    assert faults == []
    assert done
    assert case.storage.stats()["borrowed"] == 0
