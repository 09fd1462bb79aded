"""dependency-injector's singletons and resources, each built once under any number of threads, and numbered."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from dependency_injector import providers

from p8fs_cluster.providers.slot import OPENED

__all__ = ["Resource", "Singleton", "adopted", "owned"]

T = TypeVar("T")
_UNBUILT: Final = object()


class Singleton(providers.Singleton[T]):
    """A `providers.Singleton` with a lock of its own: one build, and an unrelated one never waits for it. None counts.

    >>> numbers = Singleton(lambda: 7)
    >>> numbers(), numbers.built
    (7, True)
    """

    def __init__(self, provides: Any = None, *args: Any, **kwargs: Any) -> None:
        self._lock = threading.RLock()
        self._instance: Any = _UNBUILT
        super().__init__(provides, *args, **kwargs)

    @property
    def built(self) -> bool:
        """Whether there is an instance."""
        return self._instance is not _UNBUILT

    @property
    def instance(self) -> Any:
        """What was built, None before."""
        return self._instance if self.built else None

    def reset(self) -> Any:
        """Forget the instance; the next call builds another."""
        with self._lock:
            self._instance = _UNBUILT
            return super().reset()

    def _provide(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        instance = self._instance
        if instance is _UNBUILT:
            with self._lock:
                if self._instance is not _UNBUILT:
                    return self._instance
                instance = super()._provide(args, kwargs)  # type: ignore[misc]
                if not hasattr(instance, "__await__"):  # what is being built asynchronously is kept by the base class
                    self._instance = instance
        return instance


class Resource(providers.Resource[T]):
    """A `providers.Resource` that opens once under any number of threads and remembers when."""

    def __init__(self, provides: Any = None, *args: Any, **kwargs: Any) -> None:
        self._lock = threading.RLock()
        self.opened_at = 0
        super().__init__(provides, *args, **kwargs)

    def _provide(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.initialized:
            return super()._provide(args, kwargs)  # type: ignore[misc]
        with self._lock:
            opening = not self.initialized
            instance = super()._provide(args, kwargs)  # type: ignore[misc]
            if opening:
                self.opened_at = next(OPENED)
        return instance


_OURS: Mapping[type, type[Singleton[Any]] | type[Resource[Any]]] = {
    providers.Singleton: Singleton,
    providers.ThreadSafeSingleton: Singleton,
    providers.Resource: Resource,
}


def adopted(
    declared: Mapping[str, providers.Provider[Any]], inherited: Iterable[providers.Provider[Any]]
) -> dict[str, providers.Provider[Any]]:
    """Return `declared` with dependency-injector's singletons and resources replaced by ours, wherever they are used.

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
    for provider in found:
        _fill(memo[id(provider)], provider, memo)
    copies: dict[str, providers.Provider[Any]] = providers.deepcopy(dict(declared), memo)
    return copies


def _fill(copy: Any, original: Any, memo: dict[int, Any]) -> None:
    provides = original.provides
    copy.set_provides(providers.deepcopy(provides, memo) if providers.is_provider(provides) else provides)
    copy.set_args(*providers.deepcopy(original.args, memo))
    copy.set_kwargs(**providers.deepcopy(original.kwargs, memo))
    if isinstance(original, providers.BaseSingleton):
        copy.set_attributes(**providers.deepcopy(original.attributes, memo))
    for overriding in original.overridden:
        copy.override(providers.deepcopy(overriding, memo))


def owned(roots: Iterable[providers.Provider[Any]]) -> list[providers.Provider[Any]]:
    """Return the providers and all that they are built from, without those that only override one of them."""
    seen: dict[providers.Provider[Any], None] = {}
    waiting = list(roots)
    while waiting:
        provider = waiting.pop()
        if provider not in seen:
            seen[provider] = None
            overriding = provider.overridden
            waiting.extend(child for child in provider.related if child not in overriding)
    return list(seen)
