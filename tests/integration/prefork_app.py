"""An application that has used its storage before gunicorn forks its workers. It is gunicorn's configuration as well.

gunicorn --config python:tests.integration.prefork_app tests.integration.prefork_app:app
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from flask import Flask

from p8fs_cluster import Container
from p8fs_cluster.frameworks.flask import init_app
from tests.integration.sessions import Parent, asked_in_parallel

preload_app = True
workers, threads = 3, 2

app = Flask(__name__)
container = init_app(app, Container)
master = Parent(container)


@app.get("/")
def sessions() -> dict[str, Any]:
    return {"pid": os.getpid(), "sessions": asked_in_parallel(container, 8)}


def on_exit(server: Any) -> None:
    """In the master, when the workers are gone."""
    Path("master.json").write_text(json.dumps({"before": master.before(), "after": master.after()}))
