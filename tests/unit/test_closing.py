"""`Closing` and `Joining`: opened for the call, closed after it with the call's own exception, shared where asked."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import types
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest
from dependency_injector import providers

from p8fs_cluster import Closing, Container, InjectionError, Joining, Provide, inject
from p8fs_cluster.di import call_scope

log: list[str] = []


class Tx:
    pass


def transaction(name: str = "tx") -> Iterator[Tx]:
    log.append(f"begin {name}")
    try:
        yield Tx()
    except BaseException as exc:
        log.append(f"rollback {name} {type(exc).__name__}")
        raise
    else:
        log.append(f"commit {name}")


async def async_transaction() -> AsyncIterator[Tx]:
    log.append("begin async")
    try:
        yield Tx()
    except BaseException as exc:
        log.append(f"rollback async {type(exc).__name__}")
        raise
    else:
        log.append("commit async")


def never() -> Iterator[Tx]:
    raise OSError("can't open")
    yield


class App(Container):
    tx = providers.Resource(transaction)
    other = providers.Resource(transaction, "other")
    async_tx = providers.Resource(async_transaction)
    broken = providers.Resource(never)
    plain = providers.Object("given")
    factory = providers.Factory(object)
    repository = providers.Factory(dict, tx=tx)
    deep = providers.Factory(list, providers.List(repository, other))
    async_repository = providers.Factory(dict, tx=async_tx, other=other)


@pytest.fixture(autouse=True)
def app() -> Iterator[Any]:
    log.clear()
    with App() as app:
        yield app


@inject
def save(fail: bool = False, tx: Any = Closing[Provide[App.tx]], other: Any = Closing[Provide[App.other]]) -> Any:
    log.append("body")
    if fail:
        raise KeyError("body")
    return tx, other


def test_commit_in_reverse_order_and_another_one_at_each_call() -> None:
    assert save()[0] is not save()[0]
    assert log == ["begin tx", "begin other", "body", "commit other", "commit tx"] * 2


def test_the_bodys_own_exception_is_seen() -> None:
    with pytest.raises(KeyError):
        save(True)
    assert log[-2:] == ["rollback other KeyError", "rollback tx KeyError"]


def test_what_the_caller_gives_is_neither_opened_nor_closed() -> None:
    assert save(tx="mine")[0] == "mine"
    assert save(False, "mine", "yours") == ("mine", "yours")
    assert "begin tx" not in log


def test_if_the_second_fails_to_open_the_first_is_closed() -> None:
    @inject
    def use(tx: Any = Closing[Provide[App.tx]], broken: Any = Closing[Provide[App.broken]]) -> None: ...

    with pytest.raises(OSError, match="can't open"):
        use()
    assert log == ["begin tx", "rollback tx OSError"]


def test_an_exception_is_never_swallowed_and_a_fault_in_closing_is_told(app: Any) -> None:
    def swallows() -> Iterator[int]:
        with contextlib.suppress(KeyError):
            yield 1

    def fails() -> Iterator[int]:
        yield 1
        raise OSError("commit failed")

    with app.tx.override(providers.Resource(swallows)), pytest.raises(KeyError):
        save(True)
    with app.other.override(providers.Resource(fails)), pytest.raises(OSError, match="commit failed"):
        save()
    assert log[-1] == "rollback tx OSError"


def test_a_plain_provide_of_a_resource_stays_open_until_the_container_closes(app: Any) -> None:
    @inject
    def use(tx: Any = Provide[App.tx]) -> Any:
        return tx

    assert use() is use() is app.tx()
    assert save()[0] is not use()
    assert log.count("begin tx") == 2


def test_concurrent_calls_never_share_one() -> None:
    together = threading.Barrier(8)
    seen: list[Any] = []

    @inject
    def use(tx: Any = Closing[Provide[App.tx]]) -> None:
        together.wait()
        seen.append(tx)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, seen))) == 8
    assert log.count("commit tx") == 8


@inject
def joins(tx: Any = Joining[Provide[App.tx]]) -> Any:
    return tx


def test_nested_calls_share_only_where_asked() -> None:
    @inject
    def outer(tx: Any = Closing[Provide[App.tx]]) -> None:
        assert joins() is tx
        assert save()[0] is not tx
        assert log.count("commit tx") == 1, "the nested one has ended, ours has not"
        assert joins() is tx

    outer()
    assert log.count("commit tx") == 2
    assert joins() is not joins()
    assert log.count("commit tx") == 4


@pytest.mark.parametrize("first", [0, 1, 2])
def test_calls_that_take_turns_end_in_any_order(first: int) -> None:
    @types.coroutine
    def turn(value: Any) -> Generator[Any, None, None]:
        yield value

    @inject
    async def call(tx: Any = Closing[Provide[App.tx]]) -> None:
        await turn(tx)

    calls = [call() for _ in range(3)]
    values = [each.send(None) for each in calls]
    assert joins() is values[2]
    calls[first].close()
    open_still = [value for value in values if value is not values[first]]
    assert joins() is open_still[-1]
    calls[2 if first < 2 else 1].close()
    assert joins() is open_still[0]
    calls[0 if first else 1].close()
    assert joins() not in values
    assert not call_scope._calls


def test_another_task_does_not_join() -> None:
    @inject
    async def outer(tx: Any = Closing[Provide[App.tx]]) -> None:
        assert joins() is tx
        assert await asyncio.to_thread(joins) is not tx

        async def task() -> Any:
            return joins()

        assert await asyncio.create_task(task()) is not tx

    asyncio.run(outer())


def test_coroutines() -> None:
    @inject
    async def use(fail: bool = False, tx: Any = Closing[Provide[App.async_tx]], other: Any = Closing["tx"]) -> Any:
        await asyncio.sleep(0)
        if fail:
            raise KeyError
        return tx

    async def both() -> list[Any]:
        return await asyncio.gather(use(), use())

    first, second = asyncio.run(both())
    assert first is not second
    assert (log.count("commit async"), log.count("commit tx")) == (2, 2)
    with pytest.raises(KeyError):
        asyncio.run(use(True))
    assert log[-2:] == ["rollback tx KeyError", "rollback async KeyError"]


def test_a_cancelled_task_rolls_back() -> None:
    @inject
    async def use(tx: Any = Closing[Provide[App.async_tx]]) -> None:
        await asyncio.Event().wait()

    async def run() -> None:
        task = asyncio.create_task(use())
        while "begin async" not in log:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert log == ["begin async", "rollback async CancelledError"]


def test_generators() -> None:
    @inject
    def use(tx: Any = Closing[Provide[App.tx]]) -> Iterator[int]:
        yield 1
        yield 2

    assert list(use()) == [1, 2]
    running = use()
    next(running)
    running.close()  # type: ignore[attr-defined]
    assert log == ["begin tx", "commit tx", "begin tx", "rollback tx GeneratorExit"]


def test_asynchronous_generators() -> None:
    @inject
    async def use(tx: Any = Closing[Provide[App.async_tx]]) -> AsyncIterator[int]:
        yield 1
        yield 2

    async def run() -> list[int]:
        return [number async for number in use()]

    assert asyncio.run(run()) == [1, 2]
    assert log == ["begin async", "commit async"]


def test_an_override_is_opened_in_its_place_and_a_given_object_is_left_alone(app: Any) -> None:
    fake = Tx()
    with app.tx.override(fake):
        assert save()[0] is fake
    assert "begin tx" not in log


def test_clear_errors() -> None:
    @inject
    def needs_async(tx: Any = Closing[Provide[App.async_tx]]) -> None: ...

    @inject
    def nothing_to_close(made: Any = Closing[Provide[App.factory]]) -> None: ...

    with pytest.raises(InjectionError, match="async def"):
        needs_async()
    with pytest.raises(InjectionError, match="nothing that could be closed"):
        nothing_to_close()
    assert log == []


class TestBehindAFactory:
    """The resources that a factory needs are opened for the call, as if they were given themselves."""

    def test_opened_and_closed_for_each_call(self) -> None:
        @inject
        def work(repository: Any = Closing[Provide[App.repository]]) -> Any:
            return repository["tx"]

        assert work() is not work()
        assert log == ["begin tx", "commit tx"] * 2

    def test_however_deep_and_with_the_exception(self) -> None:
        @inject
        def work(deep: Any = Closing[Provide[App.deep]]) -> None:
            [repository, other] = deep
            assert isinstance(repository["tx"], Tx)
            assert isinstance(other, Tx)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            work()
        assert sorted(log) == sorted(
            [
                f"{what}{name}{why}"
                for name in ("tx", "other")
                for what, why in (("begin ", ""), ("rollback ", " ZeroDivisionError"))
            ]
        )
        assert log[0].split()[1] == log[-1].split()[1], "in the reverse order"

    def test_asynchronous(self) -> None:
        @inject
        async def work(repository: Any = Closing[Provide[App.async_repository]]) -> Any:
            return repository["tx"]

        async def twice() -> bool:
            return await work() is await work()

        assert not asyncio.run(twice())
        assert log == ["begin async", "begin other", "commit other", "commit async"] * 2

    def test_a_fake_has_nothing_to_close(self, app: Any) -> None:
        @inject
        def work(repository: Any = Closing[Provide[App.repository]]) -> Any:
            return repository["tx"]

        with app.tx.override("fake"):
            assert work() == "fake"
        with app.repository.override(providers.Factory(lambda tx: {"tx": tx}, App.other)):
            assert isinstance(work(), Tx)
        assert log == ["begin other", "commit other"]
