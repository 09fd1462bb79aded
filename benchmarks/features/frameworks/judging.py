"""How integrations are tried, in the same way for every contender."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from celery import Celery
from fastapi import FastAPI
from fastapi.testclient import TestClient
from flask import Flask

from benchmarks.features.judging import assume, expect
from benchmarks.features.parts import ends


class Named:
    """What says which application it belongs to."""

    def __init__(self, name: str) -> None:
        self.name = name


def told(named: object) -> str:
    """Return the name, or what was given in its place."""
    return named.name if isinstance(named, Named) else f"an object of {type(named).__name__}"


def router(first: FastAPI, second: FastAPI) -> None:
    """Expect that the handler of a router that both applications include answers with the name of each."""
    with ExitStack() as stack:
        clients = [stack.enter_context(TestClient(app)) for app in (first, second)]
        names = [client.get("/name").json() for client in (clients[0], clients[1], clients[0])]
    expect(
        names == ["first", "second", "first"],
        f"The first, the second, and the first again answered: {', '.join(names)}.",
    )


def unmade(app: FastAPI) -> None:
    """Expect that a handler fails whose application was given no container."""
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get("/name")
    expect(answer.status_code >= 400, f"It was called with {answer.text.strip(chr(34))}.")


def flask(app: Flask) -> None:
    """Expect that the view is given an open transaction, which ends with the request."""
    ends.clear()
    with app.test_client() as client:
        answer = client.get("/open")
    assume(answer.get_data(as_text=True) == "True", "no open transaction was given")
    expect(ends == ["done"], "It did not end.")


def celery(task: Any) -> None:
    """Expect that the task is given an open transaction, which ends with the task."""
    ends.clear()
    assume(task.apply().get() is True, "no open transaction was given")
    expect(ends == ["done"], "It did not end.")


def celery_app() -> Celery:
    """Return an application that has no broker to talk to."""
    return Celery("features", broker="memory://")
