"""A Celery worker for tests: its tasks tell which process ran them, and with what."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery

from p8fs_cluster import Container, Provide, inject
from p8fs_cluster.frameworks.celery import init_app
from tests.integration.recorded import Recorded


def queue_in(folder: Path) -> Celery:
    """Return an application whose broker and results are in `folder`, as the example has them."""
    queue, results = folder / "data" / "queue", folder / "data" / "results"
    for path in (queue, results):
        path.mkdir(parents=True, exist_ok=True)
    app = Celery("service", broker="filesystem://", backend=results.as_uri())
    app.conf.broker_transport_options = {
        "data_folder_in": str(queue),
        "data_folder_out": str(queue),
        "control_folder": str(folder / "data" / "control"),
        "polling_interval": 0.1,
    }
    return app


app = queue_in(Path.cwd())
init_app(app, Recorded)
init_app(Celery("another", set_as_current=False), Container)  # of no concern to this worker


@app.task
@inject
def meet(name: str, others: list[str], line: str = Provide[Recorded.line]) -> tuple[int, str]:
    """Return process and line when all the others are running as well."""
    Path(name).touch()
    deadline = time.monotonic() + 30
    while not all(Path(other).exists() for other in others):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return os.getpid(), line
