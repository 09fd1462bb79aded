"""Containers and their providers: what belongs to which container, and how messages call a provider."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from dependency_injector import providers

__all__ = ["brought", "containers", "described", "named", "owned"]

containers: weakref.WeakSet[Any] = weakref.WeakSet()
"""Every container there is."""


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
