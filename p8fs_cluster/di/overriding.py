"""Overrides: layers over the providers' graph, which what depends on them follows, and follows back.

What a singleton or a resource holds belongs to the layers that it depends on: with none, it is the one that lives as
long as its container; with some, another one, built while they are in force, found again as long as they are, and
closed when one of them ends. So nothing has to be put back.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from asyncio import _get_running_loop
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from dependency_injector import providers

from p8fs_cluster.di import context
from p8fs_cluster.di.entering import is_awaited, opens_asynchronously
from p8fs_cluster.di.teardown import Step, close, close_async
from p8fs_cluster.exceptions import InjectionError
from p8fs_cluster.forking import Stage, after_fork

__all__ = [
    "Footprint",
    "Holder",
    "Key",
    "Layer",
    "Overridable",
    "Override",
    "begin",
    "brought",
    "commit",
    "containers",
    "described",
    "ending",
    "footprint",
    "forget",
    "named",
    "owned",
    "path_to",
]

T = TypeVar("T")

_changing = threading.RLock()
_numbers = itertools.count(1)
_foreign: dict[providers.Provider[Any], tuple[Layer, ...]] = {}
"""The layers over providers of dependency-injector's own kinds, which don't know of layers themselves."""
containers: weakref.WeakSet[Any] = weakref.WeakSet()
"""Every container there is."""


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
Memo = dict[tuple[Layer, ...], "Footprint"]


class Footprint:
    """The state that a provider's value depended on: layers, and the number of changes of each provider."""

    __slots__ = ("_asynchronous", "_marks", "key", "scoped")

    def __init__(
        self, key: Key, marks: list[tuple[Overridable[Any], int]], scoped: tuple[Overridable[Any], ...]
    ) -> None:
        self.key = key
        self.scoped = scoped
        """The providers among them whose values end with a scope."""
        self._marks = marks
        self._asynchronous: bool | None = None

    @property
    def asynchronous(self) -> bool:
        """Return whether one of the providers is known to be opened asynchronously."""
        if self._asynchronous is None:
            calls = (getattr(provider, "provides", None) for provider, _ in self._marks)
            self._asynchronous = any(map(opens_asynchronously, calls))
        return self._asynchronous

    @property
    def holds(self) -> bool:
        """Return whether nothing of it has changed since."""
        return all(provider.changes == changes for provider, changes in self._marks)


class Overridable(providers.Provider[T]):
    """A provider whose overrides are layers: they may be isolated, end in any order, and what depends on it follows.

    Mixed in before one of dependency-injector's providers.
    """

    layers: tuple[Layer, ...] = ()
    changes = 0
    scope: str | None = None
    """The name of the scope that its value ends with; None if it belongs to none."""
    _memo: tuple[object, Memo] = (None, {})

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
        return Override(begin(Layer({self: replacement}, isolated)), lambda: replacement)

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
            close(end(layer, self))

    def reset_override(self) -> None:
        """End all overrides that the whole process sees."""
        close([step for layer in reversed(self.layers) for step in end(layer, self)])

    def footprint(self) -> Footprint:
        """Return what its value depends on here and now."""
        epoch, isolated = context.epoch, context.in_force.get().isolated
        if self._memo[0] is not epoch:
            self._memo = (epoch, {})
        memo = self._memo[1]
        found = memo.get(isolated)
        if found is None:
            found = memo[isolated] = footprint(self)
        return found

    def _as_promised(self, value: Any) -> Any:
        """Return a promise of a plain value that stands in for an asynchronous one, where such are awaited."""
        loop = _get_running_loop()
        asynchronous = self.is_async_mode_enabled() or opens_asynchronously(getattr(self, "provides", None))
        if loop is None or not asynchronous or is_awaited(value):
            return value
        promise = loop.create_future()
        promise.set_result(value)
        return promise

    def on_change(self) -> None:
        """Hear that what replaces this provider may be another one now."""

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

    def take(self, key: Key | None = None, exc: BaseException | None = None) -> list[Step]:
        """Forget what is held for `key`, by default all of it, and return what closes it."""
        raise NotImplementedError


