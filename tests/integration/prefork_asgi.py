"""The application that uvicorn's workers run: uvicorn --workers 2 tests.integration.prefork_asgi:app"""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI, Request

from p8fs_cluster import Container
from p8fs_cluster.frameworks.fastapi import lifespan
from tests.integration.sessions import asked_in_parallel

app = FastAPI(lifespan=lifespan(Container))


@app.get("/")
def sessions(request: Request) -> dict[str, Any]:
    return {"pid": os.getpid(), "sessions": asked_in_parallel(request.app.state.container, 8)}
