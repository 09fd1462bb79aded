"""The tables of coordination."""

from __future__ import annotations

from collections.abc import Sequence

from p8fs_cluster.coordination.lease_rows import NAMES
from p8fs_cluster.providers.storage.leases import TABLE, LeaseStore
from p8fs_cluster.providers.storage.tables import Step, Tables

__all__ = ["EVENTS", "LEDGER", "RUNS", "STEPS", "VIEWS", "Step", "create", "require", "version_of"]

LEDGER = "p8fs_once"
"""The ledger of work that was done once and for all."""
RUNS = "p8fs_scheduled_runs"
"""The last runs of what is scheduled, one row a tick."""
VIEWS = "p8fs_node_views"
"""The last numbered view of the nodes."""
EVENTS = "p8fs_lease_events"
"""The beginnings and ends of the last terms of leaders."""
_TABLES = (TABLE, NAMES, LEDGER, RUNS, VIEWS, EVENTS)
_VERSIONS = "p8fs_cluster_versions"

STEPS: tuple[Step, ...] = (
    Step(
        1,
        (
            f"CREATE TABLE IF NOT EXISTS {TABLE} (name $key NOT NULL PRIMARY KEY, holder $id, fence BIGINT NOT NULL, "
            "expires_at BIGINT NOT NULL, ttl BIGINT NOT NULL, acquired_at BIGINT NOT NULL, healed_at BIGINT NOT NULL, "
            "owner $text NOT NULL, resign BIGINT NOT NULL, waiting_until BIGINT NOT NULL $fence_key) $often",
            f"CREATE TABLE IF NOT EXISTS {NAMES} (name $key NOT NULL PRIMARY KEY, made_by $id NOT NULL, "
            "ttl BIGINT NOT NULL)",
            f"CREATE TABLE IF NOT EXISTS {LEDGER} (name $key NOT NULL PRIMARY KEY, done_at BIGINT NOT NULL, "
            "fence BIGINT NOT NULL, owner $text NOT NULL)",
            f"CREATE TABLE IF NOT EXISTS {RUNS} (name $key NOT NULL, tick BIGINT NOT NULL, began_at BIGINT NOT NULL, "
            "ended_at BIGINT, owner $text NOT NULL, outcome $text, PRIMARY KEY (name, tick))",
            f"CREATE TABLE IF NOT EXISTS {VIEWS} (name $key NOT NULL PRIMARY KEY, number BIGINT NOT NULL, "
            "members $text NOT NULL, changed_at BIGINT NOT NULL, checked_at BIGINT NOT NULL)",
            f"CREATE TABLE IF NOT EXISTS {EVENTS} (name $key NOT NULL, fence BIGINT NOT NULL, event $id NOT NULL, "
            "happened_at BIGINT NOT NULL, owner $text NOT NULL, why $text NOT NULL, PRIMARY KEY (name, fence, event))",
        ),
    ),
)

_ALL = Tables(
    "coordination",
    "run `p8fs-cluster cluster init`, or set P8FS_CLUSTER_CREATE=true",
    _VERSIONS,
    _TABLES,
    "name",
    STEPS,
)


def version_of(store: LeaseStore, seconds: float) -> int:
    """Return the version of the tables; 0: one of them is not there, as when somebody has dropped it."""
    return _ALL.version_of(store, seconds)


def create(store: LeaseStore, seconds: float, steps: Sequence[Step] = STEPS) -> list[int]:
    """Make what is missing, keep what is there, and return the versions that were added.

    :raises StorageError: a statement failed; what was done stays, and the next call goes on from there.
    """
    return _ALL.create(store, seconds, steps)


def require(store: LeaseStore, seconds: float) -> None:
    """Return if the tables are there, of this version or a later one, which keeps to what this one reads.

    :raises TablesMissing: they are not.
    """
    _ALL.require(store, seconds)
