"""Starlette: the container in the lifespan of an application, scopes, and the answer to a fault of the store."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from contextvars import ContextVar
from inspect import iscoroutinefunction
from typing import Any

import anyio.to_thread
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.websockets import WebSocket

from p8fs_cluster.containers.validation import validate_configuration
from p8fs_cluster.di.scopes import Scope
from p8fs_cluster.di.serving import Succession, given_in
from p8fs_cluster.exceptions import InjectionError, RequestRefused
from p8fs_cluster.frameworks._common import Given, container_of, opened_scope, require_given, set_logging_up
from p8fs_cluster.frameworks._endpoints import endpoints
from p8fs_cluster.frameworks._refusing import mounted, refuse_in
from p8fs_cluster.frameworks.asgi import RequestContext

__all__ = ["Lifespan", "RequestContext", "Values", "install", "lifespan", "until_sent"]

log = logging.getLogger(__name__)

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]
"""The type of `Starlette(lifespan=...)`."""

Values = Callable[[Any], Mapping[Any, Any] | Awaitable[Mapping[Any, Any]]]
"""Returns the values of a scope for a request or a websocket, or a promise of them."""

_Message = dict[str, Any]


def lifespan(
    container: Given = None, *, around: Lifespan | None = None, validate: bool = True, values: Values | None = None
) -> Lifespan:
    """Return a lifespan that enters the container, puts it at `app.state.container`, and closes it at the end.

    Each worker process enters it at its own start. It is the active one in every request, websocket and background
    task of this application, whatever else is entered in the process. `around` is a lifespan of yours, which runs
    within: the container is the active one there. Logging is set up, the server's own included. With `validate`, the
    container, what is injected into handlers, the settings and one round trip to the storage are checked first, and
    changed settings are followed from then on, if `P8FS_RELOAD` says so or the environment is development.

    The scope "application" lasts as long as the application, "request" until an answer begins to leave: it has been
    closed, and a transaction in it committed, before the client learns of success. If that fails, the application's
    own error handlers answer. An exception of the handler closes it with that exception, whatever answer is made of
    it, and an answer with a status of 400 or more closes it with `RequestRefused`: transactions roll back. A websocket
    has a scope "websocket", and "request" for each message; the background tasks of an answer have a "job".
    `Scoped.given(Request)` and `Scoped.given(WebSocket)` are given; `values(connection)` returns the others.

    :raises ConfigurationError: at start, when the settings or the storage can't be used; the server then ends.
    :raises InjectionError: at start, when the container can't work, or declares values that nobody gives.

    >>> app = Starlette(lifespan=lifespan())
    """

    @asynccontextmanager
    async def entered(app: Any) -> AsyncIterator[Any]:
        async with container_of(container) as opened:
            set_logging_up(opened)
            if validate:
                opened.check(functions=endpoints(app.routes))
                await run_in_threadpool(validate_configuration, opened)
                opened.watch()
            if values is None:
                require_given(opened, "request", (HTTPConnection, Request, WebSocket))
                require_given(opened, "websocket", (HTTPConnection, WebSocket))
            app.state.container = opened
            async with opened_scope(opened, "application", in_thread=_in_thread) as application:
                with _serving(app, application, values):
                    async with (around or _nothing)(app) as state:
                        yield state

    return entered


def install(app: Starlette) -> None:
    """Answer 503 or 504 to a fault of the store, with `Retry-After`, if none of the application's handlers takes it.

    503: no connection could be had, or it was lost, or nothing was committed. 504: no answer came in time, from
    StorageTimeout to the server's own limits, or CommitUnknown: what was asked for may have been done, so that methods
    that may not be repeated (POST, PATCH) get no `Retry-After`. Drivers' errors count as well, also through SQLAlchemy;
    any other error of theirs stays a 500. The log has the fault; the client learns nothing of the store.

    Handlers that the application has for the exception, or for Exception, come first. Applications that are mounted
    when this one starts are covered too. An answer that has begun to leave can't be changed.

    :raises RuntimeError: the application has started.

    >>> install(Starlette())
    """
    refuse_in(app)


def until_sent() -> None:
    """Let the scope of this request last until its whole answer is sent, for an answer that is streamed.

    It closes before the last piece leaves: if that fails, the answer breaks off instead of ending well.

    :raises InjectionError: no request is served here.
    """
    served = _request.get()
    if served is None:
        raise InjectionError("until_sent() belongs into the handler of a request that `lifespan` serves")
    served.lasting = True


@contextmanager
def _serving(app: Any, application: Scope, values: Values | None) -> Iterator[None]:
    """Let the container serve what the application is asked: a scope around its middleware, which ends at its routes.

    What is raised by the end of a scope has to come from within the middleware that turns exceptions into answers.
    """
    if app.middleware_stack is None:  # entered by itself, as tests do
        app.middleware_stack = app.build_middleware_stack()
    around, router = app.middleware_stack, app.router
    routes = router.middleware_stack
    inside = [(each.router, each.router.middleware_stack) for each in mounted(router.routes)]

    def serve(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        kind = _KINDS.get(scope["type"])
        if kind is None:
            return _resumed(application, around, scope, receive, send)
        return kind(application, values, scope, receive, send).serve(around)

    def route(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        served = scope.get(_KEY)
        passed: Awaitable[None] = (
            routes(scope, receive, send) if served is None else served.route(routes, scope, receive, send)
        )
        return passed

    app.middleware_stack, router.middleware_stack = _outermost(app, serve), route
    for inner, stack in inside:
        inner.middleware_stack = _noting_first(stack)
    try:
        yield
    finally:
        app.middleware_stack, router.middleware_stack = around, routes
        for inner, stack in inside:
            inner.middleware_stack = stack
        _noting.clear()


async def _resumed(application: Scope, around: Any, scope: Any, receive: Any, send: Any) -> None:
    with application.resumed():
        await around(scope, receive, send)


def _outermost(app: Any, serve: Any) -> Any:
    """Put the middleware that binds the request's id around what answers with 500, if the application has it."""
    for cls, args, kwargs in app.user_middleware:
        if isinstance(cls, type) and issubclass(cls, RequestContext):
            return cls(serve, *args, **kwargs)
    return serve


