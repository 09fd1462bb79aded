"""Scopes: what is built once for a request, a job or another span of work, and closed at its end."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import functools
import inspect
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextvars import ContextVar
from types import GeneratorType, TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from dependency_injector import providers

from p8fs_cluster.di import context
from p8fs_cluster.di.entering import (
    Opened,
    is_asynchronous,
    is_awaited,
    leave,
    open_async,
    open_generator,
    open_now,
    opens_asynchronously,
)
from p8fs_cluster.di.lookup import with_subcontainers
from p8fs_cluster.di.overriding import (
    Footprint,
    Key,
    Overridable,
    containers,
    described,
    footprint,
    forget,
    named,
    owned,
    path_to,
)
from p8fs_cluster.di.providers import Cell, Keeping, building
from p8fs_cluster.di.teardown import OPENED, Step
from p8fs_cluster.exceptions import InjectionError

__all__ = [
    "ORDER",
    "InThread",
    "Order",
    "Scope",
    "Scoped",
    "above",
    "blocking_in",
    "given_in",
    "innermost",
    "scoped_in",
    "thread_for",
]

T = TypeVar("T")

Order = tuple[tuple[str, ...], ...]
"""Chains of scopes, each from the longest to the shortest."""

ORDER: Order = (("application", "websocket", "request"), ("application", "job"))
"""The scopes that are declared for every container, and that the frameworks open."""

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Awaits a function that a worker thread runs."""

_Stack = tuple["Scope", "_Stack"] | None
_here: ContextVar[Any] = ContextVar("p8fs_cluster_scopes", default=None)
"""The scopes that were opened here, as a `_Stack`, innermost first; some may have ended."""


