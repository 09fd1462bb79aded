"""Flask: the container is the active one in every request and command of an application."""

from __future__ import annotations

from contextvars import Context
from typing import Any

from flask import Flask, appcontext_popped, appcontext_pushed

from p8fs_cluster.containers.container import Container
from p8fs_cluster.exceptions import StorageUnavailable
from p8fs_cluster.frameworks.given import Given, container_of, unavailable

__all__ = ["init_app"]


def init_app(app: Flask, container: Given = None) -> Container:
    """Make the container the active one in each application context of `app`; return it.

    It is at `app.extensions["p8fs_cluster"]` as well. What requests open stays open, and is closed when the process
    ends, or with the outermost `with container:` around them, as in a test. Workers that were forked open their own.
    A storage that is unavailable is answered with 503; the log has the fault.

    >>> app = Flask(__name__)
    >>> container = init_app(app, Container(config={"api_port": 9000}))
    >>> with container, app.app_context():
    ...     container.api().port
    9000
    """
    opened = app.extensions["p8fs_cluster"] = container_of(container)

    def enter(sender: Flask, **context: Any) -> None:
        if not opened._entered:  # nobody holds it open beyond this request, so the process does
            Context().run(opened.__enter__)  # and no thread is left with it as its active one
        opened.__enter__()

    def leave(sender: Flask, **context: Any) -> None:
        opened.__exit__(None, None, None)

    appcontext_pushed.connect(enter, app, weak=False)
    appcontext_popped.connect(leave, app, weak=False)
    app.register_error_handler(StorageUnavailable, lambda exc: (unavailable(exc), 503))
    return opened
