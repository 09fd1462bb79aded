"""Celery: the container is the active one in every process that runs tasks."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from celery import Celery, current_app, signals

from p8fs_cluster.containers.container import Container
from p8fs_cluster.frameworks.given import Given, container_of

__all__ = ["init_app"]


def init_app(app: Celery, container: Given = None) -> Container:
    """Enter the container in the worker and in each process of its pool, and close it when they end; return it.

    It is the active one in every task of this application, in whatever thread that runs; a task that is run eagerly,
    outside a worker, opens and closes it. Tasks are `@app.task` above `@inject`. The worker of a prefork pool opens
    nothing that its children use: they open their own. Outside a worker, where tasks are sent, nothing is entered.

    >>> app = Celery("service")
    >>> container = init_app(app, Container)
    >>> container.api().port
    8000
    """
    opened = container_of(container)
    entered = ExitStack()

    def enter(sender: Any, **details: Any) -> None:
        if current_app == app:  # the signals are the same for every application in the process
            entered.enter_context(opened)

    def leave(sender: Any, **details: Any) -> None:
        entered.close()

    def enter_task(task: Any, **details: Any) -> None:
        if task.app == app:
            opened.__enter__()

    def leave_task(task: Any, **details: Any) -> None:
        if task.app == app:
            opened.__exit__(None, None, None)

    signals.task_prerun.connect(enter_task, weak=False)
    signals.task_postrun.connect(leave_task, weak=False)
    for starting in (signals.worker_init, signals.worker_process_init):
        starting.connect(enter, weak=False)
    for ending in (signals.worker_process_shutdown, signals.worker_shutdown):
        ending.connect(leave, weak=False)
    return opened
