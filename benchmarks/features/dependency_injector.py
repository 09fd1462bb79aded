"""dependency-injector.

`Singleton` is documented as not safe for threads, so that `ThreadSafeSingleton` is tried.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from contextlib import closing
from types import ModuleType
from typing import Annotated

from dependency_injector import containers, providers
from dependency_injector.errors import Error
from dependency_injector.wiring import Closing, DIWiringWarning, Provide, inject
from pydantic import Field
from pydantic_settings import BaseSettings

from benchmarks.features import judging, parts
from benchmarks.features.parts import Box, Counted, Egg, FakeRepo, Hen, Notes, Repo, Slow, Transaction


class Settings(BaseSettings):
    port: int = Field(default=8000, ge=1)


class Application(containers.DeclarativeContainer):
    settings = providers.Configuration(pydantic_settings=[Settings()], strict=True)
    repo = providers.ThreadSafeSingleton(Repo)
    notes = providers.ThreadSafeSingleton(Notes, repo)
    nothing = providers.ThreadSafeSingleton(parts.nothing)
    counted = providers.ThreadSafeSingleton(Counted)
    slow = providers.ThreadSafeSingleton(Slow)
    connection = providers.Resource(parts.connection)
    transaction = providers.Resource(parts.transaction)
    second = providers.Resource(parts.second, transaction)


class Missing(containers.DeclarativeContainer):
    repo = providers.Dependency(instance_of=Repo)
    notes = providers.Singleton(Notes, repo)


class Cycle(containers.DeclarativeContainer):
    egg = providers.Singleton(Egg)
    hen = providers.Singleton(Hen, egg)
    egg.add_args(hen)


class WrongType(containers.DeclarativeContainer):
    repo = providers.Dependency(instance_of=Repo, default=providers.Factory(Box))
    notes = providers.Singleton(Notes, repo)


@inject
def _repo(repo: Repo = Provide[Application.repo]) -> Repo:
    return repo


def _annotated(repo: Annotated[Repo, Provide[Application.repo]]) -> Repo:
    return repo


@inject
def _call(use: Callable[[Transaction], None], given: Transaction = Closing[Provide[Application.transaction]]) -> None:
    use(given)


@inject
def _fail(given: Transaction = Closing[Provide[Application.transaction]]) -> None:
    raise ValueError


def by_default() -> None:
    application = Application()
    application.wire(modules=[sys.modules[__name__]])
    assert _repo() is application.repo()


def by_marker() -> None:
    application, module = Application(), ModuleType("module")
    with warnings.catch_warnings(action="ignore", category=DIWiringWarning):
        setattr(module, "repo_of", inject(_annotated))  # noqa: B010
    application.wire(modules=[module])
    try:
        given = module.repo_of()
    except TypeError:
        raise parts.Seen("The argument was not given.") from None
    assert given is application.repo()


by_type = None
arguments = None  # providers name what they are made of
all_of_a_type = None
optional = None
generic = None
undeclared = None


def missing() -> None:
    judging.missing(Missing().check_dependencies, Error)


def cycle() -> None:
    judging.cycle(Cycle().check_dependencies, Error)


def wrong_type() -> None:
    judging.wrong_type(WrongType().check_dependencies, Error)


captive = None  # nothing ends before the container but what `Closing` closes, which is the container's


def unfilled() -> None:
    application, module = Application(), ModuleType("module")

    def repo_of(repo: object = Provide["rope"]) -> None: ...

    setattr(module, "repo_of", inject(repo_of))  # noqa: B010
    judging.refused(lambda: application.wire(modules=[module]), Exception, "Nothing was said before the call.")


forgotten = None


def once() -> None:
    judging.built_once(Application().counted)


def independent() -> None:
    application = Application()
    judging.independent(application.slow, application.repo)


def none_kept() -> None:
    judging.called_once(Application().nothing)


def reverse() -> None:
    application = Application()

    class Closed:
        def close(self) -> None:
            application.shutdown_resources()

    judging.reverse(lambda: closing(Closed()), lambda scope: application.second())


def told_of_failure() -> None:
    Application().wire(modules=[sys.modules[__name__]])
    parts.ends.clear()
    try:
        _fail()
    except ValueError:
        judging.expect(parts.ends == ["failed"], "It ended as if nothing had happened.")


shared = None  # there are no scopes
same_task = None


def per_call() -> None:
    Application().wire(modules=[sys.modules[__name__]])
    judging.per_call(_call)


def replaced() -> None:
    application = Application()
    judging.replaced(application.repo, lambda: application.repo.override(providers.Object(FakeRepo())))


def override_followed() -> None:
    application = Application()
    judging.follows(application.notes, lambda: application.repo.override(providers.Object(FakeRepo())))


def override_alone() -> None:
    application = Application()
    judging.is_alone(application.repo, lambda: application.repo.override(providers.Object(FakeRepo())))


def fork() -> None:
    judging.own_after_fork(Application().connection)


picture = None


def settings() -> None:
    application = Application()
    assert application.settings.port() == 8000
    application.settings.override({"port": 0})
    judging.expect(application.settings.port() != 0, "A port of 0 was accepted.")


reload = None
