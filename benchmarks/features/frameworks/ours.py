"""p8fs_cluster in FastAPI, Flask and Celery."""

from __future__ import annotations

from typing import Annotated, Any

from dependency_injector import providers
from fastapi import APIRouter, FastAPI
from flask import Flask

from benchmarks.features import parts
from benchmarks.features.frameworks import judging
from benchmarks.features.frameworks.judging import Named, told
from benchmarks.features.parts import Transaction
from p8fs_cluster import Container, Provide, Scoped, inject
from p8fs_cluster.frameworks import celery as in_celery
from p8fs_cluster.frameworks import flask as in_flask
from p8fs_cluster.frameworks.fastapi import lifespan
from p8fs_cluster.providers.api import ApiSettings


class Application(Container):
    named = providers.Singleton(Named, "first")
    transaction = Scoped(parts.transaction)
    of_job = Scoped(parts.transaction).within("job")


class Other(Application):
    named = providers.Singleton(Named, "second")


_router = APIRouter()


@_router.get("/name")
@inject
def _name(named: Annotated[Named, Provide[Application.named]]) -> str:
    return told(named)


def _app(container: Container) -> FastAPI:
    app = FastAPI(lifespan=lifespan(container, validate=False))
    app.include_router(_router)
    return app


def router() -> None:
    settings = {"log_level": "WARNING"}
    judging.router(_app(Application(config=settings)), _app(Other(config=settings)))


def unmade() -> None:
    app = FastAPI()

    @app.get("/name")
    @inject
    def port(api: Annotated[ApiSettings, Provide[Container.api]]) -> str:
        return f"what the process's default container gives, an object of {type(api).__name__}"

    judging.unmade(app)


def flask() -> None:
    app = Flask(__name__)

    @app.get("/open")
    @inject
    def is_open(transaction: Transaction = Provide[Application.transaction]) -> str:
        return str(transaction.is_open)

    with in_flask.init_app(app, Application):
        judging.flask(app)


def celery() -> None:
    app = judging.celery_app()

    @app.task  # type: ignore[untyped-decorator, unused-ignore]
    @inject
    def is_open(transaction: Transaction = Provide[Application.of_job]) -> Any:
        return transaction.is_open

    with in_celery.init_app(app, Application):
        judging.celery(is_open)
