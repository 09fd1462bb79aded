"""Scopes: spans of work such as a request or a job, whose values are closed at their end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self

from p8fs_cluster.di import context
from p8fs_cluster.di.entering import end_by
from p8fs_cluster.di.keeping import Cell
from p8fs_cluster.di.overriding import Overridable
from p8fs_cluster.di.ownership import containers
from p8fs_cluster.di.scope_order import Kind, above
from p8fs_cluster.di.scope_values import Values
from p8fs_cluster.di.serving import (
    Succession,
    given_in,
    innermost,
    name_of_wanted,
    opened_here,
    scoped_of,
    wanted_by,
)
from p8fs_cluster.di.teardown import OPENED
from p8fs_cluster.exceptions import InjectionError
from p8fs_cluster.forking import Stage, after_fork

__all__ = ["InThread", "Scope", "Shield"]

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Awaits a function that a worker thread runs."""

Shield = Callable[[], contextlib.AbstractContextManager[object]]
"""Returns a block that no cancellation interrupts."""

_in_force: Final = context.in_force.get
_put_in_force: Final = context.in_force.set


class Scope:
    """An open scope of a container, in the task or thread that opened it and those that copy its context.

    Leaving closes what was built in it, in the reverse order of building; each step sees the block's exception, or the
    one that an earlier step raised.
    """

    asynchronous = False
    """True if asynchronous values can be opened in this scope."""
    outer: Scope | None = None
    ended = False
    number = 0
    """The number of its opening, counted together with everything else that is opened."""
    layered: tuple[Values, ...] = ()
    """The values that layers may know."""
    succession: Succession | None = None
    """The scope that takes the place of this one after its end."""
    in_thread: InThread | None = None
    """Awaits what opens or closes a synchronous value of an asynchronous scope; None: that happens at once."""
    _entered = 0
    """1 while the container serves calls because of this scope; read by `di.context`."""
    _given: Mapping[Overridable[Any], Any] = {}
    _outside: context.View
    """The context that was in force when it was opened."""
    _within: Scope | None = None
    """The scope that it was opened within as if that had been resumed."""
    _before: context.View
    """The context that would have been in force then."""
    _resumed: tuple[Any, Any] = (None, None)
    """The context in which it was resumed the latest time, and the one in which it is in force then."""

    def __init__(self, container: Any, kind: Kind, values: Mapping[Any, Any] | None = None) -> None:
        self.name, self._order, self._around = kind
        self.container = container
        self.values: dict[Overridable[Any], Values] = {}
        self.closing: dict[Cell, None] = {}
        """The places of values to be closed, in the order of opening; whoever takes one out closes it."""
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

    def begin(self, *, asynchronous: bool = False, resumed: bool = True, within: Scope | None = None) -> None:
        """Open it here, and make it the one in force here unless `resumed` is false; as if `within` were resumed.

        :raises InjectionError: it was opened before, or it may not be opened within the scopes that are open here.
        """
        if self.ended or self._entered:
            raise InjectionError(f"the scope {self.name!r} was opened before: ask the container for another one")
        self._outside = before = _in_force()
        if within is not None:
            self._within = within
            before = within.inside(before)
        scopes = before.scopes
        if scopes is not None:
            nearest: Scope = scopes[0]
            is_around = nearest.name in self._around and nearest.container is self.container and not nearest.ended
            self.outer = nearest if is_around else self._enclosing(nearest)
        self.asynchronous = asynchronous
        self._entered = 1
        self.number = next(OPENED)
        if resumed:
            self.isolated = isolated = before.isolated
            self.cache = context.Cache() if isolated else self.container._cache
            self._before = before
            _put_in_force(self)

    @property
    def names(self) -> frozenset[str]:
        """Return the names of this scope and of those that it lies in."""
        return frozenset(each.name for each in self.chain())

    @property
    def entered(self) -> context.Entered:
        """Return the containers that are entered where it was opened, as the context in force."""
        return self.container, self._before.entered, self

    @property
    def scopes(self) -> context.Stack:
        """Return the scopes that are open where it was opened, as the context in force."""
        return self, self._before.scopes

    def resume(self) -> None:
        """Make it, and its container, the ones in force here, as where it was opened."""
        _put_in_force(self.inside(_in_force()))

    def inside(self, before: context.View) -> context.View:
        """Return the context in which it is in force, where another one is so far."""
        resumed = self._resumed
        if resumed[0] is not before:
            resumed = self._resumed = before, context.within_scope(self, before)
        inside: context.View = resumed[1]
        return inside

    def suspend(self) -> None:
        """Take back `resume`."""
        before, inside = self._resumed
        if inside is not None and _in_force() is inside:  # nothing was opened in it that is open still
            _put_in_force(before)
        else:
            context.forget_scope(self)

    def leave(self) -> None:
        """Take it out of force after its end."""
        self._entered = 0
        if _in_force() is self:  # nothing was opened in it that is open still
            _put_in_force(self._outside)
        else:
            context.forget_scope(self)
            if self._within is not None:
                context.forget_scope(self._within)

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
            self.stop()
            while self.closing:
                cell = self._taken()
                try:
                    is_promised = self.asynchronous and asyncio.isfuture(cell.value)
                    left = None if is_promised else end_by(cell.exit, raised)
                    if is_promised or (left is not None and inspect.isawaitable(left)):
                        raise InjectionError(f"the scope {self.name!r} has asynchronous values: use `async with`")
                except BaseException as fault:
                    raised = fault
        finally:
            self.leave()
        if raised is not exc and raised is not None:
            raise raised

    async def end_async(self, exc: BaseException | None = None, shield: Shield = contextlib.nullcontext) -> None:
        """Do as `end`, and await what is asynchronous, within `shield()`."""
        try:
            await self.close_async(exc, shield)
        finally:
            self.leave()

    async def close_async(self, exc: BaseException | None, shield: Shield) -> None:
        """Do as `end_async`, and leave it in force, as one that has ended."""
        if self.stop():
            raised = await self._left(exc, shield)
            if raised is not exc and raised is not None:
                raise raised

    def stop(self) -> bool:
        """Let it have ended, and return whether something is to be closed."""
        self.ended = True
        if self.values:
            self.values = {}
            for each in self.layered:
                each.forget_layers()
        return bool(self.closing)

    async def _left(self, raised: BaseException | None, shield: Shield) -> BaseException | None:
        """Close values, and return the exception that the last step has left."""
        while self.closing:
            cell = self._taken()
            try:
                end = functools.partial(end_by, cell.exit, raised)
                in_thread = None if asyncio.isfuture(cell.value) else self.in_thread
                if inspect.isawaitable(left := end() if in_thread is None else in_thread(end)):
                    with shield():
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

    def values_of(self, provider: Overridable[Any]) -> Values:
        """Return where a provider's values in this scope are."""
        return self.values.get(provider) or self.values.setdefault(provider, Values(self, provider))

    def keep(self, cell: Cell) -> bool:
        """Close what was opened at the end; return False if that has been already, and the caller has to close it."""
        if cell.exit is None:
            return not self.ended
        self.closing[cell] = None
        return not self.ended or self.closing.pop(cell, cell) is cell

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
        if provider in self.values or provider in self._given or self.owns(provider):
            return True
        return not any(provider in scoped_of(other) for other in tuple(containers))

    def __repr__(self) -> str:
        return f"<Scope {self.name}{' ended' if self.ended else ''}>"

    def _enclosing(self, nearest: Scope) -> Scope | None:
        """Return the nearest open scope that may lie around this one; a scope beside it is not seen from within."""
        inner = nearest if nearest.container is self.container and not nearest.ended else innermost(self.container)
        for scope in inner.chain() if inner else ():
            if self.name in above(self._order, scope.name) and not scope.ended:
                raise InjectionError(
                    f"the scope {self.name!r} can't be opened within {scope.name!r}: open it before, around it"
                )
            if scope.name in self._around and not scope.ended:
                return scope
        return None

    def disown(self) -> Any:
        """End it in a forked child without closing what is the parent's, and return that."""
        disowned = self.values, self.closing
        self.ended, self.values, self.closing, self.layered = True, {}, {}, ()
        return disowned

    def _taken(self) -> Cell:
        """Return what is to be closed next, the last one that was built; nobody else gets it."""
        try:
            return self.closing.popitem()[0]
        except KeyError:  # another thread has taken the last one
            return Cell()


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
