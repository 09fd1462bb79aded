"""Celery: the container is the active one in every process that runs tasks, and each task has a scope."""

from __future__ import annotations

import functools
import logging
import os
from contextlib import ExitStack, nullcontext
from typing import Any

from celery import Celery, Task, current_app, signals

from p8fs_cluster.config.problems import variable_of
from p8fs_cluster.containers.container import Container
from p8fs_cluster.di.scopes import Scope
from p8fs_cluster.frameworks._common import Given, container_of, finished, opened_scope, require_given, set_logging_up
from p8fs_cluster.frameworks._request_ids import is_valid
from p8fs_cluster.logging.context import bound, log_context

__all__ = ["init_app"]

log = logging.getLogger(__name__)


def init_app(app: Celery, container: Given = None) -> Container:
    """Enter the container in the worker and in each process of its pool, and close it when they end; return it.

    It is the active one in every task of this application, in whatever thread that runs; a task that is run eagerly,
    outside a worker, opens and closes it. Tasks are `@app.task` above `@inject`. The worker of a prefork pool opens
    nothing that its children use: they open their own. Outside a worker, where tasks are sent, nothing is entered.

    Each run of a task has a scope "job", and `Scoped.given(celery.Task)`: it ends before the task is reported as done,
    and what its end raises, such as a commit that failed, is the task's failure. An exception of the task, `Retry` and
    `Ignore` too, rolls back. A task whose base is none of the application's `Task` has one if it is registered before
    the worker starts. The records of a run have its `task_id`, and the `request_id` of the request that sent the task.

    :raises InjectionError: the container declares values of the scope "job" that nobody gives.

    >>> app = Celery("service")
    >>> container = init_app(app, Container)
    >>> container.api().port
    8000
    """
    opened = container_of(container)
    require_given(opened, "job", (Task,))
    process = _Process(app, opened)

    contexts: dict[str, log_context] = {}

    def enter_task(task: Any, task_id: str, **details: Any) -> None:
        if task.app == app:
            opened.__enter__()
            contexts[task_id] = context = log_context(task_id=task_id, **_sent_by(task))
            context.__enter__()

    def leave_task(task: Any, task_id: str, **details: Any) -> None:
        if task.app == app:
            contexts.pop(task_id).__exit__(None, None, None)
            opened.__exit__(None, None, None)

    signals.before_task_publish.connect(_send_id, weak=False, dispatch_uid=_HEADER)
    signals.task_prerun.connect(enter_task, weak=False)
    signals.task_postrun.connect(leave_task, weak=False)
    signals.setup_logging.connect(process.set_logging_up, weak=False)
    for starting in (signals.worker_init, signals.worker_process_init):
        starting.connect(process.enter, weak=False)
    for ending in (signals.worker_process_shutdown, signals.worker_shutdown):
        ending.connect(process.leave, weak=False)
    process.cover_all()
    return opened


class _Process:
    """The container in one process of a worker, with the scope "application", and its tasks, each run a "job"."""

    def __init__(self, app: Celery, container: Container) -> None:
        self._app = app
        self._container = container
        self._entered = ExitStack()
        self._application: Scope | None = None
        self._pid = 0

    def enter(self, sender: Any, **details: Any) -> None:
        if current_app != self._app:  # the signals are the same for every application in the process
            return
        self._cover_known()
        self._entered.enter_context(self._container)
        if self._application is not None and self._pid == os.getpid():
            return  # a solo pool is both, worker and process
        self._application, self._pid = opened_scope(self._container, "application"), os.getpid()
        self._application.begin()

    def set_logging_up(self, logfile: str | None = None, **details: Any) -> None:
        """Set logging up in Celery's place, which takes the root logger over, and stdout, unless somebody listens."""
        if current_app == self._app:
            set_logging_up(self._container)
            if logfile:
                log.warning("Celery's --logfile %s is not used: %s names the file", logfile, variable_of("log_file"))

    def leave(self, sender: Any, **details: Any) -> None:
        application, self._application = self._application, None
        try:
            if application is not None and self._pid == os.getpid():
                application.end()
        finally:
            self._entered.close()

    def cover_all(self) -> None:
        """Give each run of a task a scope: of those that are known by now, and of those to come."""
        base: Any = self._app.Task
        cover = self._cover

        class Task(base):  # type: ignore[misc]
            abstract = True

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                cover(self)

        self._app.Task = Task
        if self._app.finalized:
            self._cover_known()

    def _cover_known(self) -> None:
        for name, task in self._app.tasks.items():
            if not name.startswith("celery."):
                self._cover(task)

    def _cover(self, task: Any) -> None:
        if not hasattr(getattr(task, "_orig_run", task.run), _COVERED):  # what retries by itself calls `_orig_run`
            task.run = self._in_a_job(task, task.run)

    def _in_a_job(self, task: Any, run: Any) -> Any:
        @functools.wraps(run)
        def run_in_a_job(*args: Any, **kwargs: Any) -> Any:
            application = self._application
            job = opened_scope(self._container, "job", offered={Task: task})
            with application.resumed() if application else nullcontext(), job:
                return finished(run(*args, **kwargs))

        setattr(run_in_a_job, _COVERED, True)
        return run_in_a_job


def _send_id(headers: Any, **details: Any) -> None:
    """Give a task the id of the request that sends it."""
    request_id = bound().get("request_id")
    if is_valid(request_id) and isinstance(headers, dict):
        headers.setdefault(_HEADER, request_id)


def _sent_by(task: Any) -> dict[str, str]:
    request_id = task.request.get(_HEADER)
    return {"request_id": request_id} if is_valid(request_id) else {}


_HEADER = "p8fs_request_id"
_COVERED = "__p8fs_covered__"
