"""dependency-injector in FastAPI, Flask and Celery: functions are wired in all of them."""

from __future__ import annotations

import sys
from typing import Any

from dependency_injector import containers, providers
from dependency_injector.wiring import Closing, Provide, inject
from fastapi import APIRouter, Depends, FastAPI
from flask import Flask

from benchmarks.features import parts
from benchmarks.features.frameworks import judging
from benchmarks.features.frameworks.judging import Named, told
from benchmarks.features.parts import Transaction


class Application(containers.DeclarativeContainer):
    name = providers.Object("first")
    named = providers.ThreadSafeSingleton(Named, name)
    transaction = providers.Resource(parts.transaction)


_router = APIRouter()


@_router.get("/name")
@inject
def _name(named: Any = Depends(Provide[Application.named])) -> str:  # noqa: B008
    return told(named)


@inject
def _is_open(transaction: Transaction = Closing[Provide[Application.transaction]]) -> bool:
    return transaction.is_open


def _wired(name: str) -> Application:
    application = Application(name=name)
    application.wire(modules=[sys.modules[__name__]])
    return application


def _app() -> FastAPI:
    app = FastAPI()
    app.include_router(_router)
    return app


def router() -> None:
    first, second = _app(), _app()
    first.state.container, second.state.container = _wired("first"), _wired("second")
    judging.router(first, second)


def unmade() -> None:
    judging.unmade(_app())


def flask() -> None:
    app = Flask(__name__)
    _wired("first")
    app.add_url_rule("/open", view_func=lambda: str(_is_open()))
    judging.flask(app)


def celery() -> None:
    app = judging.celery_app()

    @app.task  # type: ignore[untyped-decorator, unused-ignore]
    def is_open() -> bool:
        return _is_open()

    _wired("first")
    judging.celery(is_open)
