"""A scope for each request, message, task, job and command, closed before anybody is told of success."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any
from urllib.parse import urlsplit

import celery as celery_library
import flask as flask_library
import httpx2
import pytest
from celery import Celery
from dependency_injector import providers
from fastapi import (
    BackgroundTasks,
    Depends,
    FastAPI,
    HTTPException,
    Request,
    WebSocket,
    WebSocketDisconnect,
    WebSocketException,
)
from fastapi.testclient import TestClient
from flask import Flask
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from p8fs_cluster import Closing, Container, InjectionError, Provide, Scoped, Storage, StorageUnavailable, inject
from p8fs_cluster.containers.default import active
from p8fs_cluster.frameworks import celery, fastapi, flask, starlette, worker
from p8fs_cluster.frameworks.fastapi import depends
from p8fs_cluster.providers.storage.async_handle import AsyncStorage
from tests.integration.test_examples import served
from tests.servers import Server

EVENTS: list[str] = []
FAULT: list[Exception] = []
THREADS: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def _nothing_yet() -> None:
    EVENTS.clear()
    FAULT.clear()
    THREADS.clear()


class Transaction:
    """Notes how it ends."""


class Tenant(str):
    """What an application gives its requests."""


def open_transaction() -> Iterator[Transaction]:
    EVENTS.append("begin")
    THREADS.add(threading.current_thread())
    try:
        yield Transaction()
    except BaseException as exc:
        EVENTS.append(f"roll back: {exc!r}" if isinstance(exc, Exception) else f"roll back: {type(exc).__name__}")
        raise
    finally:
        THREADS.add(threading.current_thread())
    if FAULT:
        raise FAULT[0]
    EVENTS.append("commit")


async def open_async() -> AsyncIterator[Transaction]:
    EVENTS.append("begin async")
    try:
        yield Transaction()
    except BaseException as exc:
        EVENTS.append(f"roll back async: {exc!r}")
        raise
    EVENTS.append("commit async")


class Application(Container):
    transaction = Scoped(open_transaction)
    awaited = Scoped(open_async)
    job = Scoped(open_transaction).within("job")
    connection = Scoped(open_transaction).within("websocket")
    lasting = Scoped(Transaction).within("application")
    resource = providers.Resource(open_transaction)


def rocksdb(settings: dict[str, Any], cls: type[Application] = Application) -> Application:
    return cls(config=settings)


@inject
def in_a_job(job: Transaction = Provide[Application.job]) -> None:
    EVENTS.append("background")


Tx = Annotated[Transaction, depends(Application.transaction)]


def mixed(pool: Transaction) -> Iterator[str]:
    EVENTS.append("begin mixed")
    yield f"over {type(pool).__name__}"
    EVENTS.append("commit mixed")


def mine() -> Iterator[str]:
    EVENTS.append("mine begins")
    yield "mine"
    EVENTS.append("mine ends")


def api(container: Application, **options: Any) -> FastAPI:
    app = FastAPI(lifespan=fastapi.lifespan(container, **options))
    fastapi.install(app)

    @app.get("/depends")
    def by_depends(first: Tx, second: Tx) -> bool:
        EVENTS.append("handler")
        return first is second

    @app.get("/inject")
    @inject
    def by_inject(first: Transaction = Provide[Application.transaction]) -> bool:
        EVENTS.append("handler")
        return isinstance(first, Transaction)

    @app.get("/async")
    @inject
    async def asynchronous(
        first: Transaction = Provide[Application.awaited], second: Transaction = Provide[Application.transaction]
    ) -> None:
        EVENTS.append("handler")

    @app.get("/missing")
    def missing(first: Tx) -> None:
        raise HTTPException(404)

    @app.get("/fault")
    def fault(first: Tx) -> None:
        raise ValueError("mine")

    @app.get("/background")
    def background(first: Tx, tasks: BackgroundTasks) -> None:
        tasks.add_task(in_a_job)

    @app.get("/stream")
    def stream(first: Tx, lasting: bool = False) -> StreamingResponse:
        def pieces() -> Iterator[str]:
            for number in range(3):
                EVENTS.append(str(number))
                yield str(number)

        if lasting:
            fastapi.until_sent()
        return StreamingResponse(pieces())

    return app


@inject
async def never_sends(
    scope: Any, receive: Any, send: Any, first: Transaction = Provide[Application.transaction]
) -> None:
    """Send nothing: as if a task that was to send were cancelled before its first step."""
    send({"type": "http.response.start", "status": 200, "headers": []}).close()


@pytest.fixture(params=[False, True], ids=["", "below a BaseHTTPMiddleware"])
def client(request: pytest.FixtureRequest, rocksdb_settings: dict[str, Any]) -> Iterator[TestClient]:
    async def passing(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    app = api(rocksdb(rocksdb_settings))
    app.mount("/unsent", never_sends)
    if request.param:
        app.add_middleware(BaseHTTPMiddleware, dispatch=passing)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


class TestFastAPI:
    def test_an_answer_that_nobody_waits_for(self, client: TestClient) -> None:
        assert client.get("/unsent").status_code == 500
        [begin, end] = EVENTS
        assert begin == "begin"
        assert end.startswith("roll back")

    @pytest.mark.parametrize("path", ["/depends", "/inject"])
    def test_one_for_the_request(self, client: TestClient, path: str) -> None:
        assert client.get(path).status_code == 200
        assert EVENTS == ["begin", "handler", "commit"]

    @pytest.mark.parametrize("path", ["/depends", "/inject", "/async"])
    def test_synchronous_values_leave_the_event_loop_alone(self, client: TestClient, path: str) -> None:
        client.get(path)
        assert THREADS
        assert all("AnyIO worker" in thread.name for thread in THREADS)

    def test_asynchronous(self, client: TestClient) -> None:
        assert client.get("/async").status_code == 200
        assert EVENTS == ["begin async", "begin", "handler", "commit", "commit async"]

    @pytest.mark.parametrize("path", ["/depends", "/inject", "/async", "/background"])
    @pytest.mark.parametrize(("fault", "status"), [(StorageUnavailable("down"), 503), (RuntimeError("other"), 500)])
    def test_a_commit_that_fails_is_no_success(
        self, client: TestClient, path: str, fault: Exception, status: int
    ) -> None:
        FAULT.append(fault)
        assert client.get(path).status_code == status
        assert "background" not in EVENTS

    def test_an_answer_of_400_and_more_rolls_back(self, client: TestClient) -> None:
        assert client.get("/missing").status_code == 404
        [_, end] = EVENTS
        assert end == "roll back: RequestRefused('the request is answered with 404: roll back')"

    def test_an_exception_rolls_back(self, client: TestClient) -> None:
        assert client.get("/fault").status_code == 500
        assert EVENTS == ["begin", "roll back: ValueError('mine')"]

    @pytest.mark.parametrize("asynchronous", [False, True])
    def test_an_exception_rolls_back_whatever_is_made_of_it(
        self, asynchronous: bool, rocksdb_settings: dict[str, Any]
    ) -> None:
        async def made_async(request: Request, exc: Exception) -> JSONResponse:
            return JSONResponse("all is well")

        app = api(rocksdb(rocksdb_settings))
        handler = made_async if asynchronous else lambda request, exc: JSONResponse("all is well")
        app.add_exception_handler(ValueError, handler)
        with TestClient(app) as client:
            assert client.get("/fault").json() == "all is well"
        assert EVENTS == ["begin", "roll back: ValueError('mine')"]

    def test_mounted_below_another(self, rocksdb_settings: dict[str, Any]) -> None:
        outer = FastAPI(lifespan=fastapi.lifespan(container := rocksdb(rocksdb_settings)))
        outer.mount("/inner", api(container))
        fastapi.install(outer)
        inner = outer.routes[-1].app  # type: ignore[attr-defined]
        inner.add_exception_handler(ValueError, lambda request, exc: JSONResponse("all is well"))
        with TestClient(outer, raise_server_exceptions=False) as client:
            assert client.get("/inner/fault").json() == "all is well"
            assert EVENTS == ["begin", "roll back: ValueError('mine')"]
            EVENTS.clear()
            assert client.get("/inner/depends").status_code == 200
            assert EVENTS == ["begin", "handler", "commit"]
            FAULT.append(StorageUnavailable("down"))
            assert client.get("/inner/inject").status_code == 503

    def test_background_tasks_have_a_job(self, client: TestClient) -> None:
        assert client.get("/background").status_code == 200
        assert EVENTS == ["begin", "commit", "begin", "background", "commit"]

    def test_a_streamed_answer(self, client: TestClient) -> None:
        assert client.get("/stream").text == "012"
        assert EVENTS == ["begin", "commit", "0", "1", "2"]
        EVENTS.clear()
        assert client.get("/stream?lasting=1").text == "012"
        assert EVENTS == ["begin", "0", "1", "2", "commit"]

    def test_beside_dependencies_of_ones_own(self, rocksdb_settings: dict[str, Any]) -> None:
        app = api(rocksdb(rocksdb_settings))

        @app.get("/both")
        def both(first: Tx, second: Annotated[str, Depends(mine)]) -> str:
            return second

        with TestClient(app) as client:
            assert client.get("/both").json() == "mine"
        assert EVENTS == ["begin", "mine begins", "commit", "mine ends"]

    def test_resources(self, rocksdb_settings: dict[str, Any]) -> None:
        app = api(rocksdb(rocksdb_settings))
        targets = {
            "each": depends(Application.resource),
            "closing": depends(Closing[Provide[Application.resource]]),
            "shared": depends(Application.resource, shared=True),
            "named": depends("resource"),
        }
        for name, dependency in targets.items():

            def handler(value: Any = dependency) -> int:
                return id(value)

            app.get(f"/{name}")(handler)
        with TestClient(app, raise_server_exceptions=False) as client:
            for name in ("each", "closing"):
                EVENTS.clear()
                assert [client.get(f"/{name}").status_code for _ in range(2)] == [200, 200]
                assert EVENTS == ["begin", "commit"] * 2
            FAULT.append(StorageUnavailable("down"))
            assert client.get("/each").status_code == 503
            FAULT.clear()
            assert client.get("/shared").json() == client.get("/shared").json()
        with TestClient(app) as client, pytest.raises(InjectionError, match="shared=True to share"):
            client.get("/named")

    def test_a_test_replaces_it(self, rocksdb_settings: dict[str, Any]) -> None:
        container = rocksdb(rocksdb_settings)
        app = api(container)
        with container.transaction.override("fake"), TestClient(app) as client:  # before its lifespan starts
            assert client.get("/depends").json() is True
        assert EVENTS == ["handler"]
        app.dependency_overrides[depends(Application.transaction).dependency] = lambda: "fake"
        with TestClient(app) as client:
            assert client.get("/depends").json() is True
        assert EVENTS == ["handler"] * 2

    def test_values(self, rocksdb_settings: dict[str, Any]) -> None:
        class Given(Application):
            request = Scoped.given(Request)
            tenant = Scoped.given(Tenant)

        def values(connection: Any) -> dict[Any, Any]:
            if "x-tenant" not in connection.headers:
                raise HTTPException(401)
            return {Tenant: Tenant(connection.headers["x-tenant"])}

        container = rocksdb(rocksdb_settings, Given)
        app = api(container, values=values)

        request_given, tenant_given = depends(Given.request), depends(Given.tenant)

        @app.get("/who")
        async def who(request: Any = request_given, tenant: str = tenant_given) -> str:
            return f"{tenant} at {request.url.path}"

        with TestClient(app) as client:
            assert client.get("/who").status_code == 401
            assert client.get("/who", headers={"x-tenant": "acme"}).json() == "acme at /who"
        with pytest.raises(InjectionError, match=r"nobody gives the scope 'request' its values \(Tenant\)"):
            TestClient(api(container)).__enter__()

    def test_websockets(self, rocksdb_settings: dict[str, Any]) -> None:
        app = api(rocksdb(rocksdb_settings))

        @inject
        async def answer(
            socket: WebSocket,
            transaction: Transaction = Provide[Application.transaction],
            connection: Transaction = Provide[Application.connection],
            lasting: Transaction = Provide[Application.lasting],
        ) -> None:
            await socket.send_json([id(transaction), id(connection), id(lasting)])

        @app.websocket("/socket")
        async def socket(socket: WebSocket) -> None:
            await socket.accept()
            with contextlib.suppress(WebSocketDisconnect):
                while await socket.receive_text():
                    await answer(socket)

        with TestClient(app) as client, client.websocket_connect("/socket") as opened:
            seen = []
            for _ in range(2):
                opened.send_text("go")
                seen.append(opened.receive_json())
            assert EVENTS == ["begin", "begin", "commit", "begin"]  # the second message has ended the first one's
        assert EVENTS[4:] == ["commit", "commit"]
        assert seen[0][1:] == seen[1][1:]

    def test_an_exception_of_a_websocket_rolls_back(self, rocksdb_settings: dict[str, Any]) -> None:
        app = api(rocksdb(rocksdb_settings))

        @inject
        def use(
            transaction: Transaction = Provide[Application.transaction],
            connection: Transaction = Provide[Application.connection],
        ) -> None:
            pass

        @app.websocket("/socket")
        async def socket(socket: WebSocket) -> None:
            await socket.accept()
            await socket.receive_text()
            use()
            raise WebSocketException(1008)

        with TestClient(app) as client, client.websocket_connect("/socket") as opened:
            opened.send_text("go")
            with pytest.raises(WebSocketDisconnect):
                opened.receive_text()
        assert EVENTS[:2] == ["begin", "begin"]
        assert [end.split("(")[0] for end in EVENTS[2:]] == ["roll back: WebSocketException"] * 2

    def test_background_tasks_of_a_stream(self, client: TestClient) -> None:
        app: Any = client.app

        @app.get("/streamed")
        def streamed() -> StreamingResponse:
            return StreamingResponse(iter([b"a", b"b"]), background=BackgroundTask(in_a_job))

        assert client.get("/streamed").text == "ab"
        assert EVENTS == ["begin", "background", "commit"]

    def test_a_client_that_goes_in_the_middle_of_a_stream(self, rocksdb_settings: dict[str, Any]) -> None:
        @inject
        async def stream(request: Request, tx: Transaction = Provide[Application.transaction]) -> StreamingResponse:
            async def pieces() -> AsyncIterator[bytes]:
                while True:
                    yield b"x"
                    await asyncio.sleep(0)

            starlette.until_sent()
            return StreamingResponse(pieces())

        async def main(version: str) -> None:
            sent: list[Any] = []
            gone = asyncio.Event()

            async def receive() -> dict[str, Any]:
                await gone.wait()
                return {"type": "http.disconnect"}

            async def send(message: Any) -> None:
                sent.append(message)
                if len(sent) == 3:
                    gone.set()
                elif len(sent) > 3 and version == "2.4":
                    raise OSError("the client has gone")

            scope = {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b"", "headers": []}
            async with app.router.lifespan_context(app):
                with contextlib.suppress(Exception):
                    await app({**scope, "asgi": {"version": "3.0", "spec_version": version}}, receive, send)

        for version in ("2.3", "2.4"):
            EVENTS.clear()
            app = Starlette(
                routes=[Route("/", stream)], lifespan=starlette.lifespan(rocksdb(rocksdb_settings), validate=False)
            )
            asyncio.run(main(version))
            assert EVENTS[0] == "begin"
            assert EVENTS[1].startswith("roll back")

    def test_a_scoped_value_over_an_asynchronous_resource(self, rocksdb_settings: dict[str, Any]) -> None:
        class Mixed(Application):
            pool = providers.Resource(open_async)
            session = Scoped(mixed, pool)

        app = api(rocksdb(rocksdb_settings, Mixed))

        @app.get("/mixed")
        async def handle(session: Any = depends(Mixed.session)) -> str:  # noqa: B008
            return str(session)

        with TestClient(app) as client:
            assert client.get("/mixed").json() == "over Transaction"
        assert EVENTS == ["begin async", "begin mixed", "commit mixed", "commit async"]

    def test_what_cannot_work_is_told_at_the_start(self, rocksdb_settings: dict[str, Any]) -> None:
        class Wrong(Application):
            keeper = providers.Singleton(list, Application.transaction)

        with pytest.raises(InjectionError, match="keeper: it lives as long as the container"):
            TestClient(api(rocksdb(rocksdb_settings, Wrong))).__enter__()


class TestStarlette:
    def test_middleware_that_answers_itself(self, rocksdb_settings: dict[str, Any]) -> None:
        @inject
        async def refusing(request: Request, call_next: Any, tx: Transaction = Provide[Application.transaction]) -> Any:
            return JSONResponse("no", 403)

        app = Starlette(lifespan=starlette.lifespan(rocksdb(rocksdb_settings)))
        app.add_middleware(BaseHTTPMiddleware, dispatch=refusing)
        with TestClient(app) as client:
            assert client.get("/").status_code == 403
        assert EVENTS[1:] == ["roll back: RequestRefused('the request is answered with 403: roll back')"]

    def test_a_stream_whose_end_fails_breaks_off(self, rocksdb_settings: dict[str, Any]) -> None:
        FAULT.append(StorageUnavailable("down"))
        with served(api(rocksdb(rocksdb_settings))) as url:
            connection = http.client.HTTPConnection(urlsplit(url).netloc)
            connection.request("GET", "/stream?lasting=1")
            with pytest.raises(http.client.IncompleteRead):
                connection.getresponse().read()
            connection.close()

    def test_until_sent_outside(self) -> None:
        with pytest.raises(InjectionError, match="belongs into the handler"):
            starlette.until_sent()
        with pytest.raises(InjectionError, match="belongs into the handler"):
            flask.until_sent()

    def test_entered_by_itself(self, rocksdb_settings: dict[str, Any]) -> None:
        @inject
        def use(request: Request, tx: Transaction = Provide[Application.transaction]) -> JSONResponse:
            return JSONResponse(1)

        app = Starlette(
            routes=[Route("/", use)], lifespan=starlette.lifespan(rocksdb(rocksdb_settings), validate=False)
        )

        async def main() -> int:
            async with (
                app.router.lifespan_context(app),
                httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://test") as client,
            ):
                return (await client.get("/")).status_code

        assert asyncio.run(main()) == 200
        assert EVENTS == ["begin", "commit"]


class TestFlask:
    @pytest.fixture
    def app(self, rocksdb_settings: dict[str, Any]) -> Flask:
        app = Flask("scopes")

        class Given(Application):
            request = Scoped.given(flask_library.Request)

        flask.init_app(app, rocksdb(rocksdb_settings, Given))

        @app.get("/inject")
        @inject
        def by_inject(
            first: Transaction = Provide[Application.transaction],
            second: Transaction = Provide[Application.transaction],
            request: flask_library.Request = Provide[Given.request],
        ) -> str:
            EVENTS.append("handler")
            return f"{first is second} {request.path}"

        @app.get("/missing")
        @inject
        def missing(first: Transaction = Provide[Application.transaction]) -> None:
            flask_library.abort(404)

        @app.get("/fault")
        @inject
        def fault(first: Transaction = Provide[Application.transaction]) -> None:
            raise ValueError("mine")

        @app.get("/stream")
        @inject
        def stream(first: Transaction = Provide[Application.transaction]) -> flask_library.Response:
            def pieces() -> Iterator[str]:
                for number in range(3):
                    EVENTS.append(str(number))
                    yield str(number)

            flask.until_sent()
            return flask_library.Response(pieces())

        @app.cli.command("work")
        @inject
        def work(job: Transaction = Provide[Application.job]) -> None:
            EVENTS.append("command")

        return app

    def test_one_for_the_request(self, app: Flask) -> None:
        with app.extensions["p8fs_cluster"]:
            assert app.test_client().get("/inject").text == "True /inject"
        assert EVENTS == ["begin", "handler", "commit"]

    @pytest.mark.parametrize(("fault", "status"), [(StorageUnavailable("down"), 503), (RuntimeError("other"), 500)])
    def test_a_commit_that_fails_is_no_success(self, app: Flask, fault: Exception, status: int) -> None:
        FAULT.append(fault)
        with app.extensions["p8fs_cluster"]:
            assert app.test_client().get("/inject").status_code == status

    def test_what_rolls_back(self, app: Flask) -> None:
        with app.extensions["p8fs_cluster"]:
            assert app.test_client().get("/missing").status_code == 404
            assert EVENTS[1:] == ["roll back: RequestRefused('the request is answered with 404: roll back')"]
            EVENTS.clear()
            assert app.test_client().get("/fault").status_code == 500
            assert EVENTS[1:] == ["roll back: RequestRefused('the request is answered with 500: roll back')"]

    def test_an_exception_rolls_back_whatever_is_made_of_it(self, app: Flask) -> None:
        app.register_error_handler(ValueError, lambda exc: "all is well")
        with app.extensions["p8fs_cluster"]:
            assert app.test_client().get("/fault").text == "all is well"
        assert EVENTS == ["begin", "roll back: ValueError('mine')"]

    def test_a_streamed_answer(self, app: Flask) -> None:
        with app.extensions["p8fs_cluster"]:
            assert app.test_client().get("/stream").text == "012"
        assert EVENTS == ["begin", "0", "1", "2", "commit"]

    def test_a_streamed_answer_that_nobody_reads(self, app: Flask) -> None:
        with app.extensions["p8fs_cluster"]:
            assert app.test_client().head("/stream").status_code == 200
        assert EVENTS == ["begin", "commit"]
        EVENTS.clear()
        with app.extensions["p8fs_cluster"]:
            answer = app.test_client().get("/stream", buffered=False)
            assert next(iter(answer.response)) == b"0"
            answer.close()
        assert EVENTS == ["begin", "0", "roll back: GeneratorExit"]

    def test_a_command_is_a_job(self, app: Flask) -> None:
        with app.extensions["p8fs_cluster"]:
            assert app.test_cli_runner().invoke(args=["work"]).exit_code == 0
            assert EVENTS == ["begin", "command", "commit"]
            FAULT.append(RuntimeError("other"))
            assert app.test_cli_runner().invoke(args=["work"]).exit_code == 1
        assert active() is not app.extensions["p8fs_cluster"]  # nothing has kept it entered


class TestCelery:
    def app(self, container: Container) -> Celery:
        app = Celery("scopes", set_as_current=False)
        app.conf.task_always_eager = True
        app.conf.task_store_eager_result = False
        celery.init_app(app, container)
        return app

    def test_each_run_is_a_job(self, rocksdb_settings: dict[str, Any]) -> None:
        class Given(Application):
            task = Scoped.given(celery_library.Task).within("job")

        app = self.app(rocksdb(rocksdb_settings, Given))

        @app.task(bind=True)
        @inject
        def work(
            self: Any, job: Transaction = Provide[Application.job], task: celery_library.Task = Provide[Given.task]
        ) -> str:
            EVENTS.append("task")
            return str(task.name == self.name)

        assert work.delay().get() == "True"
        assert EVENTS == ["begin", "task", "commit"]

    def test_a_commit_that_fails_is_the_tasks_failure(self, rocksdb_settings: dict[str, Any]) -> None:
        app = self.app(rocksdb(rocksdb_settings))

        @app.task
        @inject
        def work(job: Transaction = Provide[Application.job]) -> None:
            EVENTS.append("task")

        FAULT.append(StorageUnavailable("down"))
        result = work.delay()
        assert result.state == "FAILURE"
        with pytest.raises(StorageUnavailable):
            result.get()

    def test_asynchronous_work_is_refused(self, rocksdb_settings: dict[str, Any]) -> None:
        app = self.app(rocksdb(rocksdb_settings))

        @app.task
        async def work() -> None:
            EVENTS.append("never")

        with pytest.raises(TypeError, match="the work is asynchronous"):
            work.delay().get()

    def test_an_exception_rolls_back(self, rocksdb_settings: dict[str, Any]) -> None:
        app = self.app(rocksdb(rocksdb_settings))

        @app.task(autoretry_for=(ValueError,), max_retries=1, retry_backoff=False, default_retry_delay=0)
        @inject
        def work(job: Transaction = Provide[Application.job]) -> None:
            raise ValueError("mine")

        assert work.delay().state == "FAILURE"
        assert EVENTS.count("begin") == 2
        assert "commit" not in EVENTS


class TestWorkerAndCommands:
    def test_each_job_of_a_worker(self, rocksdb_settings: dict[str, Any]) -> None:
        seen: list[Any] = []

        @inject
        def work(job: Transaction = Provide[Application.job], lasting: Any = Provide[Application.lasting]) -> bool:
            seen.append((job, lasting))
            return len(seen) < 2

        worker.run(work, rocksdb(rocksdb_settings))
        assert EVENTS == ["begin", "commit"] * 2
        assert seen[0][0] is not seen[1][0]
        assert seen[0][1] is seen[1][1]

    @pytest.mark.parametrize("wrapped", [False, True], ids=["async def", "a function that returns an awaitable"])
    def test_asynchronous_work_is_awaited(self, wrapped: bool, rocksdb_settings: dict[str, Any]) -> None:
        class Awaited(Application):
            job = Scoped(open_async).within("job")
            blocking = Scoped(open_transaction).within("job")

        @inject
        async def work(first: Transaction = Provide[Awaited.job], other: Any = Provide[Awaited.blocking]) -> bool:
            await asyncio.sleep(0)
            EVENTS.append("work")
            return EVENTS.count("work") < 2

        worker.run((lambda: work()) if wrapped else work, rocksdb(rocksdb_settings, Awaited))
        for job in (EVENTS[:5], EVENTS[5:]):
            assert (job[2], sorted(job[:2]), sorted(job[3:])) == (
                "work",
                ["begin", "begin async"],
                ["commit", "commit async"],
            )

    @pytest.mark.parametrize(
        ("end", "code", "told"),
        [("pass", 0, "commit"), ("raise typer.Exit(0)", 0, "commit"), ("raise typer.Exit(3)", 3, "roll back")],
    )
    def test_a_command(self, end: str, code: int, told: str) -> None:
        program = f"""
