"""The names of scopes, and which of them may lie around which."""

from __future__ import annotations

import functools
from typing import NamedTuple

from p8fs_cluster.exceptions import InjectionError

__all__ = ["ORDER", "Kind", "Order", "above", "kind_of"]

Order = tuple[tuple[str, ...], ...]
"""Chains of scopes, each from the longest to the shortest."""

ORDER: Order = (("application", "websocket", "request"), ("application", "job"))
"""The scopes that are declared for every container, and that the frameworks open."""


class Kind(NamedTuple):
    """All scopes of one name that an order has."""

    name: str
    order: Order
    around: frozenset[str]
    """The names of those that may lie around them."""


def kind_of(name: str, order: Order) -> Kind:
    """Return the scopes of a name.

    :raises InjectionError: the order has no such name.
    """
    names = {each: None for chain in order for each in chain}
    if name not in names:
        import difflib

        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]!r}?" if near else "declare it in the container's `scope_order`"
        raise InjectionError(f"there is no scope {name!r}: {hint}")
    return Kind(name, order, frozenset(each for each in above(order, name) if name not in above(order, each)))


@functools.lru_cache(256)
def above(order: Order, name: str) -> frozenset[str]:
    """Return the scopes that may lie around another one."""
    return frozenset(each for chain in order if name in chain for each in chain[: chain.index(name)])
