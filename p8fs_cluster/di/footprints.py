"""The footprint of a provider's value: the overrides in force in its graph, and the scopes that values in it end with.

A footprint is made of those of the providers that a value is built from, each found once an epoch. So the footprints
of a chain take as many steps as the chain has providers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from dependency_injector import providers

from p8fs_cluster.di import context
from p8fs_cluster.di.entering import opens_asynchronously
from p8fs_cluster.di.layers import Kept, Key, Layer, changes_made, changing, covering, needed
from p8fs_cluster.di.overriding import Overridable
from p8fs_cluster.di.ownership import named

__all__ = ["Footprint", "commit", "footprint", "forget", "path_to"]


class Footprint(NamedTuple):
    """The state that the value of a provider depends on, here and now."""

    key: Key = ()
    """The layers that replace something that the value is built from, oldest first."""
    scoped: tuple[Overridable[Any], ...] = ()
    """The providers whose values end with a scope."""
    asynchronous: bool = False
    """True if one of the providers is known to be opened asynchronously."""
    since: int = 0
    """The number of changes of overrides that had been made before this was looked for."""


def footprint(provider: providers.Provider[Any]) -> Footprint:
    """Return what a provider's value depends on here and now, found once an epoch."""
    return _kept(provider, context.in_force.get().isolated) or _found(provider)


def commit(kept: Kept, provider: Overridable[Any], found: Footprint, keep: Callable[[], bool]) -> bool:
    """Call `keep` if nothing of the provider's footprint was overridden since it was found; return whether it kept."""
    with changing():
        if not (found.since == changes_made() or _is_unchanged(provider, found.since)) or not keep():
            return False
        for layer in found.key:
            layer.held[kept, found.key] = None
        return True


def forget(kept: Kept, key: Key) -> None:
    """Take back `commit`, when what was kept for a key has been closed."""
    with changing():
        for layer in key:
            layer.held.pop((kept, key), None)


def _is_unchanged(provider: Overridable[Any], since: int) -> bool:
    below = (each for each in _walked(provider) if isinstance(each, Overridable) and each is not provider)
    return all(each.changed_at <= since for each in below)


def path_to(provider: providers.Provider[Any], wanted: providers.Provider[Any]) -> list[str]:
    """Return how messages call the providers from what `provider` is made of down to `wanted`."""
    waiting: list[tuple[Any, list[str]]] = [(provider, [])]
    seen: set[Any] = set()
    while waiting:
        each, path = waiting.pop()
        if each is wanted:
            return path
        if each not in seen:
            seen.add(each)
            waiting.extend((child, [*path, named(child)]) for child in _children(each, root=provider))
    return [named(wanted)]


class _Part(NamedTuple):
    """One thing that a value is built from: the provider that gives it, and what led there."""

    provider: Any
    """The one that no other replaces."""
    layers: tuple[Layer, ...]
    asynchronous: bool


def _kept(provider: Any, isolated: Key) -> Footprint | None:
    if not isinstance(provider, Overridable):
        return None
    epoch, kept = provider.footprints
    return kept.get(isolated) if epoch is context.epoch else None


def _found(provider: providers.Provider[Any]) -> Footprint:
    """Walk down to what is known, and back up: no recursion, as a chain may be longer than Python's stack."""
    epoch, isolated, since = context.epoch, context.in_force.get().isolated, changes_made()
    found: dict[Any, Footprint] = {}
    parts: dict[Any, list[_Part]] = {}
    waiting: list[Any] = [provider]
    while waiting:
        each = waiting[-1]
        if each in found:
            waiting.pop()
        elif each not in parts:
            parts[each] = [_part(child) for child in needed(each)]
            for part in parts[each]:
                if (kept := _kept(part.provider, isolated)) is not None:
                    found[part.provider] = kept
                elif part.provider in parts and part.provider not in found:
                    return _keep(provider, epoch, isolated, _of_cycle(provider, since))
                else:
                    waiting.append(part.provider)
        else:
            waiting.pop()
            found[each] = _joined(((part, found[part.provider]) for part in parts[each]), since)
            _keep(each, epoch, isolated, found[each])
    return found[provider]


def _keep(provider: providers.Provider[Any], epoch: object, isolated: Key, found: Footprint) -> Footprint:
    if isinstance(provider, Overridable):
        if provider.footprints[0] is not epoch:
            provider.footprints = (epoch, {})
        provider.footprints[1][isolated] = found
        provider.is_read = True
    return found


def _part(provider: Any) -> _Part:
    layers: list[Layer] = []
    asynchronous = False
    while True:
        if isinstance(provider, Overridable):
            asynchronous = asynchronous or opens_asynchronously(getattr(provider, "provides", None))
        cover = covering(provider)
        if cover is None or cover[0] in layers:
            return _Part(provider, tuple(layers), asynchronous)
        layers.append(cover[0])
        provider = cover[1]


def _joined(parts: Iterable[tuple[_Part, Footprint]], since: int) -> Footprint:
    layers: dict[Layer, None] = {}
    scoped: dict[Overridable[Any], None] = {}
    asynchronous = False
    for part, below in parts:
        layers |= dict.fromkeys((*part.layers, *below.key))
        if isinstance(part.provider, Overridable) and part.provider.scope is not None:
            scoped[part.provider] = None
        scoped |= dict.fromkeys(below.scoped)
        asynchronous = asynchronous or part.asynchronous or below.asynchronous
        since = min(since, below.since)
    key = tuple(sorted(layers, key=lambda layer: layer.number)) if layers else ()
    return Footprint(key, tuple(scoped), asynchronous, since)


def _of_cycle(provider: providers.Provider[Any], since: int) -> Footprint:
    """Return the footprint of what needs itself by a way that is not gone, as through a `Selector`."""
    reached = [each for each in _walked(provider) if each is not provider]
    return _joined(((_part(each), Footprint(since=since)) for each in reached), since)


def _walked(provider: Any) -> Iterator[Any]:
    """Yield a provider and all that its value is built from here and now, what was replaced included."""
    waiting: list[Any] = [provider]
    seen: set[Any] = set()
    while waiting:
        each = waiting.pop()
        if each not in seen:
            seen.add(each)
            yield each
            waiting.extend(_children(each, root=provider))


def _children(provider: Any, root: Any) -> Iterator[Any]:
    cover = None if provider is root else covering(provider)
    yield from needed(provider) if cover is None else (cover[1],)
