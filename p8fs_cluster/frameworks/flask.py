"""Flask: the container is the active one in every request and command of an application, each with a scope."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import Context
from typing import Any

from flask import Flask, Request, Response, appcontext_popped, appcontext_pushed, g, request, request_started

from p8fs_cluster.containers.container import Container
from p8fs_cluster.di.scopes import Scope
from p8fs_cluster.exceptions import InjectionError, RequestRefused, StorageUnavailable
from p8fs_cluster.frameworks._common import Given, container_of, failure, opened_scope, require_given, unavailable

__all__ = ["Values", "init_app", "until_sent"]

log = logging.getLogger(__name__)

Values = Callable[[Request], Mapping[Any, Any]]
"""Returns the values of a scope for a request."""


def init_app(app: Flask, container: Given = None, *, values: Values | None = None) -> Container:
    """Make the container the active one in each application context of `app`; return it.

    It is at `app.extensions["p8fs_cluster"]` as well. What requests open stays open, and is closed when the process
    ends, or with the outermost `with container:` around them, as in a test. Workers that were forked open their own.
    A storage that is unavailable is answered with 503; the log has the fault.

    Each request has a scope "request", which has been closed, and a transaction in it committed, before its answer
    leaves; if that fails, the application's error handlers answer. A status of 400 or more closes it with
    `RequestRefused`, so that transactions roll back. `Scoped.given(Request)` is given; `values(request)` returns the
    others. What runs in an application context alone, as commands do, has a scope "job".

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

    def enter(sender: Flask, **context: Any) -> None:
        if not opened._entered:  # nobody holds it open beyond this request, so the process does
            Context().run(opened.__enter__)  # and no thread is left with it as its active one
        opened.__enter__()
        g.p8fs_job = opened_scope(opened, "job")
        g.p8fs_job.begin()

    def leave(sender: Flask, **context: Any) -> None:
        opened.__exit__(None, None, None)

    def begin(sender: Flask, **context: Any) -> None:
        asked: Any = request
        asked = asked._get_current_object()
        g.p8fs_request = scope = opened_scope(opened, "request", offered={Request: asked})
        scope.begin()
        if values is not None:
            scope.give(values(asked))

    def end_request(response: Response) -> Response:
        scope: Scope = g.p8fs_request
        if response.status_code >= 400:
            _refuse(scope, response.status_code)
        elif "p8fs_lasting" in g:
            response.response = _to_the_end(scope, response.iter_encoded())
        else:
            try:
                scope.end()
            except Exception as exc:
                return app.make_response(app.handle_user_exception(exc))
        return response

    def give_up_request(exc: BaseException | None) -> None:
        if "p8fs_request" in g and "p8fs_lasting" not in g:
            g.p8fs_request.end(exc or RequestRefused(500))

    def end_job(exc: BaseException | None) -> None:
        try:
            g.p8fs_job.end(failure(exc))
        except BaseException:
            leave(app)  # Flask does not come to the signal that the context was popped
            raise

    appcontext_pushed.connect(enter, app, weak=False)
    appcontext_popped.connect(leave, app, weak=False)
    request_started.connect(begin, app, weak=False)
    app.after_request(end_request)
    app.teardown_request(give_up_request)
    app.teardown_appcontext(end_job)
    app.register_error_handler(StorageUnavailable, lambda exc: (unavailable(exc), 503))
    return opened


def until_sent() -> None:
    """Let the scope of this request last until its whole answer is sent, for an answer that is streamed.

    If its end fails, the answer breaks off instead of ending well.

    :raises InjectionError: no request is served here.
    """
    if not g or "p8fs_request" not in g:
        raise InjectionError("until_sent() belongs into the handler of a request, of an application of `init_app`")
    g.p8fs_lasting = True


def _to_the_end(scope: Scope, pieces: Iterable[bytes]) -> Iterator[bytes]:
    try:
        yield from pieces
    except BaseException as exc:
        scope.end(exc)
        raise
    scope.end()


def _refuse(scope: Scope, status: int) -> None:
    try:
        scope.end(RequestRefused(status))
    except Exception:
        log.exception("what is scoped to a request that was answered with %d did not end well", status)
