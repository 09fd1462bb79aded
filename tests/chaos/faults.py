"""The faults that any nodes may suffer: each is done, and healed, and returns what is known of it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterable

from p8fs_cluster import Container
from p8fs_cluster.exceptions import StorageError
from tests.chaos.lines import now
from tests.chaos.nodes import Nodes, Process
from tests.chaos.told import Fault

__all__ = ["FAULTS", "apart", "of_all"]


def kill(nodes: Nodes) -> Fault:
    """A node is killed; another is started in its place."""
    victim = nodes.victim()
    begun = now()
    victim.process.kill()
    victim.process.wait()
    nodes.nodes.remove(victim)
    nodes.add(victim.kind)
    return Fault("kill", begun, now(), begun, victim.name)


def stop(nodes: Nodes) -> Fault:
    """A node is stopped, and goes on as if nothing had been."""
    victim = nodes.victim()
    begun = now()
    victim.process.send_signal(signal.SIGSTOP)
    healed = nodes.during(1.5)
    victim.process.send_signal(signal.SIGCONT)
    return Fault("stop", begun, healed, begun, victim.name)


def restart(nodes: Nodes) -> Fault:
    """The database restarts in order."""
    begun = now()
    nodes.server.stop()
    nodes.server.start()
    return of_all("restart", begun)


def crash(nodes: Nodes) -> Fault:
    """The database is killed, and starts again."""
    begun = now()
    nodes.server.kill()
    nodes.server.start()
    return of_all("crash", begun)


def freeze(nodes: Nodes) -> Fault:
    """The database stands still for long, and holds its sockets."""
    begun = now()
    nodes.server.hang()
    nodes.during(1.3)
    nodes.server.go_on()
    return of_all("freeze", begun)


def terminate(nodes: Nodes) -> Fault:
    """Every session is ended by an administrator."""
    begun = now()
    with Container(config=nodes.server.settings) as container:
        storage = container.storage()
        if nodes.server.provider == "postgresql":
            storage.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                            "AND backend_type = 'client backend'")  # fmt: skip
        else:
            for (number,) in storage.execute("SELECT id FROM information_schema.processlist WHERE id <> connection_id()"
                                             " AND user = 'tester'"):  # fmt: skip
                with contextlib.suppress(StorageError):  # it has ended by itself
                    storage.execute(f"KILL {number}")
    return of_all("terminate", begun)


def silence(nodes: Nodes) -> Fault:
    """The network of one node swallows everything."""
    victim = nodes.victim()
    return apart("silence", nodes, [victim], lambda node: node.network.silence())


def silence_all(nodes: Nodes) -> Fault:
    """The network of all nodes swallows everything."""
    return apart("silence_all", nodes, nodes.nodes, lambda node: node.network.silence())


def cut(nodes: Nodes) -> Fault:
    """The network of one node resets its connections, and refuses new ones."""
    return apart("cut", nodes, [nodes.victim()], lambda node: node.network.cut())


FAULTS: dict[str, Callable[[Nodes], Fault]] = {
    function.__name__: function
    for function in (kill, stop, restart, crash, freeze, terminate, silence, silence_all, cut)
}
"""Name → what does it."""


def of_all(name: str, begun: float) -> Fault:
    """Return a fault that all suffer, healed now."""
    healed = now()
    return Fault(name, begun, healed, healed)


def apart(name: str, nodes: Nodes, victims: Iterable[Process], how: Callable[[Process], None]) -> Fault:
    """Do something to networks for long."""
    victims = list(victims)
    begun = now()
    for node in victims:
        how(node)
    nodes.during(1.5)
    for node in victims:
        node.network.heal()
    healed = now()
    alone = len(victims) == 1
    return Fault(name, begun, healed, begun if alone else healed, victims[0].name if alone else "")
