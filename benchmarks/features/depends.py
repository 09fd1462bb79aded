"""FastAPI's Depends, whose overrides are those of an application."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from benchmarks.features import parts
from benchmarks.features.parts import FakeRepo, Notes, Repo, Transaction

_repo = functools.cache(Repo)


@functools.cache
def _notes(repo: Annotated[Repo, Depends(_repo)]) -> Notes:
    return Notes(repo)


class _Application:
    """An application that keeps what its handler is given."""

    def __init__(self, dependency: Any) -> None:
        self.app = FastAPI()
        self.given: list[Any] = []

        @self.app.get("/")
        def handle(part: Any = Depends(dependency)) -> None:  # noqa: B008
            self.given.append(part)

    def get(self) -> Any:
        TestClient(self.app).get("/")
        return self.given[-1]

    @contextlib.contextmanager
    def override(self) -> Iterator[None]:
        fake = FakeRepo()
        self.app.dependency_overrides[_repo] = lambda: fake
        yield
        del self.app.dependency_overrides[_repo]


def override_followed() -> bool:
    application = _Application(_notes)
    return parts.follows(application.get, application.override)


def override_alone() -> bool:
    application = _Application(_repo)
    return parts.is_alone(application.get, application.override)


def once() -> bool:
    _repo.cache_clear()
    return parts.built_once(_repo)


def none_kept() -> bool:
    return parts.called_once(functools.cache(parts.nothing))


def told_of_failure() -> bool:
    app = FastAPI()

    @app.get("/")
    def handle(transaction: Transaction = Depends(parts.transaction)) -> None:  # noqa: B008
        raise ValueError

    parts.seen.clear()
    TestClient(app, raise_server_exceptions=False).get("/")
    return parts.seen == ["failed"]
