"""The context of a task or thread: the containers that were entered, and overrides for it alone."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Protocol

from p8fs_cluster.exceptions import InjectionError
from p8fs_cluster.forking import Stage, after_fork

__all__ = [
    "Cache",
    "Context",
    "View",
    "changed",
    "enter",
    "epoch",
    "forget_scope",
    "here",
    "in_force",
    "innermost",
    "isolate",
    "leave",
    "put_shortcut",
    "rejoin",
    "serve",
    "serving",
    "stop_serving",
    "takes_shortcuts",
    "within_scope",
]


class _Container(Protocol):
    """A container as this module sees it; its public names are its providers'."""

    parent_name: Any
    _entered: int
    _cache: Cache


class _Shortened(Protocol):
    """A provider that a function may answer for."""

    def shorten(self, call: Any) -> None: ...
    def drop_shortcut(self) -> None: ...


class Cache:
    """The values that `@inject` found. A change anywhere replaces `values`, so that nothing old is kept."""

    __slots__ = ("__weakref__", "values")

    def __init__(self) -> None:
        self.values: dict[Any, Any] = {}
        with _lock:
            _caches.add(self)


Entered = tuple[Any, Any, Any]
"""The innermost container, what lies around it, and what tells by `_entered` for how long that counts."""

Stack = tuple[Any, Any] | None
"""The innermost scope, and what lies around it; some of the scopes may have ended."""


class View(Protocol):
    """One task's or thread's view: immutable, so that a context that was copied keeps its own.

    A scope that was opened in a view is the next one itself.
    """

    @property
    def cache(self) -> Cache: ...
    @property
    def entered(self) -> Entered | None: ...
    @property
    def isolated(self) -> tuple[Any, ...]:
        """Return the overrides that only this context sees, innermost last."""

    @property
    def scopes(self) -> Stack: ...


class Context:
    """A view that is no scope."""

    __slots__ = ("cache", "entered", "isolated", "scopes")

    def __init__(self, cache: Cache, entered: Entered | None, isolated: tuple[Any, ...], scopes: Stack) -> None:
        self.cache = cache
        self.entered = entered
        self.isolated = isolated
        self.scopes = scopes


_lock = threading.RLock()  # a finalizer may come in between
_caches: weakref.WeakSet[Cache] = weakref.WeakSet()
_everywhere: list[Any] = []
_shortened: list[weakref.ref[_Shortened]] = []
_isolations = 0
"""How many overrides are isolated, in whatever contexts."""
_ROOT: Final = Context(Cache(), None, (), None)
epoch: object = object()
"""The span since the latest change, another object after each: what was found before it counts no more."""

in_force: ContextVar[View] = ContextVar("p8fs_cluster_context", default=_ROOT)


def here() -> View:
    """Return the view of this task or thread."""
    return in_force.get()


def changed() -> None:
    """Begin a new epoch: empty every cache. Lookups in progress write to an old one, which is discarded."""
    global epoch  # noqa: PLW0603
    with _lock:
        epoch = object()
        for cache in tuple(_caches):
            cache.values = {}
        for reference in _shortened:
            if (provider := reference()) is not None:
                provider.drop_shortcut()
        _shortened.clear()


@contextmanager
def serving(container: _Container) -> Iterator[None]:
    """Make `container` the active one here alone, as for one request: whoever entered it keeps it open."""
    entered = in_force.get().entered
    if entered is not None and entered[0] is container and entered[2]._entered:  # it is that already
        yield
        return
    serve(container, container)
    try:
        yield
    finally:
        stop_serving(container)


def serve(container: _Container, holder: Any) -> None:
    """Make `container` the active one here alone, as long as `holder._entered`."""
    context = in_force.get()
    entered = (container, context.entered, holder)
    in_force.set(Context(_cache(entered, context.isolated), entered, context.isolated, context.scopes))


def stop_serving(holder: Any) -> None:
    """Take back the latest `serve(…, holder)`, if there was one here."""
    context = in_force.get()
    before = context.entered
    entered = _served_without(holder, before)
    if entered is not before:
        in_force.set(_context(entered, context.isolated, context.scopes))


def within_scope(scope: Any, before: View) -> View:
    """Return a context in which a scope is the innermost one, and serves as long as `scope._entered`."""
    return _context((scope.container, before.entered, scope), before.isolated, (scope, before.scopes))


