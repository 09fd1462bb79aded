"""anydi; `build` checks and compiles what is registered."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Annotated

from anydi import Container, Inject, Provide
from anydi.ext.pydantic_settings import install
from pydantic import Field
from pydantic_settings import BaseSettings

from benchmarks.features import judging, parts
from benchmarks.features.parts import (
    Box,
    Connection,
    Counted,
    Egg,
    FakeRepo,
    Hen,
    Keeper,
    Lenient,
    Notes,
    Repo,
    Second,
    Slow,
    Transaction,
)


class Settings(BaseSettings):
    port: int = Field(default=8000, ge=1)


def _container() -> Container:
    container = Container()
    for singleton in (Repo, Notes, Slow, Counted):
        container.register(singleton, scope="singleton")
    container.provider(scope="singleton")(parts.connection)
    container.provider(scope="request")(parts.transaction)
    container.provider(scope="request")(parts.second)
    container.build()
    return container


def _checked(*classes: type, ending: type | None = None) -> Container:
    container = Container()
    for cls in classes:
        container.register(cls, scope="singleton")
    if ending is not None:
        container.register(ending, scope="request")
    container.build()
    return container


@contextlib.contextmanager
def _overridden(container: Container) -> Iterator[None]:
    with container.test_mode(), container.override(Repo, FakeRepo()):
        yield


def by_default() -> None:
    container = _container()

    @container.inject
    def repo_of(repo: Repo = Inject()) -> Repo:  # noqa: B008
        return repo

    assert repo_of() is container.resolve(Repo)


def by_marker() -> None:
    container = _container()

    @container.inject
    def repo_of(repo: Provide[Repo]) -> Repo:
        return repo

    assert repo_of() is container.resolve(Repo)  # type: ignore[call-arg]


by_type = by_marker  # the marker is the type's


def arguments() -> None:
    container = _container()
    assert container.resolve(Notes).repo is container.resolve(Repo)


all_of_a_type = None


def optional() -> None:
    assert _checked(Lenient).resolve(Lenient).repo is None


generic = None  # type variables are those of base classes
undeclared = None


def missing() -> None:
    judging.missing(lambda: _checked(Notes), LookupError)


def cycle() -> None:
    judging.cycle(lambda: _checked(Egg, Hen), ValueError)


def wrong_type() -> None:
    container = Container()

    def make() -> None:
        container.register(Repo, Box, scope="singleton")
        container.register(Notes, scope="singleton")
        container.build()

    judging.wrong_type(make, TypeError)


def captive() -> None:
    judging.refused(lambda: _checked(Keeper, ending=Transaction), ValueError, "The check passed.")


def unfilled() -> None:
    container = _checked(Box)

    def repo_of(repo: Provide[Repo]) -> None: ...

    judging.refused(lambda: container.inject(repo_of), LookupError, "Nothing was said before the call.")


forgotten = None


def once() -> None:
    container = _container()
    judging.built_once(lambda: container.resolve(Counted))


def independent() -> None:
    container = _container()
    judging.independent(lambda: container.resolve(Slow), lambda: container.resolve(Repo))


def none_kept() -> None:
    container = Container()
    container.register(Notes | None, parts.nothing, scope="singleton")
    judging.called_once(lambda: container.resolve(Notes | None))


def reverse() -> None:
    container = _container()
    judging.reverse(container.request_context, lambda scope: container.resolve(Second))


def told_of_failure() -> None:
    container = _container()
    judging.told_of_failure(container.request_context, lambda scope: container.resolve(Transaction))


def shared() -> None:
    container = Container()
    container.register(Counted, scope="request")
    with container.request_context():
        judging.built_once(lambda: container.resolve(Counted))


def same_task() -> None:
    container = Container()
    container.provider(scope="request")(parts.opened)
    judging.same_task(container.arequest_context, lambda scope: container.aresolve(Transaction))


def per_call() -> None:
    container = _container()

    def call(use: Callable[[Transaction], None]) -> None:
        with container.request_context():
            use(container.resolve(Transaction))

    judging.per_call(call)


def replaced() -> None:
    container = _container()
    judging.replaced(lambda: container.resolve(Repo), lambda: _overridden(container))


def override_followed() -> None:
    container = _container()
    with container.test_mode():  # around the whole test: what was built before it does not follow
        judging.follows(lambda: container.resolve(Notes), lambda: container.override(Repo, FakeRepo()))


def override_alone() -> None:
    container = _container()
    judging.is_alone(lambda: container.resolve(Repo), lambda: _overridden(container))


def fork() -> None:
    container = _container()
    judging.own_after_fork(lambda: container.resolve(Connection))


def picture() -> None:
    assert "Notes" in _container().graph("mermaid")


def settings() -> None:
    container = Container()
    install(Settings(), container)
    port = Annotated[int, "settings.port"]
    assert container.resolve(port) == 8000
    with container.test_mode(), container.override(port, 0):
        judging.expect(container.resolve(port) != 0, "A port of 0 was accepted.")


reload = None