import typer
from p8fs_cluster import Container, Provide, Scoped, inject
from p8fs_cluster.frameworks.typer import enter
def open_transaction():
    try:
        yield 1
    except BaseException:
        print("roll back")
        raise
    print("commit")
class Application(Container):
    job = Scoped(open_transaction).within("job")
app = typer.Typer()
@app.callback()
def main(ctx: typer.Context): enter(ctx, Application)
@inject
def use(job=Provide[Application.job]): pass
@app.command()
def work():
    use()
    {end}
app()
"""
        done = subprocess.run([sys.executable, "-c", program, "work"], capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stderr
        assert done.stdout.split("\n")[0] == told


def open_connection(storage: Storage) -> Iterator[Any]:
    with storage.connection() as connection:
        yield connection


async def open_async_connection(storage: AsyncStorage) -> AsyncIterator[Any]:
    async with storage.connection() as connection:
        yield connection


class Stored(Container):
    connection = Scoped(open_connection, Container.storage)
    async_connection = Scoped(open_async_connection, Container.async_storage)


def test_a_requests_transaction_on_every_sql_server(sql_server: Server) -> None:
    container = Stored(config=sql_server.settings)
    app = FastAPI(lifespan=fastapi.lifespan(container))

    @app.post("/threads/{key}/{status}")
    def in_a_thread(key: str, status: int, connection: Annotated[Any, depends(Stored.connection)]) -> None:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO of_requests VALUES (%s)", (key,))
        if status != 200:
            raise HTTPException(status)

    @app.post("/asyncio/{key}/{status}")
    async def on_the_loop(key: str, status: int, connection: Annotated[Any, depends(Stored.async_connection)]) -> None:
        async with connection.cursor() as cursor:
            await cursor.execute("INSERT INTO of_requests VALUES (%s)", (key,))
        if status != 200:
            raise HTTPException(status)

    with TestClient(app) as client:
        storage = container.storage()
        storage.execute("CREATE TABLE of_requests (name varchar(20))")
        for way in ("threads", "asyncio"):
            for status in (200, 409):
                assert client.post(f"/{way}/{way}-{status}/{status}").status_code == status
        rows = storage.execute("SELECT name FROM of_requests ORDER BY name")
        storage.execute("DROP TABLE of_requests")
    assert rows == [("asyncio-200",), ("threads-200",)]


def test_two_applications_under_load(postgresql_server: Server) -> None:
    """200 requests at once: each is served by its application's container, in a transaction of its own; a commit that
    fails is never a success.
    """

    def service(name: str) -> FastAPI:
        settings = {**postgresql_server.settings, "service_name": name, "pool_max_size": 8, "pool_timeout": 60}
        app = FastAPI(lifespan=fastapi.lifespan(Stored(config=settings)))
        fastapi.install(app)

        @inject
        def store(number: int, connection: Any = Provide[Stored.connection], api: Any = Provide["config"]) -> str:
            connection.execute("INSERT INTO scoped VALUES (%s, %s)", (f"{api.service_name} {number}", number % 10 == 9))
            return str(api.service_name)

        @app.get("/{number}")
        def handle(number: int, connection: Annotated[Any, depends(Stored.connection)]) -> list[Any]:
            served = store(number)
            [transaction] = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            return [served, transaction]

        return app

    with Container(config=postgresql_server.settings) as container:
        container.storage().execute("DROP TABLE IF EXISTS scoped")
        # a row that fails is refused at the commit alone
        container.storage().execute(
            "CREATE TABLE scoped (key text, fails boolean, once int GENERATED ALWAYS AS (CASE WHEN fails THEN 1 END) "
            "STORED, UNIQUE (once) DEFERRABLE INITIALLY DEFERRED)"
        )
        container.storage().execute("INSERT INTO scoped VALUES ('first', true)")
        applications = {name: service(name) for name in ("left", "right")}

        async def main() -> list[tuple[str, int, httpx2.Response]]:
            async with contextlib.AsyncExitStack() as stack:
                clients = {}
                for name, app in applications.items():
                    await stack.enter_async_context(app.router.lifespan_context(app))
                    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
                    clients[name] = await stack.enter_async_context(
                        httpx2.AsyncClient(transport=transport, base_url="http://test", timeout=120)
                    )

                async def ask(name: str, number: int) -> tuple[str, int, httpx2.Response]:
                    return name, number, await clients[name].get(f"/{number}")

                asked = [ask(name, number) for number in range(100) for name in clients]
                return await asyncio.gather(*asked)

        answers = asyncio.run(main())
        rows = {key for (key,) in container.storage().execute("SELECT key FROM scoped")}
        container.storage().execute("DROP TABLE scoped")
    good = [(name, number, answer.json()) for name, number, answer in answers if answer.status_code == 200]
    assert len(answers) == 200
    assert {number for _, number, _ in good} == {number for number in range(100) if number % 10 != 9}
    assert all(answer.status_code == 500 for _, number, answer in answers if number % 10 == 9)
    assert all(served == name for name, _, (served, _) in good)
    assert len({transaction for _, _, (_, transaction) in good}) == len(good) == 180
    assert rows == {"first", *(f"{name} {number}" for name, number, _ in good)}
