"""The tie between a transaction and a lease: the transaction locks the lease's row, and fails if it is gone."""

from __future__ import annotations

from typing import Any

from p8fs_cluster.coordination.holding import Holding
from p8fs_cluster.exceptions import CoordinationError, LeaseLost
from p8fs_cluster.providers.storage.leases import TABLE

__all__ = ["guarded", "own_row", "stale"]


def guarded(holding: Holding, connection: Any) -> tuple[str, tuple[object, ...]]:
    """Return the statement that a transaction guards itself with, which finds one row if the lease is held.

    :raises LeaseLost: the lease is over.
    :raises CoordinationError: no transaction can be guarded on this store, or the connection has none.
    """
    engine = holding.coordinator.engine
    if not engine.guard:
        raise CoordinationError(
            f"{holding.coordinator.spec.provider} has no transactions, so that nothing can be guarded: ask `held` "
            "before each write, or write `fence` beside the value"
        )
    if engine.commits_at_once(connection):
        raise CoordinationError("the connection commits each statement by itself: a guard needs a transaction")
    return own_row(holding)


def own_row(holding: Holding) -> tuple[str, tuple[object, ...]]:
    """Return the statement that finds the lease's row if it is still this term's, and locks it where it can.

    :raises LeaseLost: the term is over.
    """
    term, guard = holding.require(), holding.coordinator.engine.guard
    sql = f"SELECT 1 FROM {TABLE} WHERE name = %s AND holder = %s AND fence = %s {guard}"
    return sql, (holding.key, holding.holder, term.token.fence)


def stale(holding: Holding) -> LeaseLost:
    """Return the error for a transaction that found the lease gone, and end the belief in it."""
    term = holding.term
    if term is None:
        return LeaseLost(f"{holding.key}: it was never acquired")
    holding.end(term, "a guard has found it gone")
    return holding.over(term)
