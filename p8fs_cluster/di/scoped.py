"""The provider of values that belong to a scope."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from threading import get_ident
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeVar, overload

from dependency_injector import providers

from p8fs_cluster.di import context
from p8fs_cluster.di.by_type import without_covered
from p8fs_cluster.di.compiling import compiled_call, is_written
from p8fs_cluster.di.depth import LEVELS
from p8fs_cluster.di.entering import (
    Opened,
    begun,
    is_asynchronous,
    is_awaited,
    is_brought,
    open_async,
    open_async_generator,
    open_now,
    opens_asynchronously,
)
from p8fs_cluster.di.footprints import Footprint, footprint, path_to
from p8fs_cluster.di.keeping import Cell, Keeping, building, discard, watch
from p8fs_cluster.di.layers import Key, changes_made
from p8fs_cluster.di.overriding import Overridable
from p8fs_cluster.di.own_task import open_in_own_task
from p8fs_cluster.di.ownership import named
from p8fs_cluster.di.scope_values import Values
from p8fs_cluster.di.scopes import InThread, Scope
from p8fs_cluster.di.serving import has_ended, opened_here, serving_scope
from p8fs_cluster.di.teardown import Step
from p8fs_cluster.exceptions import InjectionError

__all__ = ["Scoped", "blocking_in", "scoped_in", "thread_for"]

T = TypeVar("T")


class _Compiled(NamedTuple):
    """The way in which a provider is called in an epoch."""

    epoch: object = None
    call: Any = None
    """Calls what it provides; None if that takes more than a plain call."""
    since: int = 0
    """The number of changes of overrides that had been made before."""
    owner: Any = None
    """A container that the provider is of."""


_in_force: Final = context.in_force.get
_building: Final = building.get


class Scoped(Keeping[T], providers.Callable[T]):
    """A provider whose value is built once in a scope, and closed at the scope's end with the exception that ends it.

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
    _compiled = _Compiled()
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
        return Overridable.__call__(self, *args, **kwargs) if args or kwargs else self.value_here()

    def value_here(self, otherwise: Callable[[Any], T] = Overridable.__call__) -> T:
        """Do as a call without arguments does; `otherwise` is called where that takes more than a look."""
        here = _in_force()
        scope = here if type(here) is Scope else here.scopes and here.scopes[0]
        if scope is not None and _building() is None:
            kept = scope.values.get(self)
            if kept is not None:
                epoch, value = kept.at_hand
                if epoch is context.epoch:
                    return value  # type: ignore[no-any-return]
            elif scope.name == self.scope and not scope.ended:
                compiled = self._compiled
                if compiled.epoch is not context.epoch:
                    compiled = self._compile()
                if compiled.call is not None and (compiled.owner is scope.container or self._is_of(scope, compiled)):
                    return self._opened_quickly(scope, compiled, otherwise)
        return otherwise(self)

    def _compile(self) -> _Compiled:
        """Find out whether building a value takes no more than a plain call, and keep the function for that."""
        epoch, found, call = context.epoch, footprint(self), None
        if self.is_async_mode_undefined():  # dependency-injector has not seen yet what it gives
            return _Compiled(epoch)
        is_plain = (
            context.takes_shortcuts()
            and self.wanted is None
            and is_written(self)
            and self.is_async_mode_enabled() == opens_asynchronously(self.provides)
        )
        is_near = len(found.scoped) < LEVELS and all(each.scope == self.scope for each in found.scoped)
        if is_plain and is_near and not (found.key or found.asynchronous or self.layers):
            call = compiled_call(self)
        self._compiled = _Compiled(epoch, call, found.since)
        return self._compiled

    def _is_of(self, scope: Scope, compiled: _Compiled) -> bool:
        """Return whether it is a provider of a scope's container, and remember that."""
        owns = scope.owns(self)
        if owns:
            self._compiled = compiled._replace(owner=scope.container)
        return owns

    def _opened_quickly(self, scope: Scope, compiled: _Compiled, otherwise: Callable[[Any], T]) -> T:
        """Do as `_provide` in the innermost scope, where neither overrides nor other scopes have a part."""
        epoch, call, since, _ = compiled
        mine = Values(scope, self, get_ident())
        if scope.values.setdefault(self, mine) is not mine:  # another thread was faster
            return otherwise(self)
        value: Any
        end: Any
        try:
            made = call()
            if type(made) is GeneratorType:
                value, end = begun(made), made
            else:
                value, end = self._opened(made)
            is_kept = epoch is context.epoch or since == changes_made()
            if is_kept:
                mine.value, mine.exit = value, end
                mine.ready = is_kept = scope.keep(mine)
        finally:
            mine.done()
        if not is_kept:  # another thread may have built the one that is kept by now
            discard(end)
        elif end is not made and is_awaited(value):
            if not is_brought(value):
                watch(mine.cells, mine, ())
            elif otherwise is Overridable.__call__:
                return value  # type: ignore[no-any-return]
        elif not scope.ended:
            mine.at_hand = (epoch, value)
            return value  # type: ignore[no-any-return]
        return otherwise(self)

    def take(self, key: Key | None = None, exc: BaseException | None = None) -> list[Step]:
        """Return nothing: what scopes keep ends with them."""
        return []

    @property
    def built(self) -> bool:
        """Return whether there is a value here and now."""
        try:
            kept = serving_scope(self).values.get(self)
        except InjectionError:
            return False
        cell = None if kept is None else kept.cell(footprint(self).key)
        return cell is not None and cell.ready

    def _provide(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        serving = serving_scope(self)
        keeper, scopes, number, _ = building.get() or (None, (), 0, 0)
        if keeper is not None and self.scope not in scopes and serving.number < number:
            raise InjectionError(
                f"{named(self)} ends with the scope {self.scope!r}, and was asked for while {named(keeper)} "
                f"was built, which lives longer: hand it {named(self)}.provider, to ask each time"
            )
        if self.wanted is not None:
            return serving.given(self)
        kept = serving.values_of(self)
        epoch, value = self._kept_value(kept, args, kwargs)
        if serving.ended:
            raise has_ended(self, serving)
        if context.takes_shortcuts() and not (self.layers or is_awaited(value)):
            kept.at_hand = (epoch, value)
        return value

    def _open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Opened:
        if self.provides is None:
            raise InjectionError(f"{named(self)} has nothing to provide: give it a function or a class")
        made: Any
        if footprint(self).asynchronous:  # dependency-injector takes a generator for a coroutine then
            call = functools.partial(_managed, self.provides)
            made = providers.Callable(call, *self.args, **without_covered(self, args))(*args, **kwargs)
        elif args and self.filled:
            made = providers.Callable(self.provides, *self.args, **without_covered(self, args))(*args, **kwargs)
        else:
            made = providers.Callable._provide(self, args, kwargs)  # type: ignore[attr-defined]
        return self._opened(made)

    def _opened(self, made: Any) -> Opened:
        if type(made) is GeneratorType:
            return Opened(begun(made), made)
        if type(made) is not AsyncGeneratorType and not is_asynchronous(made):
            return open_now(made)
        serving = serving_scope(self)
        if asyncio._get_running_loop() is None or not serving.asynchronous:
            if inspect.iscoroutine(made):
                made.close()
            raise InjectionError(
                f"{named(self)} is asynchronous: ask for it in `async def`, "
                f"in a scope that was opened by `async with container.scope({self.scope!r})`"
            )
        return open_in_own_task(_entered(made))

    def _fill(self, kept: Any, key: Key, cell: Cell, opened: Opened) -> bool:
        return super()._fill(kept, key, cell, opened) and kept.scope.keep(cell)

    def _may_need(self) -> frozenset[str]:
        return serving_scope(self).names

    def _require_lifetimes(self, found: Footprint) -> None:
        if not found.scoped:
            return
        names = serving_scope(self).names
        for needed in found.scoped:
            if needed.scope not in names:
                raise InjectionError(
                    f"{named(self)} lives as long as the scope {self.scope!r}, but "
                    f"{' → '.join(path_to(self, needed))} ends with {needed.scope!r}, which lies within it or beside"
                )

    def _copy_overridings(self, copied: Any, memo: Any) -> None:
        copied.scope, copied.wanted = self.scope, self.wanted
        super()._copy_overridings(copied, memo)


def thread_for(needed: Iterable[Scoped[Any]]) -> InThread | None:
    """Return what awaits the building of values that would block the event loop; None if it may happen here."""
    waiting = [each for each in needed if each.wanted is None and not each.built]
    if not waiting:
        return None
    inner = next((scope for scope in opened_here() if scope.serves(waiting[0])), None)
    return None if inner is None else inner.in_thread


def blocking_in(provider: providers.Provider[Any]) -> tuple[Scoped[Any], ...]:
    """Return what is scoped in what a provider is made of, if it can be built without an event loop; else nothing."""
    if footprint(provider).asynchronous or opens_asynchronously(getattr(provider, "provides", None)):
        return ()
    return scoped_in(provider)


def scoped_in(provider: providers.Provider[Any]) -> tuple[Scoped[Any], ...]:
    """Return what is scoped among what a provider is made of here and now, itself included."""
    return tuple(each for each in (provider, *footprint(provider).scoped) if isinstance(each, Scoped))


def _managed(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return _manager(call(*args, **kwargs))


def _manager(made: Any) -> Any:
    """Return the context manager over a generator, and anything else as it is."""
    if inspect.isasyncgen(made):
        return contextlib.asynccontextmanager(lambda: made)()
    if type(made) is GeneratorType:
        return contextlib.contextmanager(lambda: made)()
    return made


async def _entered(made: Any) -> Opened:
    if type(made) is AsyncGeneratorType:
        return await open_async_generator(made)
    return await open_async(_manager(await made) if is_awaited(made) else made)
