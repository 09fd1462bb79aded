"""Layers over the graph of providers: what stands in place of what, for whom, and what was built meanwhile."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from dependency_injector import providers

from p8fs_cluster.di import context
from p8fs_cluster.di.ownership import brought, described
from p8fs_cluster.di.teardown import Step, close
from p8fs_cluster.exceptions import InjectionError
from p8fs_cluster.forking import Stage, after_fork

__all__ = [
    "Change",
    "Kept",
    "Key",
    "Layer",
    "Layered",
    "begin",
    "changes_made",
    "changing",
    "covering",
    "effective",
    "end",
    "ending",
    "last_active",
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


class Kept(Protocol):
    """The place where a provider's values are kept, one for each set of layers that they depend on."""

    @property
    def cells(self) -> dict[Key, Any]:
        """The values."""

    def take(self, key: Key | None = None, exc: BaseException | None = None) -> list[Step]:
        """Forget what is kept for `key`, by default all of it, and return what closes it, told of an exception."""


class Layered(providers.Provider[T]):
    """A provider that layers lie over, for the whole process or for a context alone."""

    layers: tuple[Layer, ...] = ()
    """Those for the whole process."""
    changed_at = 0
    """How many changes had been made when an override of it last began or ended."""

    def layer(self) -> Layer | None:
        """Return the layer that replaces this provider here and now."""
        for layer in reversed(context.in_force.get().isolated):
            if layer.active and self in layer.replaced:
                found: Layer = layer
                return found
        return last_active(self.layers)

    def give_up(self) -> list[Step]:
        """Forget all that is held, and return what closes it; nothing is held by default."""
        return []

    def on_change(self) -> None:
        """Called after the provider's override changed."""


class Change(NamedTuple):
    """The work that is left after an override has begun or ended."""

    told: Sequence[Layered[Any]] = ()
    """The providers that something else may replace now."""
    steps: Sequence[Step] = ()
    """The steps that close all that was built in the override."""


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


def take_back(layer: Layer, only: Layered[Any] | None = None, exc: BaseException | None = None) -> Sequence[Step]:
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
    ours = [provider for provider in layer.replaced if isinstance(provider, Layered)]
    foreign = [provider for provider in layer.replaced if not isinstance(provider, Layered)]
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


def end(layer: Layer, only: Layered[Any] | None = None, exc: BaseException | None = None) -> Change:
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
        ours = [provider for provider in ended if isinstance(provider, Layered)]
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


def ending(provider: providers.Provider[Any]) -> list[Step]:
    """Return what closes all that a provider holds; it builds anew when it is asked again."""
    if isinstance(provider, Layered):
        return provider.give_up()
    if isinstance(provider, providers.BaseResource) and provider.initialized:
        return [(0, described(provider), provider.shutdown)]
    return []


def needed(provider: providers.Provider[Any]) -> Iterator[providers.Provider[Any]]:
    """Yield what the provider's value is built from. Who is handed a provider itself asks it anew at each use."""
    if isinstance(provider, providers.Delegate):
        return
    if not isinstance(provider, Layered) and provider.last_overriding is not None:
        yield provider.last_overriding
        return
    overriding = provider.overridden
    yield from (each for each in provider.related if each not in overriding and not providers.is_delegated(each))


def covering(provider: Any) -> tuple[Layer, providers.Provider[Any]] | None:
    """Return the layer that replaces a provider here and now, and what it puts in its place."""
    layer = provider.layer() if isinstance(provider, Layered) else last_active(_foreign.get(provider, ()))
    replacement = None if layer is None else layer.replaced.get(provider)
    return None if layer is None or replacement is None else (layer, replacement)


def effective(provider: Any) -> Any:
    """Return what stands in the place of a provider here and now, or itself."""
    while True:
        layer = provider.layer() if isinstance(provider, Layered) else None
        replacement = provider.last_overriding if layer is None else layer.replaced.get(provider)
        if replacement is None:
            return provider
        provider = replacement


def last_active(layers: tuple[Layer, ...]) -> Layer | None:
    """Return the innermost layer that is in force."""
    for layer in reversed(layers):
        if layer.active:
            return layer
    return None


def _count(changed: list[Layered[Any]]) -> None:
    global _changes  # noqa: PLW0603
    _changes += 1
    for provider in changed:
        provider.changed_at = _changes


def _uncover(provider: Any, layer: Layer) -> None:
    if isinstance(provider, Layered):
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
