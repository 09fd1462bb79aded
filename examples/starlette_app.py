"""A Starlette application with the container in its lifespan.

P8FS_STORAGE_PROVIDER=rocksdb uvicorn examples.starlette_app:app
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from examples.documents import count, prepare
from p8fs_cluster import Container
from p8fs_cluster.frameworks.starlette import install, lifespan


def stored() -> int:
    """Return how many documents are stored."""
    prepare()
    return count()


async def documents(request: Request) -> JSONResponse:
    """Drivers block, so that they belong in a thread."""
    return JSONResponse({"stored": await run_in_threadpool(stored)})


async def ready(request: Request) -> JSONResponse:
    """Seconds that a round trip to the storage takes; 503 when it does not answer."""
    return JSONResponse({"seconds": await run_in_threadpool(request.app.state.container.storage().ping)})


app = Starlette(routes=[Route("/documents", documents), Route("/ready", ready)], lifespan=lifespan(Container))
install(app)
