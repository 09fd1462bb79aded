"""Waiting for a lease, and guarding a transaction with it, for threads.

Made by `scripts/threads.py`: edit `claiming.py`.
"""

from __future__ import annotations

from typing import Any

from p8fs_cluster.coordination.calling import Event, Place
from p8fs_cluster.coordination.claim import Claim
from p8fs_cluster.coordination.connections import driver_connection
from p8fs_cluster.coordination.guards import guarded, stale
from p8fs_cluster.coordination.holding import Holding

__all__ = ["claimed", "guard"]


def claimed(place: Place, holding: Holding, timeout: float | None) -> bool:
    """Return whether the lease was taken within so many seconds. Interrupted, it is given up again."""
    claim, wakeups = Claim(holding, timeout), holding.coordinator.wakeups
    event: Event | None = None
    try:
        while (pause := place.run(claim.step)) is not None:
            if event is None:
                event = Event(place)
                wakeups.add(holding.key, event.set)
            place.pause(pause, event)
    except BaseException:
        holding.abandon()
        raise
    finally:
        if event is not None:
            wakeups.remove(holding.key, event.set)
    return claim.granted


def guard(holding: Holding, connection: Any) -> None:
    """Lock the row of the lease in the transaction of a connection.

    :raises LeaseLost: it is not there any more.
    """
    connection = driver_connection(connection)
    sql, parameters = guarded(holding, connection)
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        found = cursor.fetchone()
    if found is None:
        raise stale(holding)
