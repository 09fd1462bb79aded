"""The names of scopes, and which of them may lie around which."""

from __future__ import annotations

import difflib
import functools

from p8fs_cluster.exceptions import InjectionError

__all__ = ["ORDER", "Order", "above", "names_in", "unknown_scope"]

Order = tuple[tuple[str, ...], ...]
"""Chains of scopes, each from the longest to the shortest."""

ORDER: Order = (("application", "websocket", "request"), ("application", "job"))
"""The scopes that are declared for every container, and that the frameworks open."""


@functools.lru_cache(64)
def names_in(order: Order) -> frozenset[str]:
    """Return all names."""
    return frozenset(name for chain in order for name in chain)


def unknown_scope(name: str, order: Order) -> InjectionError:
    """Return the error of a name that is none of them."""
    near = difflib.get_close_matches(name, names_in(order), 1)
    hint = f"did you mean {near[0]!r}?" if near else "declare it in the container's `scope_order`"
    return InjectionError(f"there is no scope {name!r}: {hint}")


@functools.lru_cache(256)
def above(order: Order, name: str) -> frozenset[str]:
    """Return the scopes that may lie around another one."""
    return frozenset(each for chain in order if name in chain for each in chain[: chain.index(name)])
