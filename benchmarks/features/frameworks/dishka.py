"""dishka in FastAPI, Flask and Celery."""

from __future__ import annotations

from typing import Any

from dishka import FromDishka, Provider, Scope, make_async_container, make_container
from dishka.integrations import celery as in_celery
from dishka.integrations import fastapi as in_fastapi
from dishka.integrations import flask as in_flask
from fastapi import APIRouter, FastAPI
from flask import Flask

from benchmarks.features import parts
from benchmarks.features.frameworks import judging
from benchmarks.features.frameworks.judging import Named, told
from benchmarks.features.parts import Transaction

_router = APIRouter()


@_router.get("/name")
@in_fastapi.inject
async def _name(named: FromDishka[Named]) -> str:
    return told(named)


def _provider(name: str) -> Provider:
    provider = Provider(scope=Scope.APP)
    provider.provide(lambda: Named(name), provides=Named)
    provider.provide(parts.transaction, scope=Scope.REQUEST)
    return provider


def _app(name: str) -> FastAPI:
    app = FastAPI()
    app.include_router(_router)
    in_fastapi.setup_dishka(make_async_container(_provider(name)), app)
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
    @in_flask.inject
    def is_open(transaction: FromDishka[Transaction]) -> str:
        return str(transaction.is_open)

    in_flask.setup_dishka(make_container(_provider("first")), app)
    judging.flask(app)


def celery() -> None:
    app = judging.celery_app()

    @app.task  # type: ignore[untyped-decorator, unused-ignore]
    @in_celery.inject
    def is_open(transaction: FromDishka[Transaction]) -> Any:
        return transaction.is_open

    in_celery.setup_dishka(make_container(_provider("first")), app)
    judging.celery(is_open)
