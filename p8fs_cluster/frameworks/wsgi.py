"""WSGI: the context of a request in every record that it causes, and its id in the answer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from p8fs_cluster.frameworks._request_ids import HEADER, KEY, request_id_of
from p8fs_cluster.logging.context import log_context, mark

__all__ = ["RequestContext"]

Environment = dict[str, Any]
Application = Callable[[Environment, Any], Iterable[bytes]]


class RequestContext:
    """Middleware of any WSGI application: binds `request_id`, and the trace of `traceparent`, while a request lasts.

    It lasts until the server closes the answer, so that its access log has the id too. The id, and what tells of it,
    are those of `p8fs_cluster.frameworks.asgi.RequestContext`.

    >>> from flask import Flask
    >>> app = Flask("service")
    >>> app.wsgi_app = RequestContext(app.wsgi_app)
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    def __call__(self, environ: Environment, start_response: Any) -> Iterable[bytes]:
        if KEY in environ:
            return self._app(environ, start_response)
        environ[KEY] = request_id = request_id_of(environ.get("HTTP_X_REQUEST_ID", ""))

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            if not any(name.lower() == HEADER for name, _ in headers):
                headers = [*headers, ("X-Request-ID", request_id)]
            return start_response(status, headers, *more)

        context = log_context(request_id=request_id, traceparent=environ.get("HTTP_TRACEPARENT"))
        context.__enter__()
        try:
            return _Bound(self._app(environ, start), context)
        except BaseException as exc:
            mark(exc)
            context.__exit__(*sys.exc_info())
            raise


class _Bound:
    """The pieces of an answer, in a context that ends when the server closes them."""

    def __init__(self, pieces: Iterable[bytes], context: log_context) -> None:
        self._pieces = pieces
        self._context: log_context | None = context

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._pieces
        except BaseException as exc:
            mark(exc)
            raise

    def close(self) -> None:
        """Called by the server, however the answer has ended."""
        context, self._context = self._context, None
        try:
            getattr(self._pieces, "close", lambda: None)()
        except BaseException as exc:
            mark(exc)
            raise
        finally:
            if context is not None:
                context.__exit__(None, None, None)
