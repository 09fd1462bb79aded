"""A Celery worker of which the main process schedules tasks, and one child leads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from celery import signals

from p8fs_cluster import Container
from p8fs_cluster.coordination.leader import Leader
from p8fs_cluster.frameworks.celery import init_app
from tests.integration.celery_service import queue_in
from tests.integration.recorded import note

app = queue_in(Path.cwd())
container = init_app(app, Container)
parents: list[Leader] = []


@app.task
def tick() -> None:
    note("ticked")


@signals.worker_init.connect  # type: ignore[untyped-decorator]
def lead_in_main(**details: Any) -> None:
    """Lead in the process that is forked."""
    leader = container.cluster().leader("main")
    leader.wait()
    parents.append(leader)
    note(f"main-{leader.is_leader}")


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def schedule(**details: Any) -> None:
    note(f"still-{parents[0].is_leader}")
    container.cluster().schedule("tick", "* * * * * *", tick.delay)


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def stand(**details: Any) -> None:
    note(f"child-{parents[0].is_leader}")
    container.cluster().leader("child", ttl=1.5, on_elected=lambda: note("leads"), on_lost=lambda: note("led"))