def _noting_first(stack: Any) -> Any:
    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if _KEY in scope:
            _note_what_is_handled(scope)
        await stack(scope, receive, send)

    return serve


_KEPT = 256
_KEY = "p8fs_cluster.served"
_HANDLERS = "starlette.exception_handlers"


class _Served:
    """A request or a websocket, and its scope."""

    name: str
    handled: Exception | None = None
    """The exception of a route, for which one of the application's exception handlers answers."""

    def __init__(self, application: Scope, values: Values | None, scope: Any, receive: Any, send: Any) -> None:
        self._values = values
        self._asked = (scope, receive, send)
        self._application = application
        self._container = application.container
        self.scope = self._container.scope(self.name)
        self.scope.in_thread = _in_thread
        if given_in(self._container, self.name):
            offered = {HTTPConnection: self._connection, type(self._connection): self._connection}
            self.scope.give(offered, declared_or_not=True)

    @functools.cached_property
    def _connection(self) -> HTTPConnection:
        return self._made(*self._asked)

    async def _asked_for(self, values: Values) -> Mapping[Any, Any]:
        """Ask the application for its values, where its exceptions become answers."""
        found = values(self._connection)
        return await found if inspect.isawaitable(found) else found

    def _made(self, scope: Any, receive: Any, send: Any) -> HTTPConnection:
        raise NotImplementedError


class _Noting(Mapping[Any, Any]):
    """Exception handlers, each of which notes for the request that it is called for which exception it gets."""

    def __init__(self, handlers: Mapping[Any, Any]) -> None:
        self.handlers = handlers

    def __getitem__(self, key: Any) -> Any:
        handler = self.handlers[key]
        if iscoroutinefunction(handler) or iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004

            async def note_async(connection: Any, exc: Exception) -> Any:
                connection.scope[_KEY].handled = exc
                return await handler(connection, exc)

            return note_async

        def note(connection: Any, exc: Exception) -> Any:
            connection.scope[_KEY].handled = exc
            return handler(connection, exc)

        return note

    def __iter__(self) -> Iterator[Any]:
        return iter(self.handlers)

    def __len__(self) -> int:
        return len(self.handlers)


_noting: dict[int, _Noting] = {}
"""The latest ones by the identity of what they are made of, so that a request makes none."""


def _note_what_is_handled(scope: Any) -> None:
    """Let the exception handlers that are in force note which exception they get."""
    handlers = scope.get(_HANDLERS)
    if handlers is not None:
        scope[_HANDLERS] = [_noting_of(each) for each in handlers]


def _noting_of(handlers: Mapping[Any, Any]) -> _Noting:
    kept = _noting.get(id(handlers))
    if kept is None or kept.handlers is not handlers:
        if len(_noting) >= _KEPT:
            _noting.clear()
        kept = _noting[id(handlers)] = _Noting(handlers)
    return kept


