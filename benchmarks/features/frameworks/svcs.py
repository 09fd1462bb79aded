"""svcs in FastAPI and Flask."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import svcs
from fastapi import APIRouter, FastAPI
from flask import Flask
from svcs import flask as in_flask
from svcs.fastapi import DepContainer, lifespan

from benchmarks.features import parts
from benchmarks.features.frameworks import judging
from benchmarks.features.frameworks.judging import Named, told
from benchmarks.features.parts import Transaction

_router = APIRouter()


@_router.get("/name")
async def _name(services: DepContainer) -> str:
    return told(await services.aget(Named))


def _app(name: str) -> FastAPI:
    @lifespan
    async def registering(app: FastAPI, registry: svcs.Registry) -> AsyncGenerator[dict[str, object] | None, None]:
        registry.register_factory(Named, lambda: Named(name))
        yield None

    app = FastAPI(lifespan=registering)
    app.include_router(_router)
    return app


def router() -> None:
    judging.router(_app("first"), _app("second"))


def unmade() -> None:
    app = FastAPI()
    app.include_router(_router)
    judging.unmade(app)


def flask() -> None:
    app = in_flask.init_app(Flask(__name__))
    in_flask.register_factory(app, Transaction, parts.transaction)
    app.add_url_rule("/open", view_func=lambda: str(in_flask.get(Transaction).is_open))
    judging.flask(app)


celery = None