class Scoped(Keeping[T], providers.Callable[T]):
    """A provider whose value is built once in a scope. The scope's end closes the value, with the scope's exception if any.

    `provides` is called with the arguments, as by `providers.Resource`: what yields (a generator function, a context
    manager, sync or async) is opened and closed, anything else is the value. Whoever runs in the same scope gets the
    same value, threads and tasks too; concurrent scopes never share one. The scope is "request", or that of `within`.

    :raises InjectionError: when called where no such scope is open.

    >>> from p8fs_cluster import Container
    >>> def transaction():
    ...     yield "open"
    ...     print("committed")
    >>> class Application(Container):
    ...     transaction = Scoped(transaction)
    >>> application = Application()
    >>> with application.scope("request"):
    ...     application.transaction()
    'open'
    committed
    """

    scope = "request"
    wanted: Any = None
    """The type of a value that is given when the scope is opened; None for what is built."""

    if TYPE_CHECKING:

        @overload
        def __init__(self, provides: Callable[..., Iterator[T]], *args: Any, **kwargs: Any) -> None: ...
        @overload
        def __init__(self, provides: Callable[..., AsyncIterator[T]], *args: Any, **kwargs: Any) -> None: ...
        @overload
        def __init__(
            self, provides: Callable[..., contextlib.AbstractContextManager[T]], *args: Any, **kwargs: Any
        ) -> None: ...
        @overload
        def __init__(
            self, provides: Callable[..., contextlib.AbstractAsyncContextManager[T]], *args: Any, **kwargs: Any
        ) -> None: ...
        @overload
        def __init__(self, provides: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> None: ...
        @overload
        def __init__(self, provides: Callable[..., T], *args: Any, **kwargs: Any) -> None: ...
        @overload
        def __init__(self, provides: None = None) -> None: ...
        def __init__(self, provides: Any = None, *args: Any, **kwargs: Any) -> None: ...

    @classmethod
    def given(cls, wanted: type[T]) -> Scoped[T]:
        """Return a provider of the value that is given when the scope is opened, by its type or its name.

        >>> from p8fs_cluster import Container
        >>> class Application(Container):
        ...     tenant = Scoped.given(str).within("job")
        >>> application = Application()
        >>> with application.scope("job", values={"tenant": "acme"}):
        ...     application.tenant()
        'acme'
        """
        made: Scoped[T] = cls()
        made.wanted = wanted
        return made

    def within(self, scope: str) -> Self:
        """Make it live in that scope, and return it."""
        self.scope = scope
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> T:  # type: ignore[override]
        here = _here.get()
        if here is not None and building.get() is None:
            version, values = here[0].latest
            if version is context.version and self in values and not context.in_force.get().isolated:
                found: T = values[self]
                return found
        return Overridable.__call__(self, *args, **kwargs)

    def take(self, key: Key | None = None, exc: BaseException | None = None) -> list[Step]:
        """Return nothing: what scopes keep ends with them."""
        return []

    @property
    def built(self) -> bool:
        """Return whether there is a value here and now."""
        try:
            cell = _serving(self).cells_of(self).cells.get(self.footprint().key)
        except InjectionError:
            return False
        return cell is not None and cell.ready

    def _provide(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        serving = _serving(self)
        keeper = building.get()
        if keeper is not None and self.scope not in keeper.scopes and serving.number < keeper.number:
            raise InjectionError(
                f"{named(self)} ends with the scope {self.scope!r}, and was asked for while {named(keeper.provider)} "
                f"was built, which lives longer: hand it {named(self)}.provider, to ask each time"
            )
        if self.wanted is not None:
            return serving.given(self)
        kept = serving.cells_of(self)
        version, value = self._kept_value(kept, args, kwargs)
        if serving.ended:
            raise _has_ended(self, serving)
        if not (context.in_force.get().isolated or self.layers or is_awaited(value)):
            serving.remember(self, version, value)
        return value

    def _open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Opened:
        if self.provides is None:
            raise InjectionError(f"{named(self)} has nothing to provide: give it a function or a class")
        made: Any
        if self.footprint().asynchronous:  # dependency-injector takes a generator for a coroutine then
            call = functools.partial(_managed, self.provides)
            made = providers.Callable(call, *self.args, **self.kwargs)(*args, **kwargs)
        else:
            made = providers.Callable._provide(self, args, kwargs)  # type: ignore[attr-defined]
        if type(made) is GeneratorType:
            return open_generator(made)
        made = _manager(made)
        if not is_asynchronous(made):
            return open_now(made)
        serving = _serving(self)
        if asyncio._get_running_loop() is None or not serving.asynchronous:
            if inspect.iscoroutine(made):
                made.close()
            raise InjectionError(
                f"{named(self)} is asynchronous: ask for it in `async def`, "
                f"in a scope that was opened by `async with container.scope({self.scope!r})`"
            )
        return _open_in_a_task_of_its_own(made)

    def _may_need(self) -> frozenset[str]:
        return frozenset(scope.name for scope in _serving(self).chain())

    def _require_lifetimes(self, footprint: Footprint) -> None:
        names = {scope.name for scope in _serving(self).chain()}
        for needed in footprint.scoped:
            if needed.scope not in names:
                raise InjectionError(
                    f"{named(self)} lives as long as the scope {self.scope!r}, but "
                    f"{' → '.join(path_to(self, needed))} ends with {needed.scope!r}, which lies within it or beside"
                )

    def _copy_overridings(self, copied: Any, memo: Any) -> None:
        copied.scope, copied.wanted = self.scope, self.wanted
        super()._copy_overridings(copied, memo)


class _Cells:
    """The values of one provider in one scope, one for each set of layers that they depend on."""

    def __init__(self, provider: Scoped[Any]) -> None:
        self.provider = provider
        self.cells: dict[Key, Cell] = {}

    def take(self, key: Key | None = None, exc: BaseException | None = None) -> list[Step]:
        """Forget the value of an override that ends, and return what closes it, told of the override's exception."""
        cell = self.cells.pop(key or (), None)
        if cell is None or not cell.ready:
            return []
        return [(cell.opened_at, described(self.provider), lambda: leave(cell.opened, exc))]


class Scope:
    """An open scope of a container, in the task or thread that opened it and those that copy its context.

    Leaving closes what was built in it, in the reverse order of building; each step sees the block's exception, or the
    one that an earlier step raised.
    """

    def __init__(
        self,
        container: Any,
        name: str,
        values: Mapping[Any, Any] | None = None,
        *,
        order: Order = ORDER,
    ) -> None:
        known = {each for chain in order for each in chain}
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else "declare it in the container's `scope_order`"
            raise InjectionError(f"there is no scope {name!r}: {hint}")
        self.name = name
        self.container = container
        self.asynchronous = False
        """True if asynchronous values can be opened in this scope."""
        self.latest: tuple[object, dict[Any, Any]] = (None, {})
        """The version of the context, and the values that are the same as long as that is in force."""
        self.outer: Scope | None = None
        self.ended = False
        self.number = 0
        """The number of its opening, counted together with everything else that is opened."""
        self.successor: Scope | None = None
        """The scope that takes the place of this one after its end."""
        self._entered = 0
        """1 while the container serves calls because of this scope; read by `di.context`."""
        self._order = order
        self.in_thread: InThread | None = None
        """Awaits what opens or closes a synchronous value of an asynchronous scope; None: that happens at once."""
        self._lock = threading.Lock()
        self._cells: dict[Scoped[Any], _Cells] = {}
        self._given: dict[Scoped[Any], Any] = {}
        if values:
            self.give(values)

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end(exc)

    async def __aenter__(self) -> Self:
        self.begin(asynchronous=True)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.end_async(exc)

    def begin(self, *, asynchronous: bool = False) -> None:
        """Open it here.

        :raises InjectionError: it was opened before, or it may not be opened within the scopes that are open here.
        """
        if self.ended or self._entered:
            raise InjectionError(f"the scope {self.name!r} was opened before: ask the container for another one")
        self.outer = self._enclosing()
        self.asynchronous = asynchronous
        self._entered, self.number = 1, next(OPENED)
        self.resume()

    def resume(self) -> None:
        """Make it, and its container, the ones in force here, as where it was opened."""
        context.serve(self.container, self)
        _here.set((self, _here.get()))

    def suspend(self) -> None:
        """Take back `resume`."""
        context.stop_serving(self)
        _here.set(_without(self, _here.get()))

    @contextlib.contextmanager
    def resumed(self) -> Iterator[Self]:
        """Make it the one in force here for a block, which does not end it."""
        self.resume()
        try:
            yield self
        finally:
            self.suspend()

    def end(self, exc: BaseException | None = None) -> None:
        """Close what was built in it, told how it came to its end. What a step raises, the next ones see, and we raise.

        :raises InjectionError: something in it is asynchronous.
        """
        raised = exc
        try:
            for cell in self._closing():
                try:
                    left: Any = leave(cell.opened, raised)
                    if inspect.isawaitable(left):
                        raise InjectionError(f"the scope {self.name!r} has asynchronous values: use `async with`")
                except BaseException as fault:
                    raised = fault
        finally:
            self._stop_serving()
        if raised is not exc and raised is not None:
            raise raised

    async def end_async(self, exc: BaseException | None = None) -> None:
        """Do as `end`, and await what is asynchronous."""
        raised = exc
        try:
            for cell in self._closing():
                try:
                    if self.in_thread is not None and not asyncio.isfuture(cell.opened.value):
                        await self.in_thread(functools.partial(leave, cell.opened, raised))
                    elif inspect.isawaitable(left := leave(cell.opened, raised)):
                        await left
                except BaseException as fault:
                    raised = fault
        finally:
            self._stop_serving()
        if raised is not exc and raised is not None:
            raise raised

    def give(self, values: Mapping[Any, Any], *, declared_or_not: bool = False) -> None:
        """Give it values, by the type or the name that `Scoped.given` declares them with.

        :raises InjectionError: nothing is declared for one of them, unless that may be; or it is of another type.
        """
        declared = given_in(self.container, self.name)
        for asked, value in values.items():
            called_so = self.container.providers.get(asked) if isinstance(asked, str) else None
            fitting = [each for each in declared if each.wanted is asked or each is called_so]
            if not fitting and not declared_or_not:
                told = ", ".join(_name_of(each.wanted) for each in declared) or "none"
                raise InjectionError(
                    f"the scope {self.name!r} was given a value for {_name_of(asked)}, which "
                    f"{self.container.parent_name} does not declare by Scoped.given(…); declared for it: {told}"
                )
            for each in fitting:
                if isinstance(each.wanted, type) and not _is_one(value, each.wanted):
                    raise InjectionError(
                        f"the scope {self.name!r} was given {type(value).__name__} for {_name_of(asked)}, which wants "
                        f"{_name_of(each.wanted)}"
                    )
                self._given[each] = value

    def chain(self) -> Iterator[Scope]:
        """Yield this scope and those that it lies in."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.outer

    def cells_of(self, provider: Scoped[Any]) -> _Cells:
        """Return where a provider's values in this scope are."""
        return self._cells.get(provider) or self._cells.setdefault(provider, _Cells(provider))

    def given(self, provider: Scoped[Any]) -> Any:
        """Return the value that was given for a provider.

        :raises InjectionError: none was.
        """
        try:
            return self._given[provider]
        except KeyError:
            wanted = _name_of(provider.wanted)
            raise InjectionError(
                f"the scope {self.name!r} was opened without a value for {wanted}: "
                f"container.scope({self.name!r}, values={{{wanted}: …}}), or `values=` where a framework opens it"
            ) from None

    def serves(self, provider: Scoped[Any]) -> bool:
        """Return whether a provider is one of this scope's container, or of none."""
        if provider in self._cells or provider in self._given or provider in _scoped(self.container):
            return True
        return not any(provider in _scoped(other) for other in tuple(containers))

    def remember(self, provider: Scoped[Any], version: object, value: Any) -> None:
        """Keep a value at hand for as long as nothing is overridden."""
        kept = self.latest
        if kept[0] is not version:
            kept = self.latest = (version, {})
        kept[1][provider] = value
        if self.ended:
            self.latest = (None, {})

    def __repr__(self) -> str:
        return f"<Scope {self.name}{' ended' if self.ended else ''}>"

    def _enclosing(self) -> Scope | None:
        """Return the nearest open scope that may lie around this one; a scope beside it is not seen from within."""
        around = above(self._order, self.name)
        inner = innermost(self.container)
        for scope in inner.chain() if inner else ():
            if self.name in above(self._order, scope.name) and not scope.ended:
                raise InjectionError(
                    f"the scope {self.name!r} can't be opened within {scope.name!r}: open it before, around it"
                )
            if scope.name in around and not scope.ended:
                return scope
        return None

    def disown(self) -> dict[Scoped[Any], _Cells]:
        """End it in a forked child without closing what is the parent's, and return that."""
        self.ended, self.latest = True, (None, {})
        self._lock = threading.Lock()
        cells, self._cells = self._cells, {}
        return cells

    def _stop_serving(self) -> None:
        """Take the container out of force, which what is closed in the scope may still ask for."""
        self._entered = 0
        self.suspend()

    def _closing(self) -> list[Cell]:
        """End it, and return what is to be closed, the last built first."""
        with self._lock:
            if self.ended:
                return []
            self.ended = True
        self.latest = (None, {})
        cells = []
        for kept in tuple(self._cells.values()):
            for key in tuple(kept.cells):
                cell = kept.cells.pop(key, None)
                if cell is not None and cell.ready:
                    forget(kept, key)
                    if cell.opened.exit is not None:
                        cells.append(cell)
        return sorted(cells, key=lambda cell: cell.opened_at, reverse=True)


def _opened_here() -> Iterator[Scope]:
    stack = _here.get()
    while stack is not None:
        scope, stack = stack
        if scope.ended and scope.successor is not None:
            scope = scope.successor
        yield scope


def _without(scope: Scope, stack: _Stack) -> _Stack:
    if stack is None:
        return None
    inner, outer = stack
    return outer if inner is scope else (inner, _without(scope, outer))


def innermost(container: Any) -> Scope | None:
    """Return the innermost scope of a container that was opened here; it may have ended."""
    return next((scope for scope in _opened_here() if scope.container is container), None)


def thread_for(needed: Iterable[Scoped[Any]]) -> InThread | None:
    """Return what awaits the building of values that would block the event loop; None if it may happen here."""
    waiting = [each for each in needed if each.wanted is None and not each.built]
    if not waiting:
        return None
    inner = next((scope for scope in _opened_here() if scope.serves(waiting[0])), None)
    return None if inner is None else inner.in_thread


def blocking_in(provider: providers.Provider[Any]) -> tuple[Scoped[Any], ...]:
    """Return what is scoped in what a provider is made of, if it can be built without an event loop; else nothing."""
    if footprint(provider).asynchronous or opens_asynchronously(getattr(provider, "provides", None)):
        return ()
    return scoped_in(provider)


def scoped_in(provider: providers.Provider[Any]) -> tuple[Scoped[Any], ...]:
    """Return what is scoped among what a provider is made of here and now, itself included."""
    return tuple(each for each in (provider, *footprint(provider).scoped) if isinstance(each, Scoped))


def above(order: Order, name: str) -> set[str]:
    """Return the scopes that may lie around another one."""
    return {each for chain in order if name in chain for each in chain[: chain.index(name)]}


def given_in(container: Any, scope: str) -> Iterable[Scoped[Any]]:
    """Return the providers of a container whose values are to be given when that scope is opened."""
    return [provider for provider in _scoped(container) if provider.wanted is not None and provider.scope == scope]


def _serving(provider: Scoped[Any]) -> Scope:
    """Return the open scope that a provider's value belongs to here.

    :raises InjectionError: there is none.
    """
    name, strangers = provider.scope, []
    for inner in _opened_here():
        if inner.serves(provider):
            for scope in inner.chain():
                if scope.name == name:
                    if scope.ended:
                        raise _has_ended(provider, scope)
                    return scope
            break
        strangers.append(inner)
    stranger = next((inner.container for inner in strangers if inner.name == name), None)
    if stranger is not None:
        raise InjectionError(
            f"{named(provider)}: the scope {name!r} that is open here is one of another container "
            f"({stranger.parent_name})"
        )
    raise InjectionError(
        f"{named(provider)} belongs to the scope {name!r}, and none is open in this task or thread: write "
        f"`with container.scope({name!r}):`. {_OPENED_BY.get(name, '')}"
        "A thread of your own sees the scope if it runs in a copy of the context"
    )


_OPENED_BY: Mapping[str, str] = {
    "application": "The frameworks open one for as long as an application runs. ",
    "websocket": "p8fs_cluster.frameworks opens one for each websocket. ",
    "request": "p8fs_cluster.frameworks opens one for each request and each message of a websocket. ",
    "job": "p8fs_cluster.frameworks opens one for each task, job, command and background task. ",
}


_inherited: list[Any] = []
"""The values of the parent process's scopes, referenced so that nothing finalizes them in this child."""


def _after_fork() -> None:
    _inherited.extend(scope.disown() for scope in _opened_here())


os.register_at_fork(after_in_child=_after_fork)


def _has_ended(provider: Scoped[Any], scope: Scope) -> InjectionError:
    return InjectionError(
        f"{named(provider)}: the scope {scope.name!r} of this task or thread has ended, and what was open in it is "
        "closed: what goes on afterwards needs a scope of its own"
    )


def _name_of(wanted: Any) -> str:
    return getattr(wanted, "__name__", None) or str(wanted)


def _scoped(container: Any) -> dict[Scoped[Any], None]:
    """Return the scoped providers of a container and of what it is made of, found out once until something changes."""
    kept = container._cache.values
    found: dict[Scoped[Any], None] | None = kept.get(_scoped)
    if found is None:
        all_of_it = owned(provider for each in with_subcontainers(container) for provider in each.providers.values())
        found = kept[_scoped] = {provider: None for provider in all_of_it if isinstance(provider, Scoped)}
    return found


def _is_one(value: Any, wanted: type) -> bool:
    try:
        return isinstance(value, wanted)
    except TypeError:  # a protocol that can't be asked
        return True


def _managed(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return _manager(call(*args, **kwargs))


def _manager(made: Any) -> Any:
    """Return the context manager over a generator, and anything else as it is."""
    if inspect.isasyncgen(made):
        return contextlib.asynccontextmanager(lambda: made)()
    if type(made) is GeneratorType:
        return contextlib.contextmanager(lambda: made)()
    return made


def _open_in_a_task_of_its_own(made: Any) -> Opened:
    """Open and close in one task, because a task group or a timeout within must end where it began."""
    loop = asyncio.get_running_loop()
    value: asyncio.Future[Any] = loop.create_future()
    told: asyncio.Future[tuple[Any, ...]] = loop.create_future()

    async def live() -> None:
        try:
            opened = await open_async(_manager(await made) if is_awaited(made) else made)
        except BaseException as exc:
            if isinstance(exc, asyncio.CancelledError):
                value.cancel()
                raise
            value.set_exception(exc)
            return
        building.set(None)
        if told.done():
            value.set_exception(InjectionError("the scope has ended before its value was open"))
            value.exception()  # it is no fault if nobody waits any more
        else:
            value.set_result(opened.value)
        exc_info = await told
        if opened.exit is not None and is_awaited(left := opened.exit(*exc_info)):
            await left

    async def end(*exc_info: Any) -> None:
        if not told.done():
            told.set_result(exc_info)
        await task

    task = asyncio.ensure_future(live())
    return Opened(value, end)
