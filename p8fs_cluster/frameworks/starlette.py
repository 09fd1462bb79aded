"""Starlette: the container in the lifespan of an application, and 503 when its storage can't be reached."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse

from p8fs_cluster.containers.validation import validate_configuration
from p8fs_cluster.di import context
from p8fs_cluster.exceptions import StorageUnavailable
from p8fs_cluster.frameworks.asgi import RequestContext
from p8fs_cluster.frameworks.given import Given, container_of, unavailable

__all__ = ["Lifespan", "RequestContext", "install", "lifespan"]

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]
"""What `Starlette(lifespan=...)` takes."""


def lifespan(container: Given = None, *, around: Lifespan | None = None, validate: bool = True) -> Lifespan:
    """Return a lifespan that enters the container, puts it at `app.state.container`, and closes it at the end.

    Each worker process enters it at its own start. It is the active one in every request, websocket and background
    task of this application, whatever else is entered in the process. `around` is a lifespan of yours, which runs
    within: the container is the active one there. Logging is set up, the server's own included. With `validate`, the
    settings and one round trip to the storage are checked first, and changed settings are followed from then on, if
    `P8FS_RELOAD` says so or the environment is development.

    :raises ConfigurationError: at start, when the settings or the storage can't be used; the server then ends.

    >>> app = Starlette(lifespan=lifespan())
    """

    @asynccontextmanager
    async def entered(app: Any) -> AsyncIterator[Any]:
        async with container_of(container) as opened:
            if validate:
                await run_in_threadpool(validate_configuration, opened)
                opened.watch()
            opened.loggers().set_up()
            app.state.container = opened
            with _serving(app, opened):
                async with (around or _nothing)(app) as state:
                    yield state

    return entered


def install(app: Starlette) -> None:
    """Answer 503 when the storage is unavailable. The log has the fault; the client learns nothing of the store.

    >>> install(Starlette())
    """
    app.add_exception_handler(StorageUnavailable, _unavailable)


@contextmanager
def _serving(app: Any, container: Any) -> Iterator[None]:
    """Let the container serve what the application is asked, all of its middleware included."""
    inner = app.middleware_stack

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        with context.serving(container):
            await inner(scope, receive, send)

    app.middleware_stack = serve
    try:
        yield
    finally:
        app.middleware_stack = inner


@asynccontextmanager
async def _nothing(app: Any) -> AsyncIterator[None]:
    yield


async def _unavailable(request: Request, exc: Exception) -> JSONResponse:
    return JSONResponse(unavailable(exc), status_code=503)
