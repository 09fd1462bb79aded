"""Which container is in force: what `leave` takes back, and what it leaves."""

from __future__ import annotations

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
