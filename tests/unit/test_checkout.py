"""How the end of a `with storage` block finds what its beginning borrowed, in either order that Pythons ask in."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import pytest

from p8fs_cluster.exceptions import StorageError
from p8fs_cluster.providers.storage import checkout
from p8fs_cluster.testing import memory_storage


@contextlib.contextmanager
def block(storage: Any) -> Iterator[Any]:
    """Do what a `with` statement does, in the order that is under test."""
    if checkout._EXIT_IS_ASKED_FOR_FIRST:
        end = type(storage).__dict__.get("__exit__", _inherited(storage, "__exit__")).__get__(storage)
        begin = _inherited(storage, "__enter__").__get__(storage)
    else:
        begin = _inherited(storage, "__enter__").__get__(storage)
        end = _inherited(storage, "__exit__").__get__(storage)
    connection = begin()
    try:
        yield connection
    except BaseException as exc:
        end(type(exc), exc, exc.__traceback__)
        raise
    else:
        end(None, None, None)


def _inherited(storage: Any, name: str) -> Any:
    return next(vars(cls)[name] for cls in type(storage).__mro__ if name in vars(cls))


@pytest.fixture(params=[False, True], ids=["enter first", "exit first"], autouse=True)
def _order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkout, "_EXIT_IS_ASKED_FOR_FIRST", request.param)


def borrowed(storage: Any) -> int:
    number: int = storage.stats()["borrowed"]
    return number


def test_blocks_in_blocks() -> None:
    first, second = memory_storage(), memory_storage()
    with block(first), block(second), block(first) as inner:
        assert (borrowed(first), borrowed(second)) == (2, 1)
        inner[b"key"] = b"value"
    assert (borrowed(first), borrowed(second)) == (0, 0)
    with block(first) as connection:
        assert connection[b"key"] == b"value"


def test_a_block_holds_its_checkout_alone() -> None:
    """Nothing stays in the context, so what is dropped with its frame is gone."""
    storage = memory_storage()
    before = checkout._begun.get()
    with block(storage):
        assert checkout._begun.get() is before
    assert checkout._begun.get() is before


def test_a_stack_of_exits() -> None:
    storage = memory_storage()
    with contextlib.ExitStack() as stack:
        stack.enter_context(storage)
        stack.enter_context(storage)[b"key"] = b"value"
        with block(storage):
            assert borrowed(storage) == 3
        assert borrowed(storage) == 2
    assert borrowed(storage) == 0
    with block(storage) as connection:
        assert connection[b"key"] == b"value"


def test_called_by_hand() -> None:
    storage = memory_storage()
    connection = storage.__enter__()
    connection[b"key"] = b"value"
    with block(storage):
        assert borrowed(storage) == 2
    storage.__exit__(None, None, None)
    assert borrowed(storage) == 0
    with pytest.raises(StorageError, match="none had begun"):
        storage.__exit__(None, None, None)


def test_asked_for_and_not_called() -> None:
    """As `hasattr` does."""
    storage, other = memory_storage(), memory_storage()
    for name in ("__enter__", "__exit__", "__enter__", "__exit__", "__exit__"):
        assert hasattr(storage, name)
    with block(storage) as connection:
        connection[b"key"] = b"value"
        assert hasattr(storage, "__exit__")
        assert hasattr(storage, "__enter__")
        with block(other):
            assert (borrowed(storage), borrowed(other)) == (1, 1)
    assert (borrowed(storage), borrowed(other)) == (0, 0)


def test_another_handles_exit_is_not_taken() -> None:
    storage, other = memory_storage(), memory_storage()
    storage.__enter__()
    with pytest.raises(StorageError, match="none had begun"):
        other.__exit__(None, None, None)
    storage.__exit__(None, None, None)
    assert borrowed(storage) == 0


def test_a_generator_whose_halves_run_in_different_contexts() -> None:
    storage = memory_storage()

    def dependency() -> Iterator[None]:
        with block(storage):
            yield

    running = dependency()
    contextvars.copy_context().run(next, running)
    assert borrowed(storage) == 1
    assert contextvars.copy_context().run(list, running) == []
    assert borrowed(storage) == 0


def test_tasks_that_call_by_hand() -> None:
    storage = memory_storage()

    async def use(number: int) -> None:
        connection = storage.__enter__()
        await asyncio.sleep(0)
        connection[str(number).encode()] = b"x"
        storage.__exit__(None, None, None)

    async def all_of_them() -> None:
        await asyncio.gather(*map(use, range(5)))

    asyncio.run(all_of_them())
    assert borrowed(storage) == 0
    assert len(list(storage.scan())) == 5
