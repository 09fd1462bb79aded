"""ASGI: the context of a request in every record that it causes, and its id in the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from p8fs_cluster.frameworks._request_ids import HEADER, KEY, request_id_of
from p8fs_cluster.logging.context import log_context, mark

__all__ = ["RequestContext"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class RequestContext:
    """Middleware of any ASGI application: binds `request_id`, and the trace of `traceparent`, while a request lasts.

    The id is that of `X-Request-ID` if it has up to 128 letters, digits or `._:/+=@-`, else a new one. It is in the
    header of the answer, unless the application has set one, and in the record of an exception that leaves the
    application, wherever the server logs that. Wrapped around a whole application, `RequestContext(app)`, it covers
    all of it; `lifespan` puts one that was added there as well. Of several, the outermost counts.

    >>> from starlette.applications import Starlette
    >>> app = Starlette()
    >>> app.add_middleware(RequestContext)
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or KEY in scope:
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        scope[KEY] = request_id = request_id_of(headers.get(HEADER.encode(), ""))

        async def answer(message: Message) -> None:
            await send(_with_id(message, request_id) if message["type"] in _WITH_HEADERS else message)

        with log_context(request_id=request_id, traceparent=headers.get(b"traceparent")):
            try:
                await self._app(scope, receive, answer)
            except BaseException as exc:
                mark(exc)
                raise


_WITH_HEADERS = ("http.response.start", "websocket.accept", "websocket.http.response.start")


def _with_id(message: Message, request_id: str) -> Message:
    headers = list(message.get("headers") or ())
    if any(bytes(name).lower() == HEADER.encode() for name, _ in headers):
        return message
    return {**message, "headers": [*headers, (HEADER.encode(), request_id.encode())]}
