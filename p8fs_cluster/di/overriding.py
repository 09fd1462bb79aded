"""Overrides: layers over the providers' graph, which what depends on them follows, and follows back.

What a singleton or a resource holds belongs to the layers that it depends on: with none, it is the one that lives as
long as its container; with some, another one, built while they are in force, found again as long as they are, and
closed when one of them ends. So nothing has to be put back.
"""

from __future__ import annotations

import itertools
import threading
from asyncio import _get_running_loop
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from dependency_injector import providers

from p8fs_cluster.di import context
from p8fs_cluster.di.entering import is_awaited, opens_asynchronously
from p8fs_cluster.di.ownership import brought, described
from p8fs_cluster.di.teardown import Step, close, close_async
from p8fs_cluster.exceptions import InjectionError
from p8fs_cluster.forking import Stage, after_fork

__all__ = [
    "Change",
    "Holder",
    "Kept",
    "Key",
    "Layer",
    "Overridable",
    "Override",
    "begin",
    "changes_made",
    "changing",
    "covering",
    "effective",
    "end",
    "ending",
    "needed",
    "put_in_force",
    "take_back",
]

T = TypeVar("T")

_changing = threading.RLock()
_numbers = itertools.count(1)
_foreign: dict[providers.Provider[Any], tuple[Layer, ...]] = {}
"""The layers over providers of dependency-injector's own kinds, which don't know of layers themselves."""
_changes = 0
"""How many times an override has begun or ended."""


class Layer:
    """One override: what stands in place of what, and what was built while it was in force."""

    def __init__(self, replaced: Mapping[Any, providers.Provider[Any]], isolated: bool = False) -> None:
        self.replaced: dict[Any, providers.Provider[Any]] = dict(replaced)
        self.isolated = isolated
        self.number = next(_numbers)
        self.active = False
        """True if it is in force: one flag, so that nobody sees a part of it."""
        self.held: dict[tuple[Kept, Key], None] = {}


Key = tuple[Layer, ...]


def _noticed(change: str) -> Any:
    """Return dependency-injector's method of that name, after which an epoch begins if the provider was in use."""

    def called(self: Overridable[Any], *args: Any, **kwargs: Any) -> Any:
        result = getattr(super(Overridable, self), change)(*args, **kwargs)
        if self.is_read:
            context.changed()
        return result

    return called


class Overridable(providers.Provider[T]):
    """A provider whose overrides are layers: they may be isolated, end in any order, and what depends on it follows.

    Mixed in before one of dependency-injector's providers.
    """

    layers: tuple[Layer, ...] = ()
    changed_at = 0
    """How many changes had been made when an override of it last began or ended."""
    scope: str | None = None
    """The name of the scope that its value ends with; None if it belongs to none."""
    is_frozen = False
    """True if what it gives never changes, so that an attribute of that stays the same as well."""
    is_plain = False
    """True if calling one of exactly this class does nothing but call what it provides with its arguments."""
    is_read = False
    """True if something may have been found out from what it is made of."""
    footprints: tuple[object, dict[Key, Any]] = (None, {})
    """The epoch, and what the value depends on in it, by the isolated layers of a context."""

    set_provides = _noticed("set_provides")
    add_args, set_args, clear_args = map(_noticed, ("add_args", "set_args", "clear_args"))
    add_kwargs, set_kwargs, clear_kwargs = map(_noticed, ("add_kwargs", "set_kwargs", "clear_kwargs"))
    add_attributes, set_attributes, clear_attributes = map(
        _noticed, ("add_attributes", "set_attributes", "clear_attributes")
    )

    def __call__(self, *args: Any, **kwargs: Any) -> T:  # type: ignore[override]
        if self.layers or context.in_force.get().isolated:
            layer = self.layer()
            replacement = None if layer is None else layer.replaced.get(self)
            if replacement is not None:
                value: T = self._as_promised(replacement(*args, **kwargs))
                return value
        return super().__call__(*args, **kwargs)

    def layer(self) -> Layer | None:
        """Return the layer that replaces this provider here and now."""
        for layer in reversed(context.in_force.get().isolated):
            if layer.active and self in layer.replaced:
                found: Layer = layer
                return found
        return _active(self.layers)

    @property
    def overridden(self) -> tuple[providers.Provider[Any], ...]:  # type: ignore[override]
        """Return what stands in its place for the whole process, innermost last."""
        found = (layer.replaced.get(self) for layer in self.layers if layer.active)
        return tuple(replacement for replacement in found if replacement is not None)

    @property
    def last_overriding(self) -> providers.Provider[Any] | None:
        """Return what stands in its place, None if nothing does."""
        overridden = self.overridden
        return overridden[-1] if overridden else None

    def override(self, value: Any, *, isolated: bool = False) -> Override[Any]:  # type: ignore[override]
        """Put `value`, or what a provider gives, in its place, in a `with` block or until it is reset.

        What depends on it follows: singletons and resources built before are shadowed by new ones, which are closed
        when it ends, and then the very same old ones are back. `isolated`: only this task or thread sees it, and what
        it awaits.
        """
        replacement = self.replacement(value)
        return Override(put_in_force(Layer({self: replacement}, isolated)), lambda: replacement)

    def replacement(self, value: Any) -> providers.Provider[Any]:
        """Return the provider that `override(value)` puts in its place."""
        if value is self:
            raise InjectionError(f"{described(self)} can't be overridden with itself")
        return value if providers.is_provider(value) else providers.Object(value)

    def reset_last_overriding(self) -> None:
        """End the innermost override that the whole process sees."""
        layer = _active(self.layers)
        if layer is None:
            super().reset_last_overriding()  # raises dependency-injector's own error
        else:
            close(take_back(layer, self))

    def reset_override(self) -> None:
        """End all overrides that the whole process sees."""
        close([step for layer in reversed(self.layers) for step in take_back(layer, self)])

    def _as_promised(self, value: Any) -> Any:
        """Return a promise of a plain value that stands in for an asynchronous one, where such are awaited."""
        loop = _get_running_loop()
        asynchronous = self.is_async_mode_enabled() or opens_asynchronously(getattr(self, "provides", None))
        if loop is None or not asynchronous or is_awaited(value):
            return value
        promise = loop.create_future()
        promise.set_result(value)
        return promise

    @property
    def is_constant(self) -> bool:
        """Return whether what it gives here is there already, and stays the same until the next change."""
        return False

    def on_change(self) -> None:
        """Called after the provider's override changed."""

    def _copy_overridings(self, copied: Any, memo: Any) -> None:
        for layer in self.layers:
            twin = memo.get(id(layer))
            if twin is None:
                twin = memo[id(layer)] = Layer({})
                twin.active = layer.active
            twin.replaced[copied] = providers.deepcopy(layer.replaced[self], memo)
            copied.layers = (*copied.layers, twin)


