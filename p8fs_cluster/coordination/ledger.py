"""The record of what was done, each entry with a check of the lease in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from p8fs_cluster.coordination.coordinator import Connected
from p8fs_cluster.coordination.guards import own_row, stale
from p8fs_cluster.coordination.holding import Holding
from p8fs_cluster.coordination.tables import LEDGER
from p8fs_cluster.providers.storage.leases import Run

__all__ = ["is_done", "record", "run_guarded"]

_PATIENCE = 5.0


def is_done(connected: Connected, key: str, seconds: float) -> bool:
    """Return whether the ledger has an entry."""
    return bool(connected.store.execute(f"SELECT 1 FROM {LEDGER} WHERE name = %s", (key,), seconds))


def record(holding: Holding) -> None:
    """Enter that what the lease is for was done.

    :raises LeaseLost: it is over, so that somebody else may be doing it.
    """
    fence, owner = holding.require().token.fence, holding.owner()
    sql = f"INSERT INTO {LEDGER} (name, done_at, fence, owner) VALUES (%s, $now, %s, %s)"
    run_guarded(holding, [(sql, (holding.key, fence, owner))])


def run_guarded(holding: Holding, statements: Sequence[tuple[str, Sequence[object]]]) -> None:
    """Run statements in one transaction, if the lease is held.

    :raises LeaseLost: it is over.
    """
    own, identity = own_row(holding)

    def run_all(run: Run) -> bool:
        if not run(own, identity):
            return False
        for sql, parameters in statements:
            run(sql, parameters)
        return True

    if not holding.coordinator.ask(lambda connected: connected.store.transact(run_all, _PATIENCE)):
        raise stale(holding)
