"""From the names and values of an override to providers and what stands in their place."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from dependency_injector import containers, providers

from p8fs_cluster.di.overriding import Overridable
from p8fs_cluster.exceptions import InjectionError

__all__ = ["nearest", "replacements"]


_CONTAINER = containers.DynamicContainer
"""The instances of a container's class, and replacements for a part of another container."""


def replacements(container: Any, overriding: Mapping[str, Any]) -> dict[Any, providers.Provider[Any]]:
    """Return each provider of `container` that is named, with the provider that stands in its place.

    :raises InjectionError: there is no such provider.
    """
    return {_named(container, name): _replacement(_named(container, name), value) for name, value in overriding.items()}


def nearest(name: str, container: Any) -> str:
    """Return how a message ends that misses a provider: the nearest name, or all there are."""
    found = difflib.get_close_matches(name, container.providers, n=1)
    return f"; did you mean {found[0]!r}?" if found else f"; it has {', '.join(sorted(container.providers))}"


def _named(container: Any, name: str) -> providers.Provider[Any]:
    provider: providers.Provider[Any] | None = container.providers.get(name)
    if provider is None:
        raise InjectionError(f"{container.parent_name} has no provider {name!r}{nearest(name, container)}")
    return provider


def _replacement(provider: providers.Provider[Any], value: Any) -> providers.Provider[Any]:
    if isinstance(provider, Overridable):
        return provider.replacement(value)
    if isinstance(provider, (providers.Container, providers.DependenciesContainer)) and isinstance(value, _CONTAINER):
        return providers.Container(type(value), value)
    return value if providers.is_provider(value) else providers.Object(value)