class Kept(Protocol):
    """The place where a provider's values are kept, one for each set of layers that they depend on."""

    cells: dict[Key, Any]

    def take(self, key: Key | None = None, exc: BaseException | None = None) -> list[Step]:
        """Forget what is kept for `key`, by default all of it, and return what closes it, told of an exception."""


class Holder(Overridable[T]):
    """A provider that keeps what it built, one value for each set of layers that it depends on."""

    @property
    def built(self) -> bool:
        """Return whether there is a value here and now."""
        raise NotImplementedError

    def take(self, key: Key | None = None, exc: BaseException | None = None) -> list[Step]:
        """Forget what is held for `key`, by default all of it, and return what closes it."""
        raise NotImplementedError


class Change(NamedTuple):
    """What is left to be done after an override has begun or ended."""

    told: Sequence[Overridable[Any]] = ()
    """The providers that something else may replace now."""
    steps: Sequence[Step] = ()
    """What closes all that was built in the override."""


def put_in_force(layer: Layer) -> Layer:
    """Begin an override, and tell those that follow it. If one of them fails, the override is taken back.

    :raises InjectionError: it is to be isolated, and one of the providers can't do that.
    """
    change = begin(layer)
    try:
        _tell(change)
    except BaseException:
        close(take_back(layer))
        raise
    return layer


def take_back(layer: Layer, only: Overridable[Any] | None = None, exc: BaseException | None = None) -> Sequence[Step]:
    """End an override, tell those that follow it, and return what closes all that was built in it."""
    change = end(layer, only, exc)
    try:
        _tell(change)
    except BaseException:
        close(change.steps)  # a follower may fail; what was opened is closed all the same
        raise
    return change.steps


def _tell(change: Change) -> None:
    for provider in change.told:
        provider.on_change()


def begin(layer: Layer) -> Change:
    """Put a layer in force, as a whole and at once, and return who is to be told.

    :raises InjectionError: it is to be isolated, and one of the providers can't do that.
    """
    ours = [provider for provider in layer.replaced if isinstance(provider, Overridable)]
    foreign = [provider for provider in layer.replaced if not isinstance(provider, Overridable)]
    if foreign and layer.isolated:
        raise InjectionError(f"{described(foreign[0])} is not of our own kinds: its override can't be isolated")
    with _changing:
        if not layer.isolated:
            for provider in ours:
                provider.layers = (*provider.layers, layer)
        for provider in foreign:
            provider.override(layer.replaced[provider])
            _foreign[provider] = (*_foreign.get(provider, ()), layer)
        layer.active = True
        _count(ours)
    if layer.isolated:
        context.isolate(layer)
    context.changed()
    return Change(ours)


