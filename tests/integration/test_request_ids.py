"""A request's id: in every record of it, those that the server makes included, and in the answer's header."""

from __future__ import annotations

import contextlib
import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from p8fs_cluster import log_context
from p8fs_cluster.frameworks.asgi import RequestContext
from p8fs_cluster.frameworks.wsgi import RequestContext as OfWsgi
from p8fs_cluster.logging.context import bound
from tests.processes import Running, running, serving

JSON = {"log_format": "json"}

ASGI = """
import logging
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from starlette.responses import PlainTextResponse
from p8fs_cluster import Container, log_context
from p8fs_cluster.frameworks.fastapi import RequestContext, lifespan
part = FastAPI()
part.add_middleware(RequestContext)
@part.get("/boom")
def part_boom(): raise ValueError("boom")
app = FastAPI(lifespan=lifespan(Container, validate=False))
@app.get("/hello")
def hello(): logging.getLogger("mine").warning("hello")
@app.get("/boom")
def boom():
    with log_context(user="ann"): raise ValueError("boom")
@app.get("/own")
def own(): return PlainTextResponse("own", headers={"x-Request-Id": "own"})
@app.get("/stream")
def stream():
    def pieces():
        yield "one"
        raise ValueError("boom")
    return StreamingResponse(pieces())
app.mount("/part", part)
"""

ADDED = ASGI + "app.add_middleware(RequestContext)\n"
WRAPPED = ASGI + "app = RequestContext(app)\n"


def entries(server: Running) -> list[dict[str, Any]]:
    lines = server.output.splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def get(url: str, path: str, **headers: str) -> tuple[int, list[str]]:
    """Return the status and all values of the header, also of an answer that breaks off."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        with contextlib.suppress(http.client.IncompleteRead):
            answer.read()
        return answer.status, answer.headers.get_all("X-Request-ID") or []


@pytest.mark.parametrize("program", [ADDED, WRAPPED], ids=["added", "wrapped"])
class TestUvicorn:
    @pytest.mark.parametrize(
        ("path", "status", "raises"),
        [("/hello", 200, 0), ("/boom", 500, 1), ("/part/boom", 500, 1), ("/stream", 200, 1), ("/missing", 404, 0)],
    )
    def test_it_is_in_every_record(self, program: str, path: str, status: int, raises: int, tmp_path: Path) -> None:
        (tmp_path / "served.py").write_text(program)
        with serving(tmp_path / "log", "uvicorn", "--app-dir", tmp_path, "served:app", settings=JSON) as (server, url):
            assert get(url, path, X_Request_ID="req-77", traceparent=f"00-{'a' * 32}-{'b' * 16}-01") == (
                status,
                ["req-77"],
            )
            server.until(lambda: f"GET {path} HTTP" in server.output, "the access log")
            server.end()
            told = entries(server)
        access = [entry for entry in told if entry["logger"] == "uvicorn.access"]
        faults = [entry for entry in told if "exception" in entry]
        mine = [entry for entry in told if entry["logger"] == "mine"]
        assert (len(access), len(faults), len(mine)) == (1, raises, path == "/hello")
        for entry in (*access, *faults, *mine):
            assert (entry["request_id"], entry["trace_id"]) == ("req-77", "a" * 32)

    def test_an_applications_own_header_stays(self, program: str, tmp_path: Path) -> None:
        (tmp_path / "served.py").write_text(program)
        with serving(tmp_path / "log", "uvicorn", "--app-dir", tmp_path, "served:app", settings=JSON) as (_, url):
            assert get(url, "/own", X_Request_ID="req-77") == (200, ["own"])
            [made] = get(url, "/hello", X_Request_ID="two words")[1]
            assert len(made) == 32


def test_a_websockets_acceptance_has_it() -> None:
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_json(dict(bound()))
        await websocket.close()

    app = Starlette(routes=[WebSocketRoute("/", socket)])
    app.add_middleware(RequestContext)
    with TestClient(app).websocket_connect("/", headers={"X-Request-ID": "req-77"}) as session:
        assert session.receive_json() == {"request_id": "req-77"}
        assert session.extra_headers == [(b"x-request-id", b"req-77")]


WSGI = """
import logging
from flask import Flask, Response
from p8fs_cluster import Container
from p8fs_cluster.frameworks.flask import RequestContext, init_app
app = Flask(__name__)
container = init_app(app, Container{option})
container.loggers().set_up()
@app.get("/hello")
def hello():
    logging.getLogger("mine").warning("hello")
    return "hello"
