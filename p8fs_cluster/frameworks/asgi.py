"""ASGI: the context of a request in every record that it causes."""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from p8fs_cluster.logging.context import log_context

__all__ = ["RequestContext"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


class RequestContext:
    """Middleware of any ASGI application: binds `request_id`, and the trace of `traceparent`, while a request lasts.

    The id is that of `X-Request-ID` if it has up to 128 letters, digits or `._:/+=@-`, else a new one.

    >>> from starlette.applications import Starlette
    >>> app = Starlette()
    >>> app.add_middleware(RequestContext)
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get(b"x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        with log_context(request_id=request_id, traceparent=headers.get(b"traceparent")):
            await self._app(scope, receive, send)