def end(layer: Layer, only: Overridable[Any] | None = None, exc: BaseException | None = None) -> Change:
    """Take a layer out of force, or one provider out of it, and return who is to be told, and what is to be closed.

    What is closed is told of `exc`, the exception that ends it. The layer may be below others, which stay as they are.
    Nothing happens if it has ended before.
    """
    with _changing:
        if not layer.active:
            return Change()
        remaining = {provider: value for provider, value in layer.replaced.items() if only not in (None, provider)}
        ended = [provider for provider in layer.replaced if provider not in remaining]
        gone = [layer.replaced[provider] for provider in ended]
        layer.active = bool(remaining)
        for provider in ended:
            _uncover(provider, layer)
        if remaining:
            layer.replaced = remaining
        ours = [provider for provider in ended if isinstance(provider, Overridable)]
        _count(ours)
        held, layer.held = layer.held, {}
    if layer.isolated and not layer.active:
        context.rejoin(layer)
    context.changed()
    steps = [step for kept, key in held for step in kept.take(key, exc)]
    steps += [step for holder in brought(gone) for step in ending(holder)]
    return Change(ours, steps)


def changes_made() -> int:
    """Return how many times an override has begun or ended."""
    return _changes


def changing() -> threading.RLock:
    """Return the lock that whoever begins or ends an override holds."""
    return _changing


class Override(Generic[T]):
    """An override in force. Leaving its `with` or `async with` block ends it, also when others were put over it since.

    :raises CloseError: at the end, when something that was opened in it can't be closed; it has ended all the same.
    """

    def __init__(self, layer: Layer, entered: Callable[[], T]) -> None:
        self._layer = layer
        self._entered = entered

    def end(self) -> None:
        """End it, and close what was opened in it."""
        close(take_back(self._layer))

    def __enter__(self) -> T:
        return self._entered()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        close(take_back(self._layer, exc=exc))

    async def __aenter__(self) -> T:
        return self._entered()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await close_async(take_back(self._layer, exc=exc))


def ending(provider: providers.Provider[Any]) -> list[Step]:
    """Return what closes all that a provider holds; it builds anew when it is asked again."""
    if isinstance(provider, Holder):
        return provider.take()
    if isinstance(provider, providers.BaseResource) and provider.initialized:
        return [(0, described(provider), provider.shutdown)]
    return []


def needed(provider: providers.Provider[Any]) -> Iterator[providers.Provider[Any]]:
    """Yield what the provider's value is built from. Who is handed a provider itself asks it anew at each use."""
    if isinstance(provider, providers.Delegate):
        return
    if not isinstance(provider, Overridable) and provider.last_overriding is not None:
        yield provider.last_overriding
        return
    overriding = provider.overridden
    yield from (each for each in provider.related if each not in overriding and not providers.is_delegated(each))


def covering(provider: Any) -> tuple[Layer, providers.Provider[Any]] | None:
    """Return the layer that replaces a provider here and now, and what it puts in its place."""
    layer = provider.layer() if isinstance(provider, Overridable) else _active(_foreign.get(provider, ()))
    replacement = None if layer is None else layer.replaced.get(provider)
    return None if layer is None or replacement is None else (layer, replacement)


def effective(provider: Any) -> Any:
    """Return what stands in the place of a provider here and now, or itself."""
    while True:
        layer = provider.layer() if isinstance(provider, Overridable) else None
        replacement = provider.last_overriding if layer is None else layer.replaced.get(provider)
        if replacement is None:
            return provider
        provider = replacement


def _active(layers: tuple[Layer, ...]) -> Layer | None:
    for layer in reversed(layers):
        if layer.active:
            return layer
    return None


def _count(changed: list[Overridable[Any]]) -> None:
    global _changes  # noqa: PLW0603
    _changes += 1
    for provider in changed:
        provider.changed_at = _changes


def _uncover(provider: Any, layer: Layer) -> None:
    if isinstance(provider, Overridable):
        provider.layers = tuple(other for other in provider.layers if other is not layer)
        return
    _foreign[provider] = tuple(other for other in _foreign[provider] if other is not layer)
    if not _foreign[provider]:
        del _foreign[provider]
    kept = [value for value in provider.overridden if value is not layer.replaced[provider]]
    provider.reset_override()
    for value in kept:
        provider.override(value)


def _after_fork() -> None:
    global _changing  # noqa: PLW0603
    _changing = threading.RLock()


after_fork(Stage.LOCKS, _after_fork)
