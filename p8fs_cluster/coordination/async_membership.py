"""This process as a node of the cluster, and its watch on the others, for asyncio.

`membership.py` is made of this file by `scripts/threads.py`.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Mapping

from p8fs_cluster.coordination.async_calling import AsyncEvent, AsyncPlace
from p8fs_cluster.coordination.coordinator import Coordinator
from p8fs_cluster.coordination.lease_rows import NODE
from p8fs_cluster.coordination.roster import FRESH
from p8fs_cluster.coordination.terms import Timing
from p8fs_cluster.coordination.views import Change, View

__all__ = ["async_join", "async_leave", "async_watch"]


async def async_join(coordinator: Coordinator, timing: Timing, labels: Mapping[str, str] | None, address: str) -> str:
    """Join the cluster, and return the id of this process.

    :raises StorageError: the database can't be asked; nothing is tried again then.
    """
    presence = coordinator.roster.presence(timing, labels, address)
    place = AsyncPlace(coordinator)
    event = AsyncEvent(place)
    presence.changed.append(event.set)
    presence.stand()
    try:
        while not presence.was_tried:
            await place.pause(timing.ttl, event)
            coordinator.require_open()
        if presence.fault is not None:
            raise presence.fault
    except BaseException:
        coordinator.calls.soon(coordinator.roster.leave)  # whoever interrupts this has not joined
        raise
    finally:
        presence.changed.remove(event.set)
    return presence.holding.key.removeprefix(NODE)


async def async_leave(coordinator: Coordinator) -> None:
    """Leave the cluster, if this process has joined."""
    await AsyncPlace(coordinator).run(coordinator.roster.leave)


async def async_watch(coordinator: Coordinator, since: View | None, interval: float | None) -> AsyncIterator[Change]:
    """Yield who comes and goes, up to the end of the container."""
    place = AsyncPlace(coordinator)
    event = AsyncEvent(place)
    coordinator.wakeups.add("nodes", event.set, announced=False)  # the end of the container wakes everybody
    try:
        seen = since if since is not None else await place.run(coordinator.roster.view)
        while not coordinator.closed:
            seen, changes = await place.run(functools.partial(coordinator.roster.changes, seen))
            for change in changes:
                yield change
            await place.pause((interval or coordinator.roster.interval) * (1 - FRESH), event)
    finally:
        coordinator.wakeups.remove("nodes", event.set)
