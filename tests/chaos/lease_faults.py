"""The faults that those who lead and lock may suffer besides."""

from __future__ import annotations

from collections.abc import Callable

from p8fs_cluster import Container
from tests.chaos import faults
from tests.chaos.faults import apart, of_all
from tests.chaos.lines import now
from tests.chaos.nodes import Process
from tests.chaos.told import Fault
from tests.chaos.world import World

__all__ = ["FAULTS"]


def late(world: World) -> Fault:
    """Answers to one node come late, so that its leases are older than it might think; then none comes."""
    victim = world.victim()
    victim.network.delay = world.timing.interval * 0.45  # of each of two round trips, or the renewal is given up
    world.during(0.8)
    return apart("late", world, [victim], lambda node: node.network.silence())


def clock(world: World) -> Fault:
    """A node's clocks are moved, by hours, and back."""
    victim = world.victim()
    begun = now()
    for seconds in (3600, -3600, 0):
        victim.tell(f"clock {seconds}")
        healed = world.during(0.4)
    return Fault("clock", begun, healed, begun, victim.name, harmless=True)


def exhaust(world: World) -> Fault:
    """The application keeps every connection of a node's pool."""
    return _told("exhaust", world, world.victim())


def block(world: World) -> Fault:
    """The application blocks a node's event loop."""
    return _told("block", world, world.victim("asyncio"))


def delete(world: World) -> Fault:
    """Somebody deletes the rows of all leases: who leads loses the lease."""
    begun = now()
    with Container(config=world.server.settings) as container:
        container.storage().execute("DELETE FROM p8fs_leases")
    world.until(lambda: world.leader() is None, world.timing.ttl)
    return of_all("delete", begun)


def drop(world: World) -> Fault:
    """Somebody drops the table of all leases: who leads loses the lease, and the table is made again."""
    begun = now()
    with Container(config=world.server.settings) as container:
        container.storage().execute("DROP TABLE p8fs_leases")
    world.until(lambda: world.leader() is None, world.timing.ttl)
    return of_all("drop", begun)


FAULTS: dict[str, Callable[[World], Fault]] = {
    **faults.FAULTS,
    **{function.__name__: function for function in (late, clock, exhaust, block, delete, drop)},
}
"""Name → what does it."""


def _told(name: str, world: World, victim: Process) -> Fault:
    begun = now()
    seconds = world.timing.ttl * 1.5
    victim.tell(f"{name} {seconds:.2f}")
    healed = world.during(1.6)
    return Fault(name, begun, healed, begun, victim.name, harmless=True)