class _Http(_Served):
    """A request. Its scope ends where the answer begins to leave, or all of it has, if it is `lasting`."""

    name = "request"
    lasting = False
    _status = 0
    _complete = False
    """True after the message before which the scope ends."""
    _has_ended = False
    """True if the scope has ended well."""
    _fault: BaseException | None = None
    """The exception that the end of the scope raised."""

    async def serve(self, around: Any) -> None:
        scope, receive, send = self._asked

        def answer(message: _Message) -> Awaitable[None]:
            is_to_end = not self._has_ended and self._is_to_end(message)  # where a middleware has answered itself
            return self._sent_after_end(send, message) if is_to_end else send(message)

        scope[_KEY] = self
        token = _request.set(self)
        fault: BaseException | None = None
        try:
            self.scope.begin(asynchronous=True, within=self._application)
            await around(scope, receive, answer)
            if not self._complete or self.scope.closing:  # what was to be awaited before an answer was not
                fault = _Unsent()
        except BaseException as exc:
            fault = exc
            raise
        finally:
            try:
                await self.scope.close_async(fault, _shield)
            finally:
                self.scope.leave()
                _request.reset(token)

    async def route(self, routes: Any, scope: Any, receive: Any, send: Any) -> None:
        def answer(message: _Message) -> Awaitable[None]:
            is_to_end = not self._has_ended and self._is_to_end(message)
            if _is_last(message) and self.scope.succession is None:
                self.scope.succession = Succession(self._job)
            return self._sent_after_end(send, message) if is_to_end else send(message)

        fault: BaseException | None = None
        _note_what_is_handled(scope)
        try:
            if self._values is not None:
                self.scope.give(await self._asked_for(self._values))
            await routes(scope, receive, answer)
        except BaseException as exc:
            fault = exc
            if self._fault is not None:  # the end of the scope, which those within took for a started answer
                raise self._fault from None
            await self.scope.close_async(exc, _shield)
            raise
        finally:
            succession = self.scope.succession
            if succession is not None and (job := succession.end()) is not None:
                await _ended(job, fault)

    def _is_to_end(self, message: _Message) -> bool:
        """Stop the scope if this is the message before which it ends, and return whether that has to be awaited."""
        is_start = message["type"] == "http.response.start"
        if is_start:
            self._status = message["status"]
        if not (_is_last(message) if self.lasting else is_start):
            return False
        self._complete = True
        if self.scope.stop() or self._fault is not None:
            return True
        self._has_ended = True
        return False

    async def _sent_after_end(self, send: Any, message: _Message) -> None:
        await self._end()
        await send(message)

    async def _end(self) -> None:
        if self._status >= 400:
            try:
                await self.scope.close_async(RequestRefused(self._status), _shield)
            except Exception:
                log.exception("what is scoped to a request that was answered with %d did not end well", self._status)
        elif self._fault is not None:
            raise self._fault
        else:
            try:
                await self.scope.close_async(self.handled, _shield)
            except BaseException as exc:
                self._fault = exc
                raise
        self._has_ended = True

    def _job(self) -> Scope:
        """Open the scope of what follows the answer."""
        job = opened_scope(self._container, "job", in_thread=_in_thread)
        job.begin(asynchronous=True, resumed=False)
        return job

    def _made(self, scope: Any, receive: Any, send: Any) -> HTTPConnection:
        return Request(scope)  # its body is the handler's to read


class _Socket(_Served):
    """A websocket: a scope of its own, and one for each message that is received."""

    name = "websocket"
    _message: Scope | None = None

    async def serve(self, around: Any) -> None:
        self._asked[0][_KEY] = self
        with self._application.resumed():
            async with self.scope:
                await around(*self._asked)
                await _ended(self.scope, self.handled)

    async def route(self, routes: Any, scope: Any, receive: Any, send: Any) -> None:
        offered: Mapping[Any, Any] = {HTTPConnection: self._connection, WebSocket: self._connection}

        async def hear() -> Any:
            message = await receive()
            if message["type"] in ("websocket.receive", "websocket.disconnect"):
                await self._end_message(None)
            if message["type"] == "websocket.receive":
                self._message = opened_scope(self._container, "request", offered=offered, in_thread=_in_thread)
                self._message.begin(asynchronous=True)
            return message

        _note_what_is_handled(scope)
        try:
            if self._values is not None:
                offered = {**offered, **await self._asked_for(self._values)}
            self.scope.give(offered, declared_or_not=True)
            await routes(scope, hear, send)
        except BaseException as exc:
            await self._end_message(exc)
            raise
        await self._end_message(self.handled)

    async def _end_message(self, exc: BaseException | None) -> None:
        message, self._message = self._message, None
        if message is not None:
            await _ended(message, exc)

    def _made(self, scope: Any, receive: Any, send: Any) -> HTTPConnection:
        return WebSocket(scope, receive, send)


_KINDS: Mapping[str, type[_Http] | type[_Socket]] = {"http": _Http, "websocket": _Socket}
_request: ContextVar[_Http | None] = ContextVar("p8fs_cluster_request", default=None)


class _Unsent(Exception):
    """Ends the scope of a request whose answer was not sent, or not to its end where the scope lasts that long."""


def _is_last(message: _Message) -> bool:
    whole_file = message["type"] == "http.response.pathsend"
    return whole_file or (message["type"] == "http.response.body" and not message.get("more_body", False))


async def _ended(scope: Scope, exc: BaseException | None) -> None:
    await scope.end_async(exc, _shield)


def _shield() -> AbstractContextManager[object]:
    return anyio.CancelScope(shield=True)  # a client that has gone does not keep a scope from its end


async def _in_thread(step: Callable[[], Any]) -> Any:
    """Await a step in a worker thread, of which there are enough: those that wait for a connection must not keep one
    that has a connection to give back, or its handler, from running.
    """
    with anyio.CancelScope(shield=True):
        return await anyio.to_thread.run_sync(step, limiter=anyio.CapacityLimiter(1))


@asynccontextmanager
async def _nothing(app: Any) -> AsyncIterator[None]:
    yield
