"""Building long chains of providers from their far end, as the way down would take more than Python's stack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from dependency_injector import providers

from p8fs_cluster.di.layers import effective
from p8fs_cluster.di.overriding import Overridable
from p8fs_cluster.di.ownership import named
from p8fs_cluster.exceptions import InjectionError

__all__ = ["LEVELS", "build_deep", "is_deep"]

LEVELS = 16
"""How many providers within each other are built by calls within calls."""
_CALLED = (providers.Factory, providers.Callable, providers.BaseSingleton, providers.BaseResource)


def build_deep(root: Any) -> None:
    """Build what a provider is certain to ask for and that lies deep below it, the deepest first.

    :raises InjectionError: a provider needs itself.
    """
    for provider, depth, is_left in _walk(root, lambda child: not (_keeps(child) and child.built)):
        if is_left and depth and depth % LEVELS == 0 and _keeps(provider):
            provider()


def is_deep(factory: Any) -> bool:
    """Return whether a chain of factories that one begins is longer than what calls within calls should build.

    :raises InjectionError: a provider needs itself.
    """
    heights: dict[Any, int] = {}
    for provider, depth, is_left in _walk(factory, lambda child: not _keeps(child)):
        if is_left:
            heights[provider] = 1 + max((heights.get(child, 0) for child in _asked_for(provider)), default=0)
        if depth >= LEVELS or heights.get(provider, 0) > LEVELS:
            return True
    return False


def _keeps(provider: Any) -> bool:
    return isinstance(provider, Overridable) and provider.keeps


class _Step(NamedTuple):
    """A provider, how many others ask for it on the way there, and whether all that it asks for was walked."""

    provider: Any
    depth: int
    is_left: bool


def _walk(root: Any, is_entered: Callable[[Any], bool]) -> Iterator[_Step]:
    """Walk over a provider's graph, once over each, and yield each before and after what it asks for.

    :raises InjectionError: a provider needs itself.
    """
    path = {root: _asked_for(root)}
    seen = {root}
    yield _Step(root, 0, False)
    while path:
        provider, unseen = next(reversed(path.items()))
        child = next(unseen, None)
        if child is None:
            del path[provider]
            yield _Step(provider, len(path), True)
        elif child in path:
            raise _needs_itself(child, [*path])
        elif child not in seen and is_entered(child):
            seen.add(child)
            path[child] = _asked_for(child)
            yield _Step(child, len(path) - 1, False)


def _needs_itself(provider: Any, path: list[Any]) -> InjectionError:
    told = " → ".join(named(each) for each in (*path[path.index(provider) :], provider))
    return InjectionError(f"{named(provider)} needs itself: {told}. Give one of them a `.provider`, to call later")


def _asked_for(provider: Any) -> Iterator[Any]:
    """Yield the providers that one calls whenever it is called without arguments."""
    if isinstance(provider, _CALLED):
        attributes = getattr(provider, "attributes", {})
        for value in (*provider.args, *provider.kwargs.values(), *attributes.values()):
            if isinstance(value, providers.Provider) and not providers.is_delegated(value):
                yield effective(value)
