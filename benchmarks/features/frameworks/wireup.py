"""wireup in FastAPI, Flask and Celery."""

from __future__ import annotations

from typing import Any

import wireup
from fastapi import APIRouter, FastAPI
from flask import Flask
from wireup import Injected, SyncContainer, injectable
from wireup.integration import celery as in_celery
from wireup.integration import fastapi as in_fastapi
from wireup.integration import flask as in_flask

from benchmarks.features import parts
from benchmarks.features.frameworks import judging
from benchmarks.features.frameworks.judging import Named, told
from benchmarks.features.parts import Transaction

_router = APIRouter()


@_router.get("/name")
def _name(named: Injected[Named]) -> str:
    return told(named)


def _container() -> SyncContainer:
    return wireup.create_sync_container(injectables=[injectable(parts.transaction, lifetime="scoped")])


def _app(name: str) -> FastAPI:
    def named() -> Named:
        return Named(name)

    app = FastAPI()
    app.include_router(_router)
    in_fastapi.setup(wireup.create_async_container(injectables=[injectable(named)]), app)
    return app


def router() -> None:
    judging.router(_app("first"), _app("second"))


def unmade() -> None:
    app = FastAPI()
    app.include_router(_router)
    judging.unmade(app)


def flask() -> None:
    app = Flask(__name__)

    @app.get("/open")
    def is_open(transaction: Injected[Transaction]) -> str:
        return str(transaction.is_open)

    in_flask.setup(_container(), app)
    judging.flask(app)


def celery() -> None:
    app = judging.celery_app()

    @app.task  # type: ignore[untyped-decorator, unused-ignore]
    @in_celery.inject  # type: ignore[untyped-decorator, unused-ignore]
    def is_open(transaction: Injected[Transaction]) -> Any:
        return transaction.is_open

    in_celery.setup(_container(), app)
    judging.celery(is_open)
