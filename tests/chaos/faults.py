"""The faults: each is done, and healed, and returns what is known of it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterable

from p8fs_cluster import Container
from p8fs_cluster.exceptions import StorageError
from tests.chaos.events import now
from tests.chaos.history import Fault
from tests.chaos.world import Process, World

__all__ = ["FAULTS"]


def kill(world: World) -> Fault:
    """A node is killed; another is started in its place."""
    victim = world.victim()
    begun = now()
    victim.process.kill()
    victim.process.wait()
    world.nodes.remove(victim)
    world.add(victim.kind)
    return Fault("kill", begun, now(), begun, victim.name)


def stop(world: World) -> Fault:
    """A node is stopped for longer than its lease lasts, and goes on as if nothing had been."""
    victim = world.victim()
    begun = now()
    victim.process.send_signal(signal.SIGSTOP)
    healed = world.during(1.5)
    victim.process.send_signal(signal.SIGCONT)
    return Fault("stop", begun, healed, begun, victim.name)


def restart(world: World) -> Fault:
    """The database restarts in order."""
    begun = now()
    world.server.stop()
    world.server.start()
    return _of_all("restart", begun)


def crash(world: World) -> Fault:
    """The database is killed, and starts again."""
    begun = now()
    world.server.kill()
    world.server.start()
    return _of_all("crash", begun)


def freeze(world: World) -> Fault:
    """The database stands still for longer than leases last, and holds its sockets."""
    begun = now()
    world.server.hang()
    world.during(1.3)
    world.server.go_on()
    return _of_all("freeze", begun)


def terminate(world: World) -> Fault:
    """Every session is ended by an administrator."""
    begun = now()
    with Container(config=world.server.settings) as container:
        storage = container.storage()
        if world.server.provider == "postgresql":
            storage.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                            "AND backend_type = 'client backend'")  # fmt: skip
        else:
            for (number,) in storage.execute("SELECT id FROM information_schema.processlist WHERE id <> connection_id()"
                                             " AND user = 'tester'"):  # fmt: skip
                with contextlib.suppress(StorageError):  # it has ended by itself
                    storage.execute(f"KILL {number}")
    return _of_all("terminate", begun)


def silence(world: World) -> Fault:
    """The network of one node swallows everything."""
    victim = world.victim()
    return _apart("silence", world, [victim], lambda node: node.network.silence())


def silence_all(world: World) -> Fault:
    """The network of all nodes swallows everything."""
    return _apart("silence_all", world, world.nodes, lambda node: node.network.silence())


def cut(world: World) -> Fault:
    """The network of one node resets its connections, and refuses new ones."""
    return _apart("cut", world, [world.victim()], lambda node: node.network.cut())


def late(world: World) -> Fault:
    """Answers to one node come late, so that its leases are older than it might think; then none comes."""
    victim = world.victim()
    victim.network.delay = world.timing.interval * 0.45  # of each of two round trips, or the renewal is given up
    world.during(0.8)
    return _apart("late", world, [victim], lambda node: node.network.silence())


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
    return _of_all("delete", begun)


def drop(world: World) -> Fault:
    """Somebody drops the table of all leases: who leads loses the lease, and the table is made again."""
    begun = now()
    with Container(config=world.server.settings) as container:
        container.storage().execute("DROP TABLE p8fs_leases")
    world.until(lambda: world.leader() is None, world.timing.ttl)
    return _of_all("drop", begun)


FAULTS: dict[str, Callable[[World], Fault]] = {
    function.__name__: function
    for function in (
        kill, stop, restart, crash, freeze, terminate, silence, silence_all, cut, late, clock, exhaust, block,
        delete, drop,
    )
}  # fmt: skip
"""Name → what does it."""


def _of_all(name: str, begun: float) -> Fault:
    healed = now()
    return Fault(name, begun, healed, healed)


def _apart(name: str, world: World, nodes: Iterable[Process], how: Callable[[Process], None]) -> Fault:
    """Do something to networks for longer than leases last."""
    nodes = list(nodes)
    begun = now()
    for node in nodes:
        how(node)
    world.during(1.5)
    for node in nodes:
        node.network.heal()
    healed = now()
    alone = len(nodes) == 1
    return Fault(name, begun, healed, begun if alone else healed, nodes[0].name if alone else "")


def _told(name: str, world: World, victim: Process) -> Fault:
    begun = now()
    seconds = world.timing.ttl * 1.5
    victim.tell(f"{name} {seconds:.2f}")
    healed = world.during(1.6)
    return Fault(name, begun, healed, begun, victim.name, harmless=True)