def forget_scope(scope: Any) -> None:
    """Take back that a scope was opened or resumed here, the latest time."""
    context = in_force.get()
    before = context.scopes
    scopes = _scopes_without(scope, before)
    if scopes is not before:
        in_force.set(_context(_served_without(scope, context.entered), context.isolated, scopes))


def enter(container: _Container) -> None:
    """Make `container` the active one, here and wherever nothing else was entered (a server's other threads)."""
    serve(container, container)
    with _lock:
        _everywhere.append(container)
        _ROOT.cache.values = {}


def leave(container: _Container) -> None:
    """Take back the latest `enter(container)`."""
    stop_serving(container)
    with _lock:
        position = len(_everywhere) - 1 - _everywhere[::-1].index(container)
        del _everywhere[position]
        _ROOT.cache.values = {}


def put_shortcut(provider: _Shortened, call: Any, since: object) -> None:
    """Let `call` answer for a provider until the next change, unless there was one after the epoch `since`.

    Nothing is put while an override is isolated somewhere, as shortcuts don't look at the context.
    """
    with _lock:
        if since is epoch and not _isolations:
            _shortened.append(weakref.ref(provider))
            provider.shorten(call)


def takes_shortcuts() -> bool:
    """Return whether `put_shortcut` puts any: not while an override is isolated somewhere."""
    return not _isolations


def isolate(override: Any) -> None:
    """Let this context alone, and those that will be copied from it, see `override`."""
    global _isolations  # noqa: PLW0603
    with _lock:
        _isolations += 1
    context = in_force.get()
    in_force.set(Context(Cache(), context.entered, (*context.isolated, override), context.scopes))


def rejoin(override: Any) -> None:
    """Take back `isolate(override)`; the context forgets the override if it was isolated there."""
    global _isolations  # noqa: PLW0603
    with _lock:
        _isolations -= 1
    context = in_force.get()
    if override in context.isolated:
        isolated = tuple(other for other in context.isolated if other is not override)
        in_force.set(_context(context.entered, isolated, context.scopes))


def innermost(context: View) -> tuple[Any | None, bool]:
    """Return the active container, None when none is entered, and whether what is found may be kept for `context`.

    It is the innermost one that is entered here, else the only one that is entered anywhere.

    :raises InjectionError: several are entered elsewhere, and none here.
    """
    stack = first = context.entered
    while stack is not None:
        if stack[2]._entered:
            return stack[0], stack is first
        stack = stack[1]
    with _lock:
        elsewhere = list(dict.fromkeys(_everywhere))
    if len(elsewhere) > 1:
        names = ", ".join(sorted(container.parent_name for container in elsewhere))
        raise InjectionError(
            f"which container serves this call? {len(elsewhere)} are entered elsewhere ({names}), and none in this "
            "thread or task: enter one here by `with container:`, or call this in a copy of the context that entered it"
        )
    return (elsewhere[0] if elsewhere else None), context.cache is _ROOT.cache


def _context(entered: Entered | None, isolated: tuple[Any, ...], scopes: Stack) -> Context:
    if entered is None and not isolated and scopes is None:
        return _ROOT
    return Context(_cache(entered, isolated), entered, isolated, scopes)


def _cache(entered: Entered | None, isolated: tuple[Any, ...]) -> Cache:
    if isolated:
        return Cache()
    cache: Cache = _ROOT.cache if entered is None else entered[0]._cache
    return cache


def _served_without(holder: Any, stack: Entered | None) -> Entered | None:
    """Return the stack without the innermost entry of a holder; the very same one if it has none."""
    if stack is None or stack[2] is holder:
        return stack and stack[1]
    container, outer, held = stack
    rest = _served_without(holder, outer)
    return stack if rest is outer else (container, rest, held)


def _scopes_without(scope: Any, stack: Stack) -> Stack:
    """Return the stack without the innermost place of a scope; the very same one if it has none."""
    if stack is None or stack[0] is scope:
        return stack and stack[1]
    inner, outer = stack
    rest = _scopes_without(scope, outer)
    return stack if rest is outer else (inner, rest)


def _after_fork() -> None:
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()


after_fork(Stage.LOCKS, _after_fork)
