"""dependency-injector's providers as ours: each built once under any number of threads, and following overrides."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, TypeVar, cast

from dependency_injector import providers

from p8fs_cluster.di import context
from p8fs_cluster.di.compiling import called_deep, compiled
from p8fs_cluster.di.depth import LEVELS, build_deep, is_deep
from p8fs_cluster.di.entering import Opened, generator_of, is_asynchronous, is_awaited, leave, open_in_task, open_now
from p8fs_cluster.di.footprints import Footprint, commit, footprint, path_to
from p8fs_cluster.di.overriding import Holder, Kept, Key, Overridable
from p8fs_cluster.di.ownership import described, named
from p8fs_cluster.di.teardown import OPENED, Closable, Step, close
from p8fs_cluster.exceptions import InjectionError

__all__ = [
    "Building",
    "Callable",
    "Cell",
    "Factory",
    "Keeping",
    "Object",
    "Resource",
    "Singleton",
    "adopted",
    "building",
    "following",
    "maker_of",
    "sharing",
]

T = TypeVar("T")


class Cell:
    """The place of one value, with a lock of its own, so that an unrelated build never waits for it."""

    __slots__ = ("lock", "opened", "opened_at", "ready")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.ready = False
        self.opened: Opened = _NOTHING
        self.opened_at = 0

    def fill(self, opened: Opened) -> bool:
        self.opened = opened
        self.opened_at = next(OPENED)
        self.ready = True
        return True


_NOTHING: Final = Opened(None, None)


class Building(NamedTuple):
    """The provider that is being built here, the scopes whose values it may take, and the number of the build."""

    provider: Any
    scopes: frozenset[str]
    number: int
    level: int
    """How many others are being built here, because each asked for the next."""


building: ContextVar[Building | None] = ContextVar("p8fs_cluster_building", default=None)


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


class Keeping(Holder[T]):
    """Keeps one value for each set of layers that it depends on."""

    def __init__(self, provides: Any = None, *args: Any, **kwargs: Any) -> None:
        self.cells: dict[Key, Cell] = {}
        self._inherited: list[dict[Key, Cell]] = []
        super().__init__(provides, *args, **kwargs)  # type: ignore[call-arg]

    @property
    def built(self) -> bool:
        """Return whether there is a value here and now."""
        cell = self.cells.get(footprint(self).key)
        return cell is not None and cell.ready

    @property
    def values(self) -> list[Any]:
        """All that is kept: without overrides, and in each that it depends on."""
        return [cell.opened.value for cell in tuple(self.cells.values()) if cell.ready]

    def take(self, key: Key | None = None, exc: BaseException | None = None) -> list[Step]:
        """Forget what is kept for `key`, by default all of it, and return what closes it."""
        keys = tuple(self.cells) if key is None else (key,)
        cells = [cell for each in keys if (cell := self.cells.pop(each, None)) and cell.ready]
        context.changed()
        return [step for cell in cells for step in self._ending(cell, exc)]

    def forget_unfinished(self) -> None:
        """In a forked child: forget what a thread that is not here was building, with the lock that it holds."""
        self.cells = {key: cell for key, cell in self.cells.items() if cell.ready}

    def forget_parent(self) -> None:
        """In a forked child: build anew, and keep what is the parent's referenced, so that nothing finalizes it."""
        self._inherited.append(self.cells)
        self.cells = {}

    def _kept_value(self, kept: Kept, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[object, Any]:
        """Return what `kept` has, built if need be, and the epoch it was found for."""
        while True:
            epoch, found = context.epoch, footprint(self)
            cell = kept.cells.get(found.key) or kept.cells.setdefault(found.key, Cell())
            if cell.ready or self._filled(kept, found, args, kwargs):
                value = cell.opened.value
                if asyncio.isfuture(value) and not value.done():
                    value = asyncio.shield(value)  # whoever gives up waiting does so alone
                return epoch, value

    def _filled(self, kept: Kept, found: Footprint, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Build the value, once. Return False when what it depends on was overridden meanwhile."""
        self._require_lifetimes(found)
        outer = building.get()
        level = 0 if outer is None else outer.level + 1
        if not args and not kwargs and level % LEVELS == 0:
            build_deep(self)
        key, cells = found.key, kept.cells
        cell: Cell | None = cells.get(key)
        if cell is None:  # forgotten meanwhile
            return False
        with cell.lock:
            if cell.ready:
                return True
            token = building.set(Building(self, self._may_need(), next(OPENED), level))
            try:
                opened = self._open(args, kwargs)
            finally:
                building.reset(token)
            if commit(kept, self, found, functools.partial(_fill_cell, cells, key, cell, opened)):
                _watch(cells, cell, key)
                return True
            self.footprints = (None, {})
        left = leave(opened, None)
        if is_awaited(left):
            asyncio.ensure_future(left)  # noqa: RUF006
        return False

    def _may_need(self) -> frozenset[str]:
        """Return the scopes that last as long as what this keeps."""
        return frozenset()

    def _require_lifetimes(self, found: Footprint) -> None:
        """Refuse to be made of what ends sooner.

        :raises InjectionError: something that it needs lives in a scope.
        """
        for needed in found.scoped:
            raise InjectionError(
                f"{named(self)} lives as long as its container, but {' → '.join(path_to(self, needed))} ends "
                f"with the scope {needed.scope!r}: make it Scoped as well, or a Factory"
            )

    def _open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Opened:
        raise NotImplementedError

    def _ending(self, cell: Cell, exc: BaseException | None) -> list[Step]:
        raise NotImplementedError


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


def _fill_cell(cells: Mapping[Key, Cell], key: Key, cell: Cell, opened: Opened) -> bool:
    return cells.get(key) is cell and cell.fill(opened)


def _watch(cells: dict[Key, Cell], cell: Cell, key: Key) -> None:
    """Forget a promise that failed, so that the next call tries again."""

    def settled(promise: asyncio.Future[Any]) -> None:
        if (promise.cancelled() or promise.exception()) and cells.get(key) is cell:
            del cells[key]

    if asyncio.isfuture(cell.opened.value):
        cell.opened.value.add_done_callback(settled)


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
        own_kwargs: dict[str, Any] = self.kwargs
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
        value = cell.opened.value
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
        made = maker_of(self)(*args, **kwargs)
        return open_in_task(made) if is_asynchronous(made) else open_now(made)

    def _ending(self, cell: Cell, exc: BaseException | None) -> list[Step]:
        return [(cell.opened_at, described(self), lambda: leave(cell.opened, exc))]


def maker_of(resource: providers.BaseResource[Any], bare: bool = False) -> Any:
    """Return what calls that which a resource provides, with its arguments: what is returned is not open yet.

    `bare`: of a generator function, the generator itself rather than a context manager over it.
    """
    provides: Any = (bare and generator_of(resource.provides)) or resource.provides
    args: tuple[Any, ...] = resource.args
    kwargs: dict[str, Any] = resource.kwargs
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
        return super()._answer(*args, **kwargs)


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


_OURS: Mapping[type, type[Overridable[Any]]] = {
    providers.Singleton: Singleton,
    providers.ThreadSafeSingleton: Singleton,
    providers.Resource: Resource,
    providers.Factory: Factory,
    providers.Callable: Callable,
    providers.Object: Object,
}


def adopted(
    declared: Mapping[str, providers.Provider[Any]], inherited: Iterable[providers.Provider[Any]]
) -> dict[str, providers.Provider[Any]]:
    """Return `declared` with dependency-injector's providers replaced by ours, wherever they are used.

    Inherited providers stay the very objects that they are. Nothing is copied when there is nothing to replace.
    """
    memo: dict[int, Any] = {id(provider): provider for provider in providers.traverse(*inherited)}
    found = [
        provider
        for provider in providers.traverse(*declared.values())
        if type(provider) in _OURS and id(provider) not in memo
    ]
    if not found:
        return {}
    memo.update({id(provider): _OURS[type(provider)]() for provider in found})
    memo.update({id(each): each for each in providers.traverse(*declared.values()) if isinstance(each, providers.Self)})
    for provider in found:
        _fill(memo[id(provider)], provider, memo)
    copies: dict[str, providers.Provider[Any]] = providers.deepcopy(dict(declared), memo)
    return copies


def following(cls: Any) -> dict[str, providers.Provider[Any]]:
    """Return the providers of a container's class that use one which was declared anew, made to use the new one.

    What a redeclaration itself is made from stays the base's: that is how one decorates. Nothing is copied where
    nothing is declared anew.
    """
    return {name: provider for name, provider in _Following(cls).all() if provider is not cls.providers[name]}


def sharing(cls: Any, root: Any) -> dict[str, providers.Provider[Any]]:
    """Return the providers of a container's class whose parts are to use its own in place of theirs, made to do so.

    The providers are those that `root` declares. A part keeps what it declares anew or was given, and what is made of
    that.
    """
    replaced = {}
    names = {id(provider): name for name, provider in root.cls_providers.items()}
    for part in cls.cls_providers.values():
        inner: Any = part.container if isinstance(part, providers.Container) else None
        declaring = getattr(inner, "declarative_parent", None)
        if isinstance(declaring, type) and issubclass(declaring, root):
            anew = {
                name for base in declaring.__mro__ if base is not root for name in getattr(base, "cls_providers", ())
            }
            for name, provider in root.cls_providers.items():
                needed = {names[id(each)] for each in providers.traverse(provider) if id(each) in names}
                if name in anew or anew & needed or inner.providers[name].overridden:
                    anew.add(name)
                else:
                    replaced[id(inner.providers[name])] = cls.providers[name]
    if not replaced:
        return {}
    memo = {id(new): new for new in replaced.values()} | replaced
    for each in providers.traverse(*cls.cls_providers.values()):
        if id(each) not in memo and (isinstance(each, providers.Self) or not _reaches(each, replaced)):
            memo[id(each)] = each
    copies: dict[str, providers.Provider[Any]] = providers.deepcopy(dict(cls.cls_providers), memo)
    return {name: copy for name, copy in copies.items() if copy is not cls.cls_providers[name]}


class _Following:
    """Each provider of a class, with references to what was declared anew replaced, each copied once."""

    def __init__(self, cls: Any) -> None:
        self._cls = cls
        self._bases = [base for base in cls.__mro__[1:] if hasattr(base, "cls_providers")]
        self._done: dict[str, Any] = {}

    def all(self) -> Iterator[tuple[str, Any]]:
        return ((name, self._followed(name)) for name in self._cls.providers)

    def _followed(self, name: str) -> Any:
        if name not in self._done:
            self._done[name] = self._cls.providers[name]  # of itself, should it need itself
            self._done[name] = self._copied(name, self._cls.providers[name])
        return self._done[name]

    def _copied(self, name: str, provider: Any) -> Any:
        replaced = {}
        needed = {id(each) for each in providers.traverse(provider)}
        for other, declared in self._as_it_was(name):
            if id(declared) in needed and other != name and (new := self._followed(other)) is not declared:
                replaced[id(declared)] = new
        if not replaced:
            return provider
        memo = {id(new): new for new in replaced.values()} | replaced
        for each in providers.traverse(provider):
            if id(each) not in memo and (isinstance(each, providers.Self) or not _reaches(each, replaced)):
                memo[id(each)] = each
        return providers.deepcopy(provider, memo)

    def _as_it_was(self, name: str) -> Iterator[tuple[str, Any]]:
        """Yield names and providers that whoever declared this one could refer to.

        Of a redeclaration: what the base's providers that it is made from are themselves made from, but for itself.
        """
        if name not in self._cls.cls_providers:
            homes = [base for base in self._bases if name in base.cls_providers]
            yield from (homes or self._bases)[0].providers.items()
            return
        earlier = [(other, declared) for base in self._bases for other, declared in base.providers.items()]
        itself = {id(declared): declared for other, declared in earlier if other == name}
        if itself:
            inside = self._inside(self._cls.providers[name], {id(declared) for _, declared in earlier})
            earlier = [pair for pair in earlier if id(pair[1]) in inside and not _reaches(pair[1], itself)]
        yield from earlier

    def _inside(self, provider: Any, named: set[int]) -> set[int]:
        """Return what the named providers that one is made from are made from."""
        inside: set[int] = set()
        for each in provider.related:
            if id(each) in named:
                inside |= {id(needed) for needed in providers.traverse(each)} - {id(each)}
            else:
                inside |= self._inside(each, named)
        return inside


def _reaches(provider: providers.Provider[Any], wanted: Mapping[int, Any]) -> bool:
    return any(id(each) in wanted for each in providers.traverse(provider))


def _fill(copy: Any, original: Any, memo: dict[int, Any]) -> None:
    provides = original.provides
    copy.set_provides(providers.deepcopy(provides, memo) if providers.is_provider(provides) else provides)
    if not isinstance(original, providers.Object):
        copy.set_args(*providers.deepcopy(original.args, memo))
        copy.set_kwargs(**providers.deepcopy(original.kwargs, memo))
    if isinstance(original, (providers.BaseSingleton, providers.Factory)):
        copy.set_attributes(**providers.deepcopy(original.attributes, memo))
    for overriding in original.overridden:
        copy.override(providers.deepcopy(overriding, memo))
