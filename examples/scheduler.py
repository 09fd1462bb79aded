"""A service of which one starts as many as one likes: each job runs once, in whichever of them, and one of them leads.

P8FS_PG_PORT=5432 P8FS_CLUSTER_CREATE=true python -m examples.scheduler --cron '*/10 * * * * *'

Each prints what it does, as lines of JSON. Kill one with `kill -9`, and the others go on within the ttl; end it by
Ctrl-C or SIGTERM, and they go on at once.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
from typing import Any

from p8fs_cluster import Container, Provide, inject
from p8fs_cluster.coordination.cluster import Cluster
from p8fs_cluster.coordination.leader import Leader
from p8fs_cluster.exceptions import CoordinationError, LeaseLost


def told(event: str, **details: Any) -> None:
    """Print what happens here."""
    print(json.dumps({"pid": os.getpid(), "event": event, **details}), flush=True)


def job() -> None:
    """Do in a real service what is due: this process has the tick, and no other gets it."""
    told("ran")


def lead(leader: Leader) -> None:
    """Do what one process does at a time, until the term is over."""
    told("leads", fence=leader.fence)
    while not leader.lost.wait(0.5):
        told("still leads")
    told("leads no more")


def stand(leader: Leader) -> None:
    """Stand for leader again and again, until the container is closed."""
    while True:
        try:
            leader.run_while_leader(lead, leader)
        except LeaseLost as exc:
            told("lost", why=str(exc))
        except CoordinationError:
            return


@inject
def serve(cron: str, ttl: float, stop: threading.Event, cluster: Cluster = Provide[Container.cluster]) -> None:
    """Join the nodes, and work until the end is asked for; the end of the container ends what is begun here."""
    node = cluster.join(labels={"runs": "jobs"}, ttl=ttl)
    told("joined", node=node, nodes=len(cluster.nodes().nodes))
    threading.Thread(target=stand, args=(cluster.leader("scheduler", ttl),), daemon=True).start()
    with cluster.schedule("report", cron, job, ttl=ttl):
        stop.wait()


def main() -> None:
    """Read the arguments, and serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description="Run a job at times, once among all processes.")
    parser.add_argument("--cron", default="* * * * *", help="five fields, or six with seconds first")
    parser.add_argument("--ttl", type=float, default=15, help="seconds after which a dead process is replaced")
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Container():
        serve(arguments.cron, arguments.ttl, stop)
    told("ended")


if __name__ == "__main__":
    main()
