"""A FastAPI application with the container in its lifespan.

P8FS_STORAGE_PROVIDER=rocksdb uvicorn examples.fastapi_app:app
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI

from examples.documents import count, find, prepare, take_in
from p8fs_cluster import Container, Storage
from p8fs_cluster.frameworks.fastapi import depends, install, lifespan


@asynccontextmanager
async def tables(app: FastAPI) -> AsyncIterator[None]:
    """Runs within the container's lifespan, which refuses to start on settings that do not work."""
    prepare()
    yield


app = FastAPI(title="Documents", lifespan=lifespan(Container, around=tables))
install(app)


@app.get("/words/{word}")
def documents_with(word: str) -> list[str]:
    """The names of the documents that hold a word. A plain function: FastAPI runs it in a thread."""
    return find(word)


@app.post("/documents")
def add(path: Path) -> dict[str, int]:
    """Take in a file of the server."""
    return {"taken": take_in([path]), "stored": count()}  # type: ignore[call-arg]


@app.get("/ready")
def ready(storage: Annotated[Storage, depends(Container.storage)]) -> dict[str, float]:
    """Seconds that a round trip to the storage takes; 503 when it does not answer."""
    return {"seconds": storage.ping()}
