"""A Flask application under gunicorn, whose workers stand for leader. It is gunicorn's configuration as well."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask

from p8fs_cluster import Container
from p8fs_cluster.frameworks.flask import init_app

preload_app = True
workers, threads = 2, 2

app = Flask(__name__)
container = init_app(app, Container)
leader = container.cluster().leader("reports", ttl=600, interval=0.5)
leader.wait()
in_master = leader.is_leader
leader.withdraw()


def post_worker_init(worker: Any) -> None:
    """In each worker."""
    leader.wait_for_attempt()


@app.get("/")
def leads() -> dict[str, Any]:
    return {"pid": os.getpid(), "leads": leader.is_leader, "in_master": in_master}
