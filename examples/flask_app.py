"""A Flask application whose workers each open connections of their own.

export P8FS_STORAGE_PROVIDER=postgresql P8FS_PG_HOST=localhost
flask --app examples.flask_app prepare
gunicorn --preload --workers 2 examples.flask_app:app
"""

from __future__ import annotations

from pathlib import Path

from flask import Flask, request

from examples.documents import count, find, prepare, take_in
from p8fs_cluster import Container, Provide, Storage, inject
from p8fs_cluster.frameworks.flask import init_app

app = Flask(__name__)
init_app(app, Container)


@app.cli.command("prepare")
def prepare_command() -> None:
    """Make the tables."""
    prepare()


@app.get("/words/<word>")
def documents_with(word: str) -> list[str]:
    """The names of the documents that hold a word."""
    return find(word)


@app.post("/documents")
def add() -> dict[str, int]:
    """Take in a file of the server."""
    return {"taken": take_in([Path(request.args["path"])]), "stored": count()}  # type: ignore[call-arg]


@app.get("/ready")
@inject
def ready(storage: Storage = Provide[Container.storage]) -> dict[str, float]:
    """Seconds that a round trip to the storage takes; 503 when it does not answer."""
    return {"seconds": storage.ping()}
