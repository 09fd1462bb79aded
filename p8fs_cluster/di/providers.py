"""dependency-injector's providers as ours: each built once under any number of threads, and following overrides."""

from __future__ import annotations

import asyncio
import functools
from typing import Any, TypeVar, cast

from dependency_injector import providers

from p8fs_cluster.di import context
from p8fs_cluster.di.by_type import without_covered
from p8fs_cluster.di.compiling import called_deep, compiled
from p8fs_cluster.di.depth import is_deep
from p8fs_cluster.di.entering import Opened, end_by, generator_of, is_asynchronous, is_awaited, open_in_task, open_now
from p8fs_cluster.di.footprints import footprint
from p8fs_cluster.di.keeping import Cell, Keeping
from p8fs_cluster.di.layers import covering
from p8fs_cluster.di.overriding import Overridable
from p8fs_cluster.di.ownership import described
from p8fs_cluster.di.teardown import Closable, Step, close

__all__ = ["Callable", "Factory", "Object", "Resource", "Singleton", "maker_of"]

T = TypeVar("T")


class Shortened(Overridable[T]):
    """A provider that a function may answer for until the next change, with no step of ours in between.

    Its kinds have a slot `__call__`, from which Python takes the function when an instance is called.
    """

    _shortcut: Any

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__call__" in vars(cls).get("__slots__", ()):
            cls._shortcut = vars(cls)["__call__"]

    def __init__(self, provides: Any = None, *args: Any, **kwargs: Any) -> None:
        self.drop_shortcut()
        super().__init__(provides, *args, **kwargs)  # type: ignore[call-arg]

    def shorten(self, call: Any) -> None:
        """Let a function answer."""
        self._shortcut = call

    def drop_shortcut(self) -> None:
        """Answer as every provider does."""
        self._shortcut = self._answer

    def enable_async_mode(self) -> None:
        """Give promises from now on."""
        super().enable_async_mode()
        self.drop_shortcut()

    def _answer(self, *args: Any, **kwargs: Any) -> T:
        return Overridable.__call__(self, *args, **kwargs)


class Cached(Shortened[T], Keeping[T]):
    """Keeps its values as long as its container is open, and answers with the one in force until the next change."""

    @property
    def is_constant(self) -> bool:
        return self.built

    def _provide(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        epoch, value = self._kept_value(self, args, kwargs)
        if not (self.layers or self.is_async_mode_enabled() or is_awaited(value)):
            context.put_shortcut(self, _always(value), epoch)
        return value


def _given(value: Any) -> Any:
    return value() if isinstance(value, providers.Provider) and not providers.is_delegated(value) else value


def _always(value: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        return value

    return call


class Singleton(Cached[T], providers.Singleton[T]):
    """A `providers.Singleton` that is built once. None counts as a value.

    >>> numbers = Singleton(lambda: 7)
    >>> numbers(), numbers.built
    (7, True)
    """

    __slots__ = ("__call__",)

    def reset(self) -> Any:
        """Forget the instance in force; the next call builds another. A storage handle is closed."""
        close(self.take(footprint(self).key))
        return super().reset()

    def _open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Opened:
        value = self._called(args, kwargs)
        return Opened(asyncio.ensure_future(value) if is_awaited(value) else value, None)

    def _called(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what the class or function gives. dependency-injector joins promises, at several times the cost."""
        provides: Any = self.provides
        own_args: tuple[Any, ...] = self.args
        own_kwargs = without_covered(self, args)
        if not (args or kwargs or self.attributes or providers.is_provider(provides)):
            given = [_given(value) for value in own_args]
            by_name = {name: _given(value) for name, value in own_kwargs.items()}
            if not any(map(is_awaited, (*given, *by_name.values()))):
                return provides(*given, **by_name)
            own_args = tuple(map(providers.Object, given))
            own_kwargs = {name: providers.Object(value) for name, value in by_name.items()}
        factory = providers.Factory(provides, *own_args, **own_kwargs).add_attributes(**self.attributes)
        return factory(*args, **kwargs)

    def _ending(self, cell: Cell, exc: BaseException | None) -> list[Step]:
        value = cell.value
        return (
            [*value.opened(), (cell.opened_at, type(value).__name__.lower(), value.shut)]
            if isinstance(value, Closable)
            else []
        )


class Resource(Cached[T], providers.Resource[T]):
    """A `providers.Resource` that is opened once, and closed when its container closes.

    >>> def connection():
    ...     yield "open"
    >>> resource = Resource(connection)
    >>> resource(), resource.initialized
    ('open', True)
    """

    __slots__ = ("__call__",)

    @property
    def initialized(self) -> bool:
        """Return whether it is open here and now."""
        return self.built

    def shutdown(self) -> Any:
        """Close what is open here and now. Return something to await if it is asynchronous."""
        for _, _, step in self.take(footprint(self).key):
            return step()
        return super().shutdown()

    def _open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Opened:
        made = maker_of(self, given=args)(*args, **kwargs)
        return open_in_task(made) if is_asynchronous(made) else open_now(made)

    def _ending(self, cell: Cell, exc: BaseException | None) -> list[Step]:
        return [(cell.opened_at, described(self), lambda: end_by(cell.exit, exc))]


def maker_of(resource: providers.BaseResource[Any], bare: bool = False, given: tuple[Any, ...] = ()) -> Any:
    """Return what calls that which a resource provides, with its arguments: what is returned is not open yet.

    `bare`: of a generator function, the generator itself rather than a context manager over it. `given` are the
    positional arguments that it will be called with.
    """
    provides: Any = (bare and generator_of(resource.provides)) or resource.provides
    args: tuple[Any, ...] = resource.args
    kwargs = without_covered(resource, given) if given else resource.kwargs
    return providers.Callable(functools.partial(provides), *args, **kwargs) if args or kwargs else provides


class Calling(Shortened[T]):
    """A provider that calls what it provides each time: compiled at the second call of an epoch."""

    _called_in: object = None
    """The epoch in which it was called before."""

    def _answer(self, *args: Any, **kwargs: Any) -> T:
        epoch, before = context.epoch, self._called_in
        if not args and not kwargs and not self.layers:
            self._called_in = epoch
            if before is epoch and context.takes_shortcuts() and (call := compiled(self, self._answer)):
                context.put_shortcut(self, call, epoch)
                return cast("T", call())
            if is_deep(self):
                return cast("T", called_deep(self))
        elif args and self.filled and covering(self) is None:
            return cast("T", _uncovered(self, args)(*args, **kwargs))
        return super()._answer(*args, **kwargs)


def _uncovered(provider: Any, args: tuple[Any, ...]) -> Any:
    """Return a provider without the arguments filled by type that positions of a call stand for."""
    kwargs = without_covered(provider, args)
    if isinstance(provider, providers.Factory):
        return providers.Factory(provider.provides, *provider.args, **kwargs).add_attributes(**provider.attributes)
    return providers.Callable(provider.provides, *provider.args, **kwargs)


class Factory(Calling[T], providers.Factory[T]):
    """A `providers.Factory` whose overrides are layers."""

    __slots__ = ("__call__",)
    is_plain = True


class Callable(Calling[T], providers.Callable[T]):
    """A `providers.Callable` whose overrides are layers."""

    __slots__ = ("__call__",)
    is_plain = True


class Object(Overridable[T], providers.Object[T]):
    """A `providers.Object` whose overrides are layers."""

    is_constant = True
