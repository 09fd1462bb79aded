"""This process as a node of the cluster, and its watch on the others, for threads.

Made by `scripts/threads.py`: edit `membership.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping

from p8fs_cluster.coordination.calling import Event, Place
from p8fs_cluster.coordination.coordinator import Coordinator
from p8fs_cluster.coordination.lease_rows import NODE
from p8fs_cluster.coordination.roster import FRESH
from p8fs_cluster.coordination.terms import Timing
from p8fs_cluster.coordination.views import Change, View

__all__ = ["join", "leave", "watch"]


def join(coordinator: Coordinator, timing: Timing, labels: Mapping[str, str] | None, address: str) -> str:
    """Join the cluster, and return the id of this process.

    :raises StorageError: the database can't be asked; nothing is tried again then.
    """
    presence = coordinator.roster.presence(timing, labels, address)
    place = Place(coordinator)
    event = Event(place)
    presence.changed.append(event.set)
    presence.stand()
    try:
        while not presence.was_tried:
            place.pause(timing.ttl, event)
            coordinator.require_open()
        if presence.fault is not None:
            raise presence.fault
    except BaseException:
        coordinator.calls.soon(coordinator.roster.leave)  # whoever interrupts this has not joined
        raise
    finally:
        presence.changed.remove(event.set)
    return presence.holding.key.removeprefix(NODE)


def leave(coordinator: Coordinator) -> None:
    """Leave the cluster, if this process has joined."""
    Place(coordinator).run(coordinator.roster.leave)


def watch(coordinator: Coordinator, since: View | None, interval: float | None) -> Iterator[Change]:
    """Yield who comes and goes, up to the end of the container."""
    place = Place(coordinator)
    event = Event(place)
    coordinator.wakeups.add("nodes", event.set, announced=False)  # the end of the container wakes everybody
    try:
        seen = since if since is not None else place.run(coordinator.roster.view)
        while not coordinator.closed:
            seen, changes = place.run(functools.partial(coordinator.roster.changes, seen))
            for change in changes:
                yield change
            place.pause((interval or coordinator.roster.interval) * (1 - FRESH), event)
    finally:
        coordinator.wakeups.remove("nodes", event.set)
