"""From markers to a container's providers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from dependency_injector import providers, wiring

from p8fs_cluster.exceptions import InjectionError

__all__ = ["ProvidersOf", "found", "named_in", "nearest", "with_subcontainers"]


class ProvidersOf(wiring.ProvidersMap):
    """dependency-injector's look-up of markers, also in a declarative class, and without its mark on the container.

    What was set on an instance has no counterpart in its class; it is found by its name.
    """

    def __init__(self, container: Any) -> None:
        self._container = container
        self._map = dict(_pairs(container, getattr(container, "declarative_parent", None) or container))


def found(marker: Any, searched: Iterable[ProvidersOf]) -> Any:
    """Return the provider that a marker names in the first container that has it, None when none has."""
    for container in searched:
        provider = container.resolve_provider(marker.provider, marker.modifier)
        if isinstance(provider, providers.Provider):
            return provider
    return None


def named_in(container: Any, name: str) -> providers.Provider[Any]:
    """Return the provider of a name.

    :raises InjectionError: there is none.
    """
    provider: providers.Provider[Any] | None = container.providers.get(name)
    if provider is None:
        raise InjectionError(f"{container.parent_name} has no provider {name!r}{nearest(name, container)}")
    return provider


def nearest(name: str, container: Any) -> str:
    """Return how a message ends that misses a provider: the nearest name, or all there are."""
    import difflib

    found = difflib.get_close_matches(name, container.providers, n=1)
    return f"; did you mean {found[0]!r}?" if found else f"; it has {', '.join(sorted(container.providers))}"


def with_subcontainers(container: Any) -> Iterator[Any]:
    """Yield a container, then those that it holds."""
    yield container
    for provider in container.providers.values():
        if isinstance(provider, providers.Container) and provider.container is not None:
            yield from with_subcontainers(provider.container)


def _pairs(current: Any, original: Any) -> Iterator[tuple[Any, Any]]:
    yield original.__self__, current.__self__
    for name, provider in current.providers.items():
        declared = original.providers.get(name)
        for base in reversed(getattr(original, "__mro__", (original,))):  # a base's marker means what is declared anew
            if name in getattr(base, "providers", ()):
                yield base.providers[name], provider
        if isinstance(provider, providers.Container) and isinstance(declared, providers.Container):
            yield from _pairs(provider.container, declared.container)
