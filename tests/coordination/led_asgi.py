"""A FastAPI application with a leader and a scheduled job in its lifespan, of which tests start replicas."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from p8fs_cluster import Container, Provide, inject
from p8fs_cluster.frameworks.fastapi import lifespan
from tests.integration.recorded import note

TIMING = {"ttl": 600.0, "interval": 0.5}
"""Nothing passes on within a test but what is given up."""

leading = asyncio.Event()


@inject
async def lead(api: Any = Provide[Container.api]) -> None:
    leading.set()
    note(f"leads-{api.port}")
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.1)
        note("led")


@inject
async def job(api: Any = Provide[Container.api]) -> None:
    note(f"begins-{api.port}")
    await asyncio.sleep(0.3)
    note("ends")


@asynccontextmanager
async def scheduled(app: FastAPI) -> AsyncIterator[None]:
    cluster = app.state.container.async_cluster()
    await cluster.join()
    task = asyncio.create_task(cluster.leader("reports", **TIMING).run_while_leader(lead))
    async with cluster.schedule("nightly", "* * * * * *", job):
        yield
    task.cancel()
    await asyncio.wait({task})


@asynccontextmanager
async def left_alone(app: FastAPI) -> AsyncIterator[None]:
    """Leave the end of all that to the container."""
    cluster = app.state.container.async_cluster()
    await cluster.join()
    app.state.task = asyncio.create_task(cluster.leader("reports", **TIMING).run_while_leader(lead))
    app.state.schedule = cluster.schedule("nightly", "* * * * * *", job)
    yield


@asynccontextmanager
async def failing(app: FastAPI) -> AsyncIterator[None]:
    async with left_alone(app):
        await leading.wait()
        raise ZeroDivisionError("in the start")
        yield


def make(around: Any) -> FastAPI:
    app = FastAPI(lifespan=lifespan(Container, around=around))

    @app.get("/")
    async def leads() -> dict[str, Any]:
        return {"pid": os.getpid(), "leads": leading.is_set()}

    return app


app, careless, broken = make(scheduled), make(left_alone), make(failing)
