"""Waiting for a lease, and guarding a transaction with it, for asyncio.

`claiming.py` is made of this file by `scripts/threads.py`.
"""

from __future__ import annotations

from typing import Any

from p8fs_cluster.coordination.async_calling import AsyncEvent, AsyncPlace
from p8fs_cluster.coordination.claim import Claim
from p8fs_cluster.coordination.connections import driver_connection
from p8fs_cluster.coordination.guards import guarded, stale
from p8fs_cluster.coordination.holding import Holding

__all__ = ["async_claimed", "async_guard"]


async def async_claimed(place: AsyncPlace, holding: Holding, timeout: float | None) -> bool:
    """Return whether the lease was taken within so many seconds. Interrupted, it is given up again."""
    claim, wakeups = Claim(holding, timeout), holding.coordinator.wakeups
    event: AsyncEvent | None = None
    try:
        while (pause := await place.run(claim.step)) is not None:
            if event is None:
                event = AsyncEvent(place)
                wakeups.add(holding.key, event.set)
            await place.pause(pause, event)
    except BaseException:
        holding.abandon()
        raise
    finally:
        if event is not None:
            wakeups.remove(holding.key, event.set)
    return claim.granted


async def async_guard(holding: Holding, connection: Any) -> None:
    """Lock the row of the lease in the transaction of a connection.

    :raises LeaseLost: it is not there any more.
    """
    connection = driver_connection(connection)
    sql, parameters = guarded(holding, connection)
    async with connection.cursor() as cursor:
        await cursor.execute(sql, parameters)
        found = await cursor.fetchone()
    if found is None:
        raise stale(holding)
