"""Starlette: the answer to a fault of the store that no handler of the application took."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Mount

from p8fs_cluster.frameworks._common import refusal

__all__ = ["mounted", "refuse_in"]


def refuse_in(app: Starlette) -> None:
    """Answer for the store's faults in an application, and in those that are mounted in it when it starts.

    :raises RuntimeError: the application has started.
    """
    known: list[Any] = [each.cls for each in app.user_middleware]
    if _Refusing in known:
        return
    if app.middleware_stack is not None:
        raise RuntimeError("install(app) comes too late: the application has started")
    app.user_middleware.append(Middleware(_Refusing, application=app))  # innermost, also of those that are added later


def mounted(routes: Iterable[Any]) -> Iterator[Starlette]:
    """Yield the applications that are mounted, which turn exceptions into answers themselves."""
    for each in routes:
        if isinstance(each, Mount):
            if isinstance(each.app, Starlette):
                yield each.app
            yield from mounted(each.routes or ())


class _Refusing:
    """Middleware around what asks the handlers of an application, so that all of them come first."""

    def __init__(self, app: Any, application: Starlette) -> None:
        self._app = app
        self._application = application
        for inner in mounted(application.routes):
            if inner.middleware_stack is None:
                refuse_in(inner)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        started = scope["type"] != "http"

        async def noting(message: Any) -> None:
            nonlocal started
            started = True  # even if it fails: then the end of the request's scope has, for which `lifespan` answers
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as exc:
            if started or Exception in self._application.exception_handlers:
                raise
            answer = refusal(exc, scope["method"])
            if answer is None:
                raise
            await JSONResponse(answer.body, answer.status, answer.headers)(scope, receive, send)
