"""FastAPI: Starlette's lifespan and 503, and `depends` in place of `@inject` in a handler."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

from fastapi import Depends
from fastapi.requests import HTTPConnection

from p8fs_cluster.containers.injection import Provide, inject
from p8fs_cluster.frameworks.starlette import RequestContext, install, lifespan

__all__ = ["RequestContext", "depends", "install", "lifespan"]


def depends(target: Any) -> Any:
    """Return FastAPI's `Depends(...)` on what `Provide[target]` injects: a provider, its name, a `provided` attribute.

    It comes from `app.state.container`, else from the active container. The same target gives the same dependency, so
    that a test may replace it: `app.dependency_overrides[depends(Container.storage).dependency] = ...`.

    :raises InjectionError: at the request, when the container has no such thing.

    >>> from typing import Annotated
    >>> from fastapi import FastAPI
    >>> from p8fs_cluster import Container, Storage
    >>> app = FastAPI(lifespan=lifespan(Container))
    >>> @app.get("/ready")
    ... def ready(storage: Annotated[Storage, depends(Container.storage)]) -> float:
    ...     return storage.ping()
    """
    return Depends(_dependency(target))


@functools.cache
def _dependency(target: Any) -> Callable[..., Awaitable[Any]]:
    @inject
    async def value(value: Any = Provide[target]) -> Any:
        return value

    async def dependency(connection: HTTPConnection) -> Any:
        with getattr(connection.app.state, "container", None) or nullcontext():
            return await value()

    return dependency
