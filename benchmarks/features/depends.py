"""FastAPI's Depends, whose overrides are those of an application.

Its documentation keeps settings by `functools.lru_cache`, which is Python's own: no feature is shown by it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from fastapi.exceptions import DependencyScopeError
from fastapi.testclient import TestClient

from benchmarks.features import judging, parts
from benchmarks.features.parts import FakeRepo, Repo, Second, Transaction


class Holder:
    """A class that asks for another one by its type."""

    def __init__(self, repo: Annotated[Repo, Depends()]) -> None:
        self.repo = repo


def _second(transaction: Annotated[Transaction, Depends(parts.transaction)]) -> Iterator[Second]:
    yield from parts.second(transaction)


def _keeper(transaction: Annotated[Transaction, Depends(parts.transaction, scope="function")]) -> Iterator[object]:
    yield transaction


class _Application:
    """An application that keeps what its handler is given."""

    def __init__(self, dependency: Any, use: Callable[[Any], object] = lambda given: None) -> None:
        self.app = FastAPI()
        self.given: list[Any] = []

        @self.app.get("/")
        def handle(part: Any = dependency) -> None:
            self.given.append(part)
            use(part)

    def get(self) -> Any:
        TestClient(self.app, raise_server_exceptions=False).get("/")
        return self.given[-1]

    @contextlib.contextmanager
    def override(self) -> Iterator[None]:
        fake = FakeRepo()
        self.app.dependency_overrides[Repo] = lambda: fake
        yield
        del self.app.dependency_overrides[Repo]


def by_default() -> None:
    assert isinstance(_Application(Depends(Repo)).get(), Repo)


def by_marker() -> None:
    app = FastAPI()
    given: list[Repo] = []

    @app.get("/")
    def handle(repo: Annotated[Repo, Depends(Repo)]) -> None:
        given.append(repo)

    TestClient(app).get("/")
    assert isinstance(given[0], Repo)


def by_type() -> None:
    app = FastAPI()
    given: list[Repo] = []

    @app.get("/")
    def handle(repo: Annotated[Repo, Depends()]) -> None:
        given.append(repo)

    TestClient(app).get("/")
    assert isinstance(given[0], Repo)


def arguments() -> None:
    assert isinstance(_Application(Depends(Holder)).get().repo, Repo)


all_of_a_type = None
optional = None
generic = None


undeclared = by_default  # a class says by its own signature how it is built


missing = None  # a dependency names the function that gives it
cycle = None  # for which that function has to exist
wrong_type = None


def captive() -> None:
    judging.refused(lambda: _Application(Depends(_keeper)), DependencyScopeError, "The check passed.")


unfilled = None
forgotten = None  # there is no decorator
once = None
independent = None


def none_kept() -> None:
    app = FastAPI()

    @app.get("/")
    def handle(one: Annotated[None, Depends(parts.nothing)], two: Annotated[None, Depends(parts.nothing)]) -> None: ...

    parts.ends.clear()
    TestClient(app).get("/")
    judging.expect(parts.ends == ["called"], "It was called for each use.")


def reverse() -> None:
    parts.ends.clear()
    _Application(Depends(_second)).get()
    judging.expect(parts.ends == ["second", "done"], f"The order was: {', '.join(parts.ends)}.")


def told_of_failure() -> None:
    def fail(given: object) -> None:
        raise ValueError

    parts.ends.clear()
    _Application(Depends(parts.transaction), fail).get()
    judging.expect(parts.ends == ["failed"], "It ended as if nothing had happened.")


shared = None  # what a handler asks for is built before it
same_task = None


def per_call() -> None:
    judging.per_call(lambda use: _Application(Depends(parts.transaction), use).get())


def replaced() -> None:
    application = _Application(Depends(Repo))
    judging.replaced(application.get, application.override)


override_followed = None  # nothing outlives a request


def override_alone() -> None:
    application = _Application(Depends(Repo))
    judging.is_alone(application.get, application.override)


fork = None
picture = None
settings = None  # there are none of its own: a test replaces the whole object, which pydantic has validated
reload = None
