"""Real outages of a server, longer than any lease: nobody is lost, and whoever is really gone is seen afterwards."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import Container
from p8fs_cluster.coordination import Change
from tests import servers
from tests.processes import Running, running, until

TTL = 1.0
NODE = """
import time
from p8fs_cluster import Container
with Container() as container:
    print(container.cluster().join(ttl={ttl}), flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_an_outage_of_three_ttls_makes_nobody_lost(kind: str, tmp_path: Path) -> None:
    with servers.STARTED[kind]({"private": b""}) as server, contextlib.ExitStack() as stack:
        settings = {**server.settings, "cluster_create": True}
        container = stack.enter_context(Container(config=settings))
        cluster = container.cluster()
        before = cluster.nodes()
        nodes = [stack.enter_context(_node(tmp_path / f"node {number}", settings)) for number in range(3)]
        ids = {node.output.strip() for node in nodes}
        changes: list[Change] = []
        watcher = threading.Thread(target=_watch, args=(cluster, before, changes))
        watcher.start()
        until(lambda: {change.node.id for change in changes} == ids, "all are seen")
        time.sleep(TTL)  # then their beats, without a gap for a whole ttl, show that the database could be reached
        server.stop()
        until(lambda: cluster.nodes().stale, "the view is kept, and stale")
        time.sleep(3 * TTL)
        server.start()
        until(lambda: not cluster.nodes().stale, "all beat again")
        assert {node.id for node in cluster.nodes()} == ids
        assert [change.kind for change in changes] == ["joined"] * 3
        time.sleep(2 * TTL)  # the grace after healing is over
        assert [change.kind for change in changes] == ["joined"] * 3
        gone = nodes[0].output.split()[0]
        nodes[0].end(signal.SIGKILL)
        until(lambda: len(changes) == 4, "whoever is really gone, is seen")
        assert (changes[3].kind, changes[3].node.id) == ("lost", gone)
        container.close()
        watcher.join()


def _node(log: Path, settings: dict[str, Any]) -> contextlib.AbstractContextManager[Running]:
    @contextlib.contextmanager
    def node() -> Any:
        with running(log, "-c", NODE.format(ttl=TTL), settings=settings) as process:
            process.until(lambda: process.output.count("-") >= 4, "it has joined")
            yield process

    return node()


def _watch(cluster: Any, since: Any, changes: list[Change]) -> None:
    for change in cluster.watch(since, interval=TTL / 5):
        changes.append(change)
