"""FastAPI's own: dependencies of an application are its overrides, and its state."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Request

from benchmarks.features.frameworks import judging
from benchmarks.features.frameworks.judging import Named, told

_router = APIRouter()


def _named(request: Request) -> Named:
    named: Named = request.app.state.named
    return named


@_router.get("/name")
def _name(named: Annotated[Named, Depends(_named)]) -> str:
    return told(named)


def _app(name: str) -> FastAPI:
    app = FastAPI()
    app.include_router(_router)
    app.state.named = Named(name)
    return app


def router() -> None:
    judging.router(_app("first"), _app("second"))


unmade = None  # there is no container
flask = None
celery = None
