"""Scopes: spans of work such as a request or a job, whose values are closed at their end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from p8fs_cluster.di import context
from p8fs_cluster.di.entering import leave
from p8fs_cluster.di.footprints import forget
from p8fs_cluster.di.keeping import Cell
from p8fs_cluster.di.layers import Key
from p8fs_cluster.di.overriding import Overridable
from p8fs_cluster.di.ownership import containers, described
from p8fs_cluster.di.scope_order import ORDER, Order, above, names_in, unknown_scope
from p8fs_cluster.di.serving import (
    Stack,
    Succession,
    given_in,
    here,
    innermost,
    name_of_wanted,
    opened_here,
    scoped_of,
    wanted_by,
)
from p8fs_cluster.di.teardown import OPENED, Step
from p8fs_cluster.exceptions import InjectionError
from p8fs_cluster.forking import Stage, after_fork

__all__ = ["InThread", "Scope", "Shield"]

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Awaits a function that a worker thread runs."""

Shield = Callable[[], contextlib.AbstractContextManager[object]]
"""Returns a block that no cancellation interrupts."""


class _Cells:
    """The values of one provider in one scope, one for each set of layers that they depend on."""

    def __init__(self, provider: Overridable[Any]) -> None:
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

    asynchronous = False
    """True if asynchronous values can be opened in this scope."""
    latest: tuple[object, dict[Any, Any]] = (None, {})
    """The epoch of the context, and the values that are the same as long as that is in force."""
    outer: Scope | None = None
    ended = False
    names: frozenset[str] = frozenset()
    """The names of this scope and of those that it lies in, once it is open."""
    number = 0
    """The number of its opening, counted together with everything else that is opened."""
    succession: Succession | None = None
    """The scope that takes the place of this one after its end."""
    in_thread: InThread | None = None
    """Awaits what opens or closes a synchronous value of an asynchronous scope; None: that happens at once."""
    _entered = 0
    """1 while the container serves calls because of this scope; read by `di.context`."""
    _given: Mapping[Overridable[Any], Any] = {}
    _resumed: Any = (None, None, None)
    """The latest stack and context that it was resumed by, and the context before."""

    def __init__(
        self,
        container: Any,
        name: str,
        values: Mapping[Any, Any] | None = None,
        *,
        order: Order = ORDER,
    ) -> None:
        if name not in names_in(order):
            raise unknown_scope(name, order)
        self.name = name
        self.container = container
        self._order = order
        self._lock = threading.Lock()
        self._cells: dict[Overridable[Any], _Cells] = {}
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

    def begin(self, *, asynchronous: bool = False, resumed: bool = True) -> None:
        """Open it here, and make it the one in force here unless `resumed` is false.

        :raises InjectionError: it was opened before, or it may not be opened within the scopes that are open here.
        """
        if self.ended or self._entered:
            raise InjectionError(f"the scope {self.name!r} was opened before: ask the container for another one")
        if here.get() is not None:
            self.outer = self._enclosing()
        self.names = _alone(self.name) if self.outer is None else self.outer.names | {self.name}
        if asynchronous:
            self.asynchronous = True
        self._entered, self.number = 1, next(OPENED)
        if resumed:
            self.resume()

    def resume(self) -> None:
        """Make it, and its container, the ones in force here, as where it was opened."""
        before = context.in_force.get()
        inside = context.serve(self.container, self)
        stack = (self, here.get())
        here.set(stack)
        self._resumed = (stack, inside, before)

    def suspend(self) -> None:
        """Take back `resume`."""
        stack, inside, before = self._resumed
        if here.get() is stack and context.in_force.get() is inside:  # nothing was opened in it that is open still
            context.in_force.set(before)
            here.set(stack[1])
            self._resumed = (None, None, None)
        elif _is_in(self, here.get()):
            context.stop_serving(self)
            here.set(_without(self, here.get()))

    def give_way(self, succession: Succession) -> None:
        """After its end, be looked up here once more, and give way to the scope that takes its place then."""
        self.succession = succession
        here.set((self, here.get()))

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
                    if left is not None and inspect.isawaitable(left):
                        raise InjectionError(f"the scope {self.name!r} has asynchronous values: use `async with`")
                except BaseException as fault:
                    raised = fault
        finally:
            self._stop_serving()
        if raised is not exc and raised is not None:
            raise raised

    async def end_async(self, exc: BaseException | None = None, shield: Shield = contextlib.nullcontext) -> None:
        """Do as `end`, and await what is asynchronous, within `shield()`."""
        raised = exc
        try:
            if cells := self._closing():
                with shield():
                    raised = await self._left(cells, exc)
        finally:
            self._stop_serving()
        if raised is not exc and raised is not None:
            raise raised

    async def _left(self, cells: list[Cell], raised: BaseException | None) -> BaseException | None:
        """Close values, and return the exception that the last step has left."""
        for cell in cells:
            try:
                if self.in_thread is not None and not asyncio.isfuture(cell.opened.value):
                    await self.in_thread(functools.partial(leave, cell.opened, raised))
                elif inspect.isawaitable(left := leave(cell.opened, raised)):
                    await left
            except BaseException as fault:
                raised = fault
        return raised

    def give(self, values: Mapping[Any, Any], *, declared_or_not: bool = False) -> None:
        """Give it values, by the type or the name that `Scoped.given` declares them with.

        :raises InjectionError: nothing is declared for one of them, unless that may be; or it is of another type.
        """
        if not values:
            return
        declared = given_in(self.container, self.name)
        if not declared and declared_or_not:
            return
        for asked, value in values.items():
            called_so = self.container.providers.get(asked) if isinstance(asked, str) else None
            fitting = [each for each in declared if wanted_by(each) is asked or each is called_so]
            if not fitting and not declared_or_not:
                told = ", ".join(name_of_wanted(wanted_by(each)) for each in declared) or "none"
                raise InjectionError(
                    f"the scope {self.name!r} was given a value for {name_of_wanted(asked)}, which "
                    f"{self.container.parent_name} does not declare by Scoped.given(…); declared for it: {told}"
                )
            for each in fitting:
                if isinstance(wanted_by(each), type) and not _is_one(value, wanted_by(each)):
                    raise InjectionError(
                        f"the scope {self.name!r} was given {type(value).__name__} for {name_of_wanted(asked)}, "
                        f"which wants {name_of_wanted(wanted_by(each))}"
                    )
                self._given = {**self._given, each: value}

    def chain(self) -> Iterator[Scope]:
        """Yield this scope and those that it lies in."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.outer

    def owns(self, provider: Overridable[Any]) -> bool:
        """Return whether a provider is one of this scope's container."""
        return provider in scoped_of(self.container)

    def cells_of(self, provider: Overridable[Any]) -> _Cells:
        """Return where a provider's values in this scope are."""
        return self._cells.get(provider) or self._cells.setdefault(provider, _Cells(provider))

    def given(self, provider: Overridable[Any]) -> Any:
        """Return the value that was given for a provider.

        :raises InjectionError: none was.
        """
        try:
            return self._given[provider]
        except KeyError:
            wanted = name_of_wanted(wanted_by(provider))
            raise InjectionError(
                f"the scope {self.name!r} was opened without a value for {wanted}: "
                f"container.scope({self.name!r}, values={{{wanted}: …}}), or `values=` where a framework opens it"
            ) from None

    def serves(self, provider: Overridable[Any]) -> bool:
        """Return whether a provider is one of this scope's container, or of none."""
        if provider in self._cells or provider in self._given or self.owns(provider):
            return True
        return not any(provider in scoped_of(other) for other in tuple(containers))

    def remember(self, provider: Overridable[Any], epoch: object, value: Any) -> None:
        """Keep a value at hand for as long as nothing is overridden."""
        kept = self.latest
        if kept[0] is not epoch:
            kept = self.latest = (epoch, {})
        kept[1][provider] = value
        if self.ended:
            self.latest = (None, {})

    def __repr__(self) -> str:
        return f"<Scope {self.name}{' ended' if self.ended else ''}>"

    def _enclosing(self) -> Scope | None:
        """Return the nearest open scope that may lie around this one; a scope beside it is not seen from within."""
        around = above(self._order, self.name)
        nearest: Scope = here.get()[0]
        inner = nearest if nearest.container is self.container and not nearest.ended else innermost(self.container)
        for scope in inner.chain() if inner else ():
            if self.name in above(self._order, scope.name) and not scope.ended:
                raise InjectionError(
                    f"the scope {self.name!r} can't be opened within {scope.name!r}: open it before, around it"
                )
            if scope.name in around and not scope.ended:
                return scope
        return None

    def disown(self) -> dict[Overridable[Any], _Cells]:
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
        cells: list[Cell] = []
        if not self._cells:
            return cells
        for kept in tuple(self._cells.values()):
            for key in tuple(kept.cells):
                cell = kept.cells.pop(key, None)
                if cell is not None and cell.ready:
                    if key:
                        forget(kept, key)
                    if cell.opened.exit is not None:
                        cells.append(cell)
        if len(cells) > 1:
            cells.sort(key=_opened_at, reverse=True)
        return cells


@functools.lru_cache(64)
def _alone(name: str) -> frozenset[str]:
    return frozenset((name,))


def _opened_at(cell: Cell) -> int:
    return cell.opened_at


def _is_in(scope: Scope, stack: Stack) -> bool:
    while stack is not None and stack[0] is not scope:
        stack = stack[1]
    return stack is not None


def _without(scope: Scope, stack: Stack) -> Stack:
    if stack is None:
        return None
    inner, outer = stack
    return outer if inner is scope else (inner, _without(scope, outer))


_inherited: list[Any] = []
"""The values of the parent process's scopes, referenced so that nothing finalizes them in this child."""


def _after_fork() -> None:
    _inherited.extend(scope.disown() for scope in opened_here())


after_fork(Stage.CONTAINERS, _after_fork)


def _is_one(value: Any, wanted: type) -> bool:
    try:
        return isinstance(value, wanted)
    except TypeError:  # a protocol that can't be asked
        return True
