"""anydi in FastAPI, where its integration needs annotations that are no text."""

from anydi import Container, Provide
from anydi.ext.fastapi import install
from fastapi import APIRouter, FastAPI

from benchmarks.features.frameworks import judging
from benchmarks.features.frameworks.judging import Named, told

_router = APIRouter()


@_router.get("/name")
async def _name(named: Provide[Named]) -> str:
    return told(named)


def _app(name: str) -> FastAPI:
    container = Container()
    container.register(Named, lambda: Named(name), scope="singleton")
    app = FastAPI()
    app.include_router(_router)
    install(app, container)
    return app


def router() -> None:
    judging.router(_app("first"), _app("second"))


def unmade() -> None:
    app = FastAPI()
    app.include_router(_router)
    judging.unmade(app)


flask = None
celery = None
