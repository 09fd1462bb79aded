"""Threads that share a scope, overrides that come and go, and scopes that end meanwhile: each value is closed once."""

from __future__ import annotations

import contextvars
import random
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from dependency_injector import providers

from p8fs_cluster import Container, InjectionError, Scoped
from p8fs_cluster.di.scope_values import Values

ROUNDS = 300
THREADS = 6


class Value:
    """Something that notes that it was made, and closed."""

    made: Counter[int] = Counter()
    closed: Counter[int] = Counter()

    def __init__(self, made_of: object) -> None:
        self.made_of = made_of
        self.made[id(self)] += 1
        kept.append(self)

    def close(self) -> None:
        self.closed[id(self)] += 1


kept: list[Value] = []
"""All of them, so that no two have the same identity."""


class Managed:
    def __init__(self, made_of: object) -> None:
        self._value = Value(made_of)

    def __enter__(self) -> Value:
        return self._value

    def __exit__(self, *exc_info: object) -> None:
        self._value.close()


def generated(made_of: object) -> Iterator[Value]:
    value = Value(made_of)
    yield value
    value.close()


class Application(Container):
    base = providers.Object("base")
    first = Scoped(generated, base)
    second = Scoped(Managed, first)
    third = Scoped(generated, second)
    alone = Scoped(generated, "alone")


@pytest.fixture(autouse=True)
def _counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)
    for each in (kept, Value.made, Value.closed):
        each.clear()


@pytest.mark.parametrize("ends_early", [False, True])
@pytest.mark.parametrize("is_overridden", [False, True])
def test_each_value_is_closed_once(is_overridden: bool, ends_early: bool) -> None:
    application = Application()
    scoped = [application.first, application.second, application.third, application.alone]
    over = threading.Event()

    def override() -> None:
        while not over.is_set():
            with application.base.override("other"):
                pass

    def ask() -> list[tuple[Any, Value]]:
        found = []
        for provider in random.choices(scoped, k=3):
            try:
                found.append((provider, provider()))
            except InjectionError as error:
                assert ends_early
                assert "ended" in str(error) or "none is open" in str(error)
        return found

    def go() -> list[tuple[Any, Value]]:
        with application.scope("request") as scope:
            asked = [pool.submit(contextvars.copy_context().run, ask) for _ in range(THREADS)]
            if ends_early:
                scope.end()
            return [each for one in asked for each in one.result()]

    overriding = threading.Thread(target=override)
    with ThreadPoolExecutor(THREADS) as pool:
        go()
        if is_overridden:
            overriding.start()
        for _ in range(ROUNDS):
            found = go()
            assert is_overridden or len({provider for provider, _ in found}) == len({id(value) for _, value in found})
        over.set()
        if is_overridden:
            overriding.join()
    assert Value.made.total() == len(kept)
    assert Value.closed == Value.made


def test_what_one_thread_gives_up_is_not_what_another_one_has_built_since(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that an override has made useless is discarded, when another thread has built anew in its place."""
    application = Application()
    done, overriding, others = Values.done, list[Any](), list[Value]()

    def generated_once(made_of: object) -> Iterator[Value]:
        if not overriding:
            overriding.append(application.base.override("other"))
            overriding[0].end()
        yield from generated(made_of)

    def let_another_one_build(self: Values) -> None:
        done(self)
        if not others:
            with ThreadPoolExecutor(1) as pool:
                others.append(pool.submit(contextvars.copy_context().run, application.first).result())

    with application.scope("request"):
        application.first()  # from now on its calls are compiled
    application.first.set_provides(generated_once)
    monkeypatch.setattr(Values, "done", let_another_one_build)
    with application.scope("request"):
        assert application.first() is others[0]
        assert Value.closed[id(others[0])] == 0
    assert len(kept) == 3
    assert Value.closed == Value.made


def test_values_that_are_forgotten_while_somebody_looks_at_them() -> None:
    class Forgotten(Values):
        """Its scope ends between any two looks at it."""

        looks = 0

        @property
        def _cells(self) -> Any:
            self.looks += 1
            return {(): self} if self.looks == 1 else None

    application = Application()
    with application.scope("request") as scope:
        values = Forgotten(scope, application.first)
        assert values.cells == {(): values}
