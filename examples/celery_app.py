"""A Celery application that takes in files. Its broker is a folder here; name a real one in `broker_url`.

export P8FS_STORAGE_PROVIDER=postgresql P8FS_PG_HOST=localhost
celery --app examples.celery_app worker
python -c 'from examples.celery_app import add; print(add.delay("README.md").get())'
"""

from __future__ import annotations

from pathlib import Path

from celery import Celery

from examples.documents import count, prepare, take_in
from p8fs_cluster import Container
from p8fs_cluster.frameworks.celery import init_app

queue, results = Path("data/queue").absolute(), Path("data/results").absolute()
for folder in (queue, results):
    folder.mkdir(parents=True, exist_ok=True)

app = Celery("documents", broker="filesystem://", backend=results.as_uri())
app.conf.broker_transport_options = {
    "data_folder_in": str(queue),
    "data_folder_out": str(queue),
    "control_folder": str(results.with_name("control")),
}
init_app(app, Container)


@app.task  # type: ignore[untyped-decorator]
def add(path: str) -> dict[str, int]:
    """Take in a file. A task that needs something injected itself is `@app.task` above `@inject`."""
    prepare()
    return {"taken": take_in([Path(path)]), "stored": count()}  # type: ignore[call-arg]
