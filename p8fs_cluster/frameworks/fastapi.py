"""FastAPI: Starlette's lifespan and `install`, and `depends` in place of `@inject` in a handler."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from typing import Any

from dependency_injector import providers, wiring
from fastapi import Depends
from fastapi.requests import HTTPConnection

from p8fs_cluster.containers.injection import Closing, Provide, inject
from p8fs_cluster.di import context
from p8fs_cluster.di.entering import closes, opens_asynchronously
from p8fs_cluster.di.markers import MARKER
from p8fs_cluster.di.ownership import named
from p8fs_cluster.di.scoped import scoped_in
from p8fs_cluster.exceptions import InjectionError
from p8fs_cluster.frameworks.starlette import RequestContext, Values, install, lifespan, until_sent

__all__ = ["RequestContext", "Values", "depends", "install", "lifespan", "until_sent"]


def depends(target: Any, *, shared: bool = False) -> Any:
    """Return FastAPI's `Depends(...)` on what `Provide[target]` injects: a provider, its name, a `provided` attribute.

    It comes from `app.state.container`, else from the active container. What is `Scoped` is opened once for the request
    and closed before its answer leaves, in a worker thread if it is synchronous. A resource that is to be closed is
    opened for the request too, as FastAPI does with what yields; with `shared=True` it is the container's one, which
    all requests share. The same target gives the same dependency, so that a test may replace it:
    `app.dependency_overrides[depends(Container.storage).dependency] = ...`.

    :raises InjectionError: at the request, when the container has no such thing.

    >>> from typing import Annotated
    >>> from fastapi import FastAPI
    >>> from p8fs_cluster import Container, Storage
    >>> app = FastAPI(lifespan=lifespan(Container))
    >>> @app.get("/ready")
    ... def ready(storage: Annotated[Storage, depends(Container.storage)]) -> float:
    ...     return storage.ping()
    """
    if isinstance(target, MARKER):
        return Depends(_opened(target), scope="function")
    if isinstance(target, providers.BaseResource) and closes(target.provides) and not shared:
        make = _opened if opens_asynchronously(target.provides) else _opened_in_thread
        return Depends(make(_of_resource(target)), scope="function")
    ends = isinstance(target, str) or any(each.scope == "request" for each in scoped_in(target))
    return Depends(_dependency(target, shared), scope="function" if ends else None)


@functools.cache
def _dependency(target: Any, shared: bool) -> Callable[..., Awaitable[Any]]:
    @inject
    async def value(value: Any = Provide[target]) -> Any:
        return value

    @inject
    def provider_of(provider: Any = _Provider[target]) -> Any:
        return provider

    async def dependency(connection: HTTPConnection) -> Any:
        with _container_of(connection):
            provider = provider_of()
            if isinstance(provider, providers.BaseResource) and closes(provider.provides) and not shared:
                raise InjectionError(
                    f"depends({target!r}): {named(provider)} is closed after use. Write depends(Closing[Provide["
                    f"{target!r}]]) to open it for each request, or shared=True to share the container's one"
                )
            return await value()

    return dependency


@functools.cache
def _of_resource(resource: Any) -> Any:
    return Closing[Provide[resource]]


@functools.cache
def _opened(marker: Any) -> Callable[..., AsyncIterator[Any]]:
    @asynccontextmanager
    @inject
    async def opened(value: Any = marker) -> AsyncIterator[Any]:
        yield value

    async def dependency(connection: HTTPConnection) -> AsyncIterator[Any]:
        with _container_of(connection):
            async with opened() as value:
                yield value

    return dependency


@functools.cache
def _opened_in_thread(marker: Any) -> Callable[..., Iterator[Any]]:
    @contextmanager
    @inject
    def opened(value: Any = marker) -> Iterator[Any]:
        yield value

    def dependency(connection: HTTPConnection) -> Iterator[Any]:  # FastAPI runs it in a worker thread
        with _container_of(connection):
            block = opened()
            value = block.__enter__()
        try:
            yield value
        except BaseException as exc:
            block.__exit__(type(exc), exc, exc.__traceback__)
            raise
        block.__exit__(None, None, None)

    return dependency


_Provider: Any = wiring.Provider


def _container_of(connection: HTTPConnection) -> AbstractContextManager[Any]:
    container = getattr(connection.app.state, "container", None)
    if container is None:
        return nullcontext()
    return context.serving(container) if container._entered else container
