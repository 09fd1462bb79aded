"""A FastAPI application with the container in its lifespan.

P8FS_STORAGE_PROVIDER=rocksdb uvicorn examples.fastapi_app:app
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from examples.documents import count, find, prepare, take_in
from p8fs_cluster import Container, StorageError, validate_configuration


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Refuse to start on settings that do not work; close what was opened when the server ends."""
    async with Container() as container:
        validate_configuration(container)
        prepare()
        app.state.container = container
        yield


app = FastAPI(title="Documents", lifespan=lifespan)


@app.get("/words/{word}")
def documents_with(word: str) -> list[str]:
    """The names of the documents that hold a word. A plain function: FastAPI runs it in a thread."""
    return find(word)


@app.post("/documents")
def add(path: Path) -> dict[str, int]:
    """Take in a file of the server."""
    return {"taken": take_in([path]), "stored": count()}  # type: ignore[call-arg]


@app.get("/ready")
def ready(request: Request) -> dict[str, float]:
    """Seconds that a round trip to the storage takes."""
    return {"seconds": request.app.state.container.storage().ping()}


@app.exception_handler(StorageError)
async def storage_failed(request: Request, exc: StorageError) -> JSONResponse:
    """Say that it is the storage, and no more: the log has the rest."""
    return JSONResponse({"detail": "the storage does not answer"}, status_code=503)