def begin(layer: Layer) -> Layer:
    """Put a layer in force, as a whole and at once. Who hears of it and fails takes it back.

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
    try:
        for provider in ours:
            provider.on_change()
    except BaseException:
        close(end(layer))
        raise
    return layer


def end(layer: Layer, only: Overridable[Any] | None = None, exc: BaseException | None = None) -> list[Step]:
    """Take a layer out of force, or one provider out of it, and return what closes all that was built in it.

    What is closed is told of `exc`, the exception that ends it.

    It may be below others, which stay as they are. Nothing happens if it has ended before.
    """
    with _changing:
        if not layer.active:
            return []
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
    context.rejoin(layer)
    context.changed()
    steps = [step for kept, key in held for step in kept.take(key, exc)]
    steps += [step for holder in brought(gone) for step in ending(holder)]
    try:
        for provider in ours:
            provider.on_change()
    except BaseException:
        close(steps)  # who hears of it may fail; what was opened is closed all the same
        raise
    return steps


def commit(kept: Kept, footprint: Footprint, keep: Callable[[], bool]) -> bool:
    """Call `keep` if nothing that `footprint` has looked at was overridden since; return whether it kept."""
    with _changing:
        if not footprint.holds or not keep():
            return False
        for layer in footprint.key:
            layer.held[kept, footprint.key] = None
        return True


def forget(kept: Kept, key: Key) -> None:
    """Take back `commit`, when what was kept for a key has been closed."""
    with _changing:
        for layer in key:
            layer.held.pop((kept, key), None)


class Override(Generic[T]):
    """An override in force. Leaving its `with` or `async with` block ends it, also when others were put over it since.

    :raises CloseError: at the end, when something that was opened in it can't be closed; it has ended all the same.
    """

    def __init__(self, layer: Layer, entered: Callable[[], T]) -> None:
        self._layer = layer
        self._entered = entered

    def end(self) -> None:
        """End it, and close what was opened in it."""
        close(end(self._layer))

    def __enter__(self) -> T:
        return self._entered()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        close(end(self._layer, exc=exc))

    async def __aenter__(self) -> T:
        return self._entered()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await close_async(end(self._layer, exc=exc))


def footprint(provider: providers.Provider[Any]) -> Footprint:
    """Walk over what the provider's value is built from, as it stands here and now."""
    found: set[Layer] = set()
    marks: list[tuple[Overridable[Any], int]] = []
    scoped: list[Overridable[Any]] = []
    seen: set[Any] = {provider}
    waiting = list(_needed(provider))
    while waiting:
        needed = waiting.pop()
        if needed in seen:
            continue
        seen.add(needed)
        if isinstance(needed, Overridable):
            marks.append((needed, needed.changes))  # before its layer is looked at
            layer = needed.layer()
        else:
            layer = _active(_foreign.get(needed, ()))
        replacement = None if layer is None else layer.replaced.get(needed)
        if layer is None or replacement is None:
            waiting.extend(_needed(needed))
            if isinstance(needed, Overridable) and needed.scope is not None:
                scoped.append(needed)
        else:
            found.add(layer)
            waiting.append(replacement)
    return Footprint(tuple(sorted(found, key=lambda layer: layer.number)), marks, tuple(scoped))


def owned(roots: Iterable[providers.Provider[Any]]) -> dict[providers.Provider[Any], None]:
    """Return the providers and all that they are built from, without those that only override one of them."""
    seen: dict[providers.Provider[Any], None] = {}
    waiting = list(roots)
    while waiting:
        provider = waiting.pop()
        if provider not in seen:
            seen[provider] = None
            overriding = provider.overridden
            waiting.extend(child for child in provider.related if child not in overriding)
    return seen


def brought(overriding: Iterable[providers.Provider[Any]]) -> list[providers.Provider[Any]]:
    """Return what came along with overriding providers: what they are built from and no container has as its own."""
    roots = [provider for provider in overriding if not isinstance(provider, providers.Object)]
    if not roots:
        return []
    others = owned(provider for container in tuple(containers) for provider in container.providers.values())
    return [provider for provider in owned(roots) if provider not in others]


def ending(provider: providers.Provider[Any]) -> list[Step]:
    """Return what closes all that a provider holds; it builds anew when it is asked again."""
    if isinstance(provider, Holder):
        return provider.take()
    if isinstance(provider, providers.BaseResource) and provider.initialized:
        return [(0, described(provider), provider.shutdown)]
    return []


def described(provider: Any) -> str:
    """Return how messages call a provider: by its kind and the name of what it provides, never by a value of it."""
    provides = getattr(provider, "provides", None)
    name = getattr(provides, "__name__", None) or (type(provides).__name__ if provides is not None else "")
    return f"{type(provider).__name__}({name})"


def named(provider: Any) -> str:
    """Return the name of a provider in its container, such as `Application.notes`; of one that has none, its kind."""
    for container in tuple(containers):
        for name, each in container.providers.items():
            if each is provider:
                return f"{container.parent_name}.{name}"
    return described(provider)


def path_to(provider: providers.Provider[Any], needed: providers.Provider[Any]) -> list[str]:
    """Return how messages call the providers from what `provider` is made of down to `needed`."""
    waiting: list[tuple[Any, list[str]]] = [(provider, [])]
    seen: set[Any] = set()
    while waiting:
        each, path = waiting.pop()
        if each is needed:
            return path
        if each not in seen:
            seen.add(each)
            layer = each.layer() if isinstance(each, Overridable) else None
            replacement = None if layer is None else layer.replaced.get(each)
            for child in _needed(each) if replacement is None else (replacement,):
                waiting.append((child, [*path, named(child)]))
    return [named(needed)]


def _needed(provider: providers.Provider[Any]) -> Iterator[providers.Provider[Any]]:
    """Yield what the provider's value is built from. Who is handed a provider itself asks it anew at each use."""
    if isinstance(provider, providers.Delegate):
        return
    if not isinstance(provider, Overridable) and provider.last_overriding is not None:
        yield provider.last_overriding
        return
    overriding = provider.overridden
    yield from (
        needed for needed in provider.related if needed not in overriding and not providers.is_delegated(needed)
    )


def _active(layers: tuple[Layer, ...]) -> Layer | None:
    for layer in reversed(layers):
        if layer.active:
            return layer
    return None


def _count(changed: list[Overridable[Any]]) -> None:
    for provider in changed:
        provider.changes += 1


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
