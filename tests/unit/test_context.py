"""Which container is in force: what `leave` takes back, and what it leaves."""

from __future__ import annotations

import contextvars
import threading
from typing import Any

from p8fs_cluster import Container
from p8fs_cluster.di import context


def seen_elsewhere() -> Any:
    """Return what another thread finds, in which nothing was entered."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(context.innermost(context.in_force.get())[0]))
    thread.start()
    thread.join()
    return found[0]


def here() -> Any:
    return context.innermost(context.in_force.get())[0]


def test_the_latest_entering_is_taken_back() -> None:
    first, second = Container(), Container()
    with first:
        with second, first:
            assert here() is first
        assert here() is first
        assert seen_elsewhere() is first
    assert (here(), seen_elsewhere()) == (None, None)


def test_entered_twice_and_left_once() -> None:
    first, second = Container(), Container()
    for container in (first, second, first):
        container.__enter__()
    first.__exit__(None, None, None)
    assert here() is second
    second.__exit__(None, None, None)
    assert here() is first
    assert seen_elsewhere() is first
    first.__exit__(None, None, None)
    assert (here(), seen_elsewhere()) == (None, None)


def test_what_was_found_is_not_kept() -> None:
    """Another thread's calls are served by the container that is entered now, and by none after that."""

    def port() -> int:
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(container_of_thread().config().api_port))
        thread.start()
        thread.join()
        return found[0]

    def container_of_thread() -> Any:
        return context.innermost(context.in_force.get())[0]

    for number in (9001, 9002):
        with Container(config={"api_port": number}):
            assert port() == number


def test_a_container_that_is_left_is_the_one_that_is_forgotten() -> None:
    first, second = Container(), Container()
    with first:
        with second:
            pass
        assert seen_elsewhere() is first


def test_the_cache_of_all_threads_is_emptied() -> None:
    container: Any = Container()
    root = context._ROOT
    root.cache.values = {"kept": "here"}  # type: ignore[dict-item]
    context.enter(container)
    assert root.cache.values == {}
    root.cache.values = {"kept": "here"}  # type: ignore[dict-item]
    context.leave(container)
    assert root.cache.values == {}


class TestScopes:
    """A scope is the context in force itself; another one takes its place where something is put over it."""

    def test_an_override_that_outlasts_it(self) -> None:
        container = Container()
        with container.scope("request"):
            override = container.config.override({"api_port": 9001}, isolated=True)
            assert here() is container
        assert (here(), context.here().scopes) == (None, None)
        assert container.config().api_port == 9001
        override.end()
        assert context.here() is context._ROOT

    def test_ended_in_a_copy_of_its_context(self) -> None:
        container = Container()
        with container.scope("application") as outer:
            with container.scope("request") as inner:
                contextvars.copy_context().run(inner.end)
                assert context.here() is inner
            assert context.here() is outer
        assert context.here() is context._ROOT

    def test_a_container_that_is_left_open_in_it(self) -> None:
        first, second = Container(), Container()
        with first.scope("application"):
            with first.scope("request"):
                second.__enter__()
            assert here() is second
            second.__exit__(None, None, None)
            assert here() is first
        assert here() is None

    def test_resumed_here_and_elsewhere(self) -> None:
        container, other = Container(), Container()
        elsewhere = contextvars.copy_context()
        elsewhere.run(context.enter, other)
        with container.scope("application") as application:
            aside, before = contextvars.Context(), elsewhere.run(context.here)
            for _ in range(2):
                aside.run(application.resume)
                elsewhere.run(application.resume)
                assert (aside.run(here), elsewhere.run(here)) == (container, container)
                aside.run(application.suspend)
                assert aside.run(context.here) is context._ROOT
                assert elsewhere.run(here) is container
                elsewhere.run(application.suspend)
                assert elsewhere.run(context.here) is before
            assert here() is container
        elsewhere.run(context.leave, other)

    def test_begun_within_one_that_is_resumed_nowhere(self) -> None:
        container = Container()
        with container.scope("application") as application:
            beside = contextvars.Context()

            def serve() -> None:
                scope = container.scope("request")
                scope.begin(within=application)
                assert scope.outer is application
                assert here() is container
                context.enter(container)  # something that is left open
                scope.stop()
                scope.leave()
                assert context.here().scopes is None
                context.leave(container)
                assert context.here() is context._ROOT

            beside.run(serve)