@app.get("/boom")
def boom(): raise ValueError("boom")
@app.get("/own")
def own(): return Response("own", headers={{"x-Request-Id": "own"}})
@app.get("/stream")
def stream():
    def pieces():
        yield "one"
        logging.getLogger("mine").warning("streaming")
        raise ValueError("boom")
    return Response(pieces())
{line}
"""
BY_INIT_APP = WSGI.format(option=", request_context=True", line="")
BY_HAND = WSGI.format(option="", line="app.wsgi_app = RequestContext(app.wsgi_app)")


@pytest.mark.parametrize("program", [BY_INIT_APP, BY_HAND], ids=["init_app", "by hand"])
@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_gunicorn(program: str, worker: str, tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(program)
    options = ("--access-logfile", "-", "--worker-class", worker, "--chdir", tmp_path, "served:app")
    paths = {"/hello": 200, "/boom": 500, "/stream": 200, "/missing": 404}
    with serving(tmp_path / "log", "gunicorn", *options, settings=JSON) as (server, url):
        for path, status in paths.items():
            assert get(url, path, X_Request_ID=f"id-of-{path}") == (status, [f"id-of-{path}"])
            server.until(lambda path=path: f"GET {path} HTTP" in server.output, "the access log")
        assert get(url, "/own", X_Request_ID="req-77") == (200, ["own"])
        [made] = get(url, "/hello", X_Request_ID="two words")[1]
        server.end()
        told = entries(server)
    for path in paths:
        of_path = [entry for entry in told if entry.get("request_id") == f"id-of-{path}"]
        access = [entry for entry in of_path if entry["logger"] == "gunicorn.access"]
        assert (len(access), f"GET {path} HTTP" in access[0]["message"]) == (1, True)
        assert any("exception" in entry for entry in of_path) is (path in ("/boom", "/stream"))
        assert any(entry["logger"] == "mine" for entry in of_path) is (path in ("/hello", "/stream"))
    assert len(made) == 32
    assert all("request_id" in entry for entry in told if "exception" in entry or entry["logger"] == "gunicorn.access")


def test_nothing_is_bound_after_a_wsgi_request() -> None:
    class Closing(list[bytes]):
        def close(self) -> None:
            seen.append(dict(bound()))

    def answers(environ: Any, start_response: Any) -> Any:
        seen.append(dict(bound()))
        start_response("200 OK", [])
        return Closing([b"x"])

    def fails(environ: Any, start_response: Any) -> Any:
        raise ValueError("boom")

    seen: list[Any] = []
    with log_context(outer=1):
        pieces = OfWsgi(OfWsgi(answers))({"HTTP_X_REQUEST_ID": "a1"}, lambda *started: seen.append(started))
        assert list(pieces) == [b"x"]
        pieces.close()  # type: ignore[attr-defined]
        with pytest.raises(ValueError, match="boom"):
            OfWsgi(fails)({}, None)
        assert dict(bound()) == {"outer": 1}
    both = {"outer": 1, "request_id": "a1"}
    assert seen == [both, ("200 OK", [("X-Request-ID", "a1")]), both]


TASKS = """
import logging
from celery import signals
from p8fs_cluster import Container
from p8fs_cluster.frameworks.celery import init_app
from tests.integration.celery_service import queue_in
from pathlib import Path
app = queue_in(Path.cwd())
container = init_app(app, Container)
signals.setup_logging.connect(lambda **details: container.loggers().set_up(), weak=False)  # in place of Celery's own
@app.task(name="boom")
def boom():
    logging.getLogger("mine").warning("at work")
    raise ValueError("boom")
"""


def test_a_celery_tasks_records_have_its_id_and_its_senders(tmp_path: Path) -> None:
    from p8fs_cluster.frameworks.celery import init_app
    from tests.integration.celery_service import queue_in

    queue = queue_in(tmp_path)
    init_app(queue)
    (tmp_path / "tasks.py").write_text(TASKS)
    options = ("worker", "--pool", "prefork", "--concurrency", "1", "--without-gossip", "--without-mingle")
    with running(tmp_path / "log", "-m", "celery", "--app", "tasks", *options, settings=JSON) as worker:
        with log_context(request_id="req-77"):
            sent = [queue.send_task("boom")]
        sent.append(queue.send_task("boom"))
        for result in sent:
            with pytest.raises(Exception, match="boom"):
                result.get(timeout=60)
        assert worker.end() == 0
        told = [entry for entry in entries(worker) if entry["logger"] == "mine" or "exception" in entry]
    seen = {(entry["logger"], entry.get("task_id"), entry.get("request_id")) for entry in told}
    for logger in ("mine", "celery.app.trace"):
        assert (logger, sent[0].id, "req-77") in seen
        assert (logger, sent[1].id, None) in seen
