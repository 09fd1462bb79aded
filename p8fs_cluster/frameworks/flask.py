"""Flask: the container is the active one in every request and command of an application, each with a scope."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import Context
from typing import Any

from flask import Flask, Request, Response, appcontext_popped, appcontext_pushed, g, request, request_started

from p8fs_cluster.containers.container import Container
from p8fs_cluster.di.scopes import Scope
from p8fs_cluster.exceptions import InjectionError, RequestRefused
from p8fs_cluster.frameworks._common import Given, container_of, failure, opened_scope, refusal, require_given
from p8fs_cluster.frameworks.wsgi import RequestContext

__all__ = ["RequestContext", "Values", "init_app", "until_sent"]

log = logging.getLogger(__name__)

Values = Callable[[Request], Mapping[Any, Any]]
"""Returns the values of a scope for a request."""


def init_app(
    app: Flask, container: Given = None, *, values: Values | None = None, request_context: bool = False
) -> Container:
    """Make the container the active one in each application context of `app`; return it.

    It is at `app.extensions["p8fs_cluster"]` as well. What requests open stays open, and is closed when the process
    ends, or with the outermost `with container:` around them, as in a test. Workers that were forked open their own.
    Faults of the store that no handler of the application takes are answered with 503 or 504 and `Retry-After`, as
    `p8fs_cluster.frameworks.starlette.install` does; a handler of the status 500 does not take them.

    Each request has a scope "request", which has been closed, and a transaction in it committed, before its answer
    leaves; if that fails, the application's error handlers answer. An exception of the view closes it with that
    exception, whatever answer is made of it, and a status of 400 or more closes it with `RequestRefused`: transactions
    roll back. `Scoped.given(Request)` is given; `values(request)` returns the others. What runs in an application
    context alone, as commands do, has a scope "job".

    With `request_context`, the request's id is in each of its records and in its answer, as by `RequestContext`.

    :raises InjectionError: the container declares values that nobody gives.

    >>> app = Flask(__name__)
    >>> container = init_app(app, Container(config={"api_port": 9000}))
    >>> with container, app.app_context():
    ...     container.api().port
    9000
    """
    opened = app.extensions["p8fs_cluster"] = container_of(container)
    if values is None:
        require_given(opened, "request", (Request,))
    require_given(opened, "job", ())
    if request_context:
        app.wsgi_app = RequestContext(app.wsgi_app)  # type: ignore[method-assign]
    served = _Served(app, opened, values)
    appcontext_pushed.connect(served.enter, app, weak=False)
    appcontext_popped.connect(served.leave, app, weak=False)
    request_started.connect(served.begin_request, app, weak=False)
    app.after_request(served.end_request)
    app.teardown_request(served.give_up_request)
    app.teardown_appcontext(served.end_job)
    app.handle_user_exception = served.handle  # type: ignore[method-assign]
    return opened


class _Served:
    """An application and its container; the scopes of what is served are in Flask's `g`."""

    def __init__(self, app: Flask, container: Container, values: Values | None) -> None:
        self._container = container
        self._values = values
        self._handle = app.handle_user_exception
        self._make_response = app.make_response

    def enter(self, sender: Flask, **context: Any) -> None:
        container = self._container
        if not container._entered:  # nobody holds it open beyond this request, so the process does
            Context().run(container.__enter__)  # and no thread is left with it as its active one
        container.__enter__()
        g.p8fs_job = opened_scope(container, "job")
        g.p8fs_job.begin()

    def leave(self, sender: Flask, **context: Any) -> None:
        self._container.__exit__(None, None, None)

    def begin_request(self, sender: Flask, **context: Any) -> None:
        asked: Any = request
        asked = asked._get_current_object()
        g.p8fs_request = scope = opened_scope(self._container, "request", offered={Request: asked})
        scope.begin()
        if self._values is not None:
            scope.give(self._values(asked))

    def handle(self, e: Exception) -> Any:
        g.p8fs_raised = e
        return self._answer_to(e)

    def _answer_to(self, e: Exception) -> Any:
        """Let the application's handlers answer, and do so for a fault of the store that none of them took."""
        try:
            return self._handle(e)
        except Exception as exc:
            answer = refusal(exc, request.method)
            if answer is None:
                raise
            return dict(answer.body), answer.status, dict(answer.headers)

    def end_request(self, response: Response) -> Response:
        scope: Scope = g.p8fs_request
        if response.status_code >= 400:
            _refuse(scope, response.status_code, RequestRefused(response.status_code))
        elif "p8fs_raised" in g:
            _refuse(scope, response.status_code, g.p8fs_raised)
        elif "p8fs_until_sent" in g and request.method != "HEAD" and response.status_code not in _WITHOUT_BODY:
            g.p8fs_lasts = True
            response.response = _Lasting(scope, response.iter_encoded())
        else:
            try:
                scope.end()
            except Exception as exc:
                return self._make_response(self._answer_to(exc))
        return response

    def give_up_request(self, exc: BaseException | None) -> None:
        if "p8fs_request" in g and "p8fs_lasts" not in g:
            g.p8fs_request.end(exc or RequestRefused(500))

    def end_job(self, exc: BaseException | None) -> None:
        try:
            g.p8fs_job.end(failure(exc))
        except BaseException:
            self._container.__exit__(None, None, None)  # Flask does not come to the signal that the context was popped
            raise


def until_sent() -> None:
    """Let the scope of this request last until its whole answer is sent, for an answer that is streamed.

    If its end fails, the answer breaks off instead of ending well.

    :raises InjectionError: no request is served here.
    """
    if not g or "p8fs_request" not in g:
        raise InjectionError("until_sent() belongs into the handler of a request, of an application of `init_app`")
    g.p8fs_until_sent = True


_WITHOUT_BODY = (204, 304)


class _Lasting:
    """The pieces of an answer, with a scope that ends with them, or when nobody wants any more."""

    def __init__(self, scope: Scope, pieces: Iterable[bytes]) -> None:
        self._scope = scope
        self._pieces = iter(pieces)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except StopIteration:
            self._scope.end()
            raise
        except BaseException as exc:
            self._scope.end(exc)
            raise

    def close(self) -> None:
        """Called by the server, however the answer has ended, or not begun."""
        try:
            getattr(self._pieces, "close", lambda: None)()
        finally:
            self._scope.end(GeneratorExit("the answer was not sent to its end"))


def _refuse(scope: Scope, status: int, why: BaseException) -> None:
    try:
        scope.end(why)
    except Exception:
        log.exception("what is scoped to a request that was answered with %d did not end well", status)
