"""Faults of the store become 503 and 504, whichever way they come; whatever else a driver raises stays a 500."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, NamedTuple

import pytest
import sqlalchemy
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from flask import Flask
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from p8fs_cluster import Container, Provide, Scoped, Storage, StorageUnavailable, inject
from p8fs_cluster.exceptions import CommitUnknown, NotCommitted, PoolExhausted, StorageClosed, StorageTimeout
from p8fs_cluster.frameworks import fastapi, flask, starlette
from p8fs_cluster.providers.storage.async_handle import AsyncStorage
from p8fs_cluster.providers.storage.engine_table import specs_in_use
from p8fs_cluster.providers.storage.engines import EngineSpec, Fault
from p8fs_cluster.providers.storage.faults import fault_of
from tests.servers import Server, mariadb, postgresql

AWAY = (503, "5", {"detail": "the storage does not answer"})
LATE = (504, "5", {"detail": "the storage did not answer in time"})
LATE_WRITE = (504, None, {"detail": "the storage did not answer in time"})


def open_connection(storage: Storage) -> Iterator[Any]:
    with storage.connection() as connection:
        yield connection


async def open_async_connection(storage: AsyncStorage) -> AsyncIterator[Any]:
    async with storage.connection() as connection:
        yield connection


class Application(Container):
    connection = Scoped(open_connection, Container.storage)
    async_connection = Scoped(open_async_connection, Container.async_storage)


class Answer(NamedTuple):
    status: int
    retry_after: str | None
    body: Any


Ask = Callable[..., Answer]
Work = Callable[[], Any]


def in_fastapi(container: Container, work: Work, *handlers: Any) -> Any:
    app = FastAPI(lifespan=fastapi.lifespan(container, validate=False))
    fastapi.install(app)
    app.api_route("/", methods=["GET", "POST"])(lambda: work())
    return app, handlers


def in_starlette(container: Container, work: Work, *handlers: Any) -> Any:
    def handle(request: Request) -> JSONResponse:
        return JSONResponse(work())

    app = Starlette(
        routes=[Route("/", handle, methods=["GET", "POST"])], lifespan=starlette.lifespan(container, validate=False)
    )
    starlette.install(app)
    return app, handlers


def in_a_mounted_one(container: Container, work: Work, *handlers: Any) -> Any:
    inner = FastAPI()
    inner.api_route("/", methods=["GET", "POST"])(lambda: work())
    between = FastAPI()
    app = FastAPI(lifespan=fastapi.lifespan(container, validate=False))
    fastapi.install(app)
    app.mount("/between", between)  # after `install`
    app.router.routes.append(Mount("/group", routes=[Mount("/inner", app=inner)]))
    return app, handlers


ASGI = {"fastapi": (in_fastapi, "/"), "starlette": (in_starlette, "/"), "mounted": (in_a_mounted_one, "/group/inner/")}
FRAMEWORKS = (*ASGI, "flask")


def ask(framework: str, container: Container, work: Work, method: str = "GET", **handlers: Any) -> Answer:
    """Return the answer of an application whose only handler does the work."""
    if framework == "flask":
        app = Flask(__name__)
        flask.init_app(app, container)
        app.add_url_rule("/", view_func=lambda: [work()], methods=["GET", "POST"])
        for exc in handlers.get("of", ()):
            app.register_error_handler(exc, lambda exc: ("mine", 418))
        with container:
            answer: Any = app.test_client().open("/", method=method)
        return Answer(answer.status_code, answer.headers.get("Retry-After"), answer.json if answer.is_json else None)
    make, path = ASGI[framework]
    asgi, _ = make(container, work)
    inner = asgi.router.routes[-1].routes[0].app if framework == "mounted" else asgi
    for exc in handlers.get("of", ()):
        inner.add_exception_handler(exc, lambda request, exc: JSONResponse("mine", 418))
    with TestClient(asgi, raise_server_exceptions=False) as client:
        answer = client.request(method, path)
    is_json = answer.headers["content-type"] == "application/json"
    return Answer(answer.status_code, answer.headers.get("Retry-After"), answer.json() if is_json else None)


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def raising(exc: BaseException) -> Work:
    def work() -> None:
        raise exc

    return work


def caused(exc: Exception, by: BaseException) -> Exception:
    exc.__cause__ = by
    return exc


@pytest.mark.parametrize(
    ("exc", "method", "expected"),
    [
        (StorageUnavailable("db:5432 refused"), "POST", AWAY),
        (PoolExhausted("all of db:5432 are out"), "GET", AWAY),
        (NotCommitted("db:5432"), "POST", AWAY),
        (StorageTimeout("db:5432"), "GET", LATE),
        (StorageTimeout("db:5432"), "POST", LATE_WRITE),
        (CommitUnknown("db:5432"), "POST", LATE_WRITE),
        (sqlalchemy.exc.TimeoutError("QueuePool limit"), "GET", AWAY),
        (caused(KeyError("mine"), StorageUnavailable("db")), "GET", AWAY),
        (ExceptionGroup("both", [StorageUnavailable("db"), StorageTimeout("db")]), "POST", LATE_WRITE),
        (ExceptionGroup("both", [StorageUnavailable("db"), KeyError("mine")]), "POST", (500, None, None)),
        (StorageClosed("closed"), "GET", (500, None, None)),
        (KeyError("mine"), "GET", (500, None, None)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_is_answered(exc: Exception, method: str, expected: Any, framework: str) -> None:
    answer = ask(framework, Container(), raising(exc), method)
    assert answer[:2] == expected[:2]
    if expected[2]:
        assert answer.body == expected[2], "nothing of the store is told"


@pytest.mark.parametrize("handled", [StorageUnavailable, Exception])
def test_the_applications_own_handlers_come_first(handled: type[Exception], framework: str) -> None:
    assert ask(framework, Container(), raising(PoolExhausted("full")), of=[handled]).status == 418


def test_a_handler_of_the_status_500_is_for_other_faults(framework: str) -> None:
    assert ask(framework, Container(), raising(PoolExhausted("full")), of=[500]) == AWAY
    assert ask(framework, Container(), raising(KeyError("mine")), of=[500]).status == 418


def test_a_handler_that_asks_the_store_itself(framework: str) -> None:
    def work() -> None:
        raise NotCommitted("the first")

    def again(*_: Any) -> None:
        raise StorageUnavailable("the second")

    if framework == "flask":
        app = Flask(__name__)
        container = flask.init_app(app)
        app.add_url_rule("/", view_func=work)
        app.register_error_handler(NotCommitted, again)
        with container:
            assert app.test_client().get("/").status_code == 503
        return
    make, path = ASGI[framework]
    asgi, _ = make(Container(), work)
    asgi.add_exception_handler(NotCommitted, again)
    with TestClient(asgi, raise_server_exceptions=False) as client:
        assert client.get(path).status_code == 503


def test_an_answer_that_has_begun_stays_as_it_is() -> None:
    app = FastAPI(lifespan=fastapi.lifespan(Container(), validate=False))
    fastapi.install(app)

    @app.get("/")
    def stream() -> StreamingResponse:
        def pieces() -> Iterator[str]:
            yield "one"
            raise StorageUnavailable("in the middle")

        return StreamingResponse(pieces())

    with TestClient(app) as client, pytest.raises(StorageUnavailable, match="in the middle"):
        client.get("/")


def test_install_after_the_start_is_an_error() -> None:
    app = FastAPI()
    with TestClient(app), pytest.raises(RuntimeError, match="the application has started"):
        fastapi.install(app)


class Ways:
    """Ways to lose the store within a request, on a server that has to be there again afterwards."""

    def __init__(self, container: Application, kind: str) -> None:
        self.container = container
        self.is_postgresql = kind == "postgresql"
        self.me = "SELECT pg_backend_pid()" if self.is_postgresql else "SELECT CONNECTION_ID()"
        self.long = (
            "SET LOCAL statement_timeout = 50" if self.is_postgresql else "SET SESSION max_statement_time = 0.05"
        )
        numbers = "seq_1_to_1000000"
        joined = f"SELECT sum(a.seq * b.seq) FROM {numbers} a, {numbers} b"
        self.longest = "SELECT pg_sleep(60)" if self.is_postgresql else joined

    def kill(self, pid: int) -> None:
        if self.is_postgresql:
            self.container.storage().execute("SELECT pg_terminate_backend(%s, 60000)", (pid,))
        else:
            self.container.storage().execute("KILL %s", (pid,))

    def block_killed(self) -> None:
        with self.container.storage().connection() as connection, connection.cursor() as cursor:
            cursor.execute(self.me)
            self.kill(cursor.fetchone()[0])
            cursor.execute("SELECT 1")

    def session_killed(self) -> None:
        with self.container.session() as session:
            self.kill(session.execute(sqlalchemy.text(self.me)).scalar_one())
            session.execute(sqlalchemy.text("SELECT 1"))

    def engine_killed(self) -> None:
        with self.container.engine().begin() as connection:
            self.kill(connection.execute(sqlalchemy.text(self.me)).scalar_one())
            connection.execute(sqlalchemy.text("SELECT 1"))

    def scope_killed(self) -> None:
        @inject
        def work(connection: Any = Provide[Application.connection]) -> None:
            with connection.cursor() as cursor:
                cursor.execute(self.me)
                self.kill(cursor.fetchone()[0])

        work()  # its commit fails

    def block_late(self) -> None:
        with self.container.storage().connection() as connection, connection.cursor() as cursor:
            cursor.execute(self.long)
            cursor.execute(self.longest)

    def session_late(self) -> None:
        with self.container.session() as session:
            session.execute(sqlalchemy.text(self.long))
            session.execute(sqlalchemy.text(self.longest))

    def deadline(self) -> None:
        storage = self.container.storage()
        storage.ping()  # a server that is connected to late is another fault
        with storage.connection(timeout=0.2) as connection, connection.cursor() as cursor:
            cursor.execute(self.longest)

    def session_deadline(self) -> None:
        with self.container.config.override({"query_timeout": 0.2}), self.container.session() as session:
            session.execute(sqlalchemy.text(self.longest))

    def exhausted(self) -> None:
        storage = self.container.storage()
        with storage.connection(), storage.connection(), storage.connection():
            raise AssertionError

    def session_exhausted(self) -> None:
        storage = self.container.storage()
        with storage.connection(), storage.connection(), self.container.session() as session:
            session.execute(sqlalchemy.text("SELECT 1"))

    def syntax(self) -> None:
        self.container.storage().execute("SELEC 1")

    def session_syntax(self) -> None:
        with self.container.session() as session:
            session.execute(sqlalchemy.text("SELEC 1"))

    def duplicate(self) -> None:
        with self.container.storage().connection() as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TEMPORARY TABLE twice (id integer PRIMARY KEY)")
            cursor.execute("INSERT INTO twice VALUES (1), (1)")


EXPECTED = {
    **dict.fromkeys(("block_killed", "session_killed", "engine_killed", "scope_killed"), AWAY),
    **dict.fromkeys(("block_late", "session_late", "deadline", "session_deadline"), LATE),
    **dict.fromkeys(("exhausted", "session_exhausted"), AWAY),
    **dict.fromkeys(("syntax", "session_syntax", "duplicate"), (500, None, None)),
}


@pytest.mark.parametrize("server", ["postgresql_server", "mariadb_server"])
@pytest.mark.parametrize("way", EXPECTED)
def test_on_real_servers(way: str, server: str, framework: str, request: pytest.FixtureRequest) -> None:
    real: Server = request.getfixturevalue(server)
    container = Application(config={**real.settings, "pool_max_size": 2, "pool_timeout": 0.5})
    answer = ask(framework, container, getattr(Ways(container, real.kind), way))
    assert answer[:2] == EXPECTED[way][:2]
    if answer.status != 500:
        assert answer.body == EXPECTED[way][2]


@pytest.mark.parametrize("server", ["postgresql_server", "mariadb_server"])
@pytest.mark.parametrize(("late", "expected"), [(False, AWAY), (True, LATE)], ids=["killed", "late"])
def test_on_an_event_loop(server: str, late: bool, expected: Any, request: pytest.FixtureRequest) -> None:
    real: Server = request.getfixturevalue(server)
    ways = Ways(Application(config=real.settings), real.kind)
    app = FastAPI(lifespan=fastapi.lifespan(ways.container, validate=False))
    fastapi.install(app)

    @app.get("/")
    async def work(connection: Annotated[Any, fastapi.depends(Application.async_connection)]) -> None:
        async with connection.cursor() as cursor:
            await cursor.execute(ways.long if late else ways.me)
            if not late:
                await run_in_threadpool(ways.kill, (await cursor.fetchone())[0])
            await cursor.execute(ways.longest)

    with TestClient(app) as client:
        answer = client.get("/")
    assert (answer.status_code, answer.headers["Retry-After"], answer.json()) == expected


def test_a_dependency_without_a_store() -> None:
    away = {"storage_provider": "tidb", "tidb_host": "127.0.0.1", "tidb_port": 1, "pool_timeout": 1}
    app = FastAPI(lifespan=fastapi.lifespan(Application(config=away), validate=False))
    fastapi.install(app)

    @app.get("/")
    def work(connection: Annotated[Any, fastapi.depends(Application.connection)]) -> None:
        raise AssertionError

    with TestClient(app) as client:
        assert client.get("/").status_code == 503


@pytest.mark.parametrize("start", [postgresql, mariadb])
def test_a_server_that_stops(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    with start({"unused": b""}) as server:  # a private one
        container = Container(config={**server.settings, "pool_timeout": 1})

        def work() -> Any:
            with container.session() as session:
                session.execute(sqlalchemy.text("SELECT 1"))
                if server.process is not None and stopping:
                    server.stop()
                return session.execute(sqlalchemy.text("SELECT 2")).scalar_one()

        stopping: list[bool] = []
        app, _ = in_fastapi(container, work)
        with TestClient(app) as client:
            assert client.get("/").json() == 2
            stopping.append(True)
            for _ in range(2):  # in the middle, and when it is gone
                answer = client.get("/")
                assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
            assert "SELECT 2" not in caplog.text, "SQLAlchemy's text of an error has the statement"
            server.start()
            stopping.clear()
            assert client.get("/").json() == 2


def test_what_is_judged_loads_no_driver() -> None:
    code = """
import sys
from p8fs_cluster import StorageUnavailable
from p8fs_cluster.providers.storage.async_handle import AsyncStorage
from p8fs_cluster.providers.storage.engine_table import specs_in_use
from p8fs_cluster.providers.storage.engines import EngineSpec, Fault
from p8fs_cluster.providers.storage.faults import fault_of
assert fault_of(ValueError()) is None and fault_of(StorageUnavailable())
assert not {"psycopg", "pymysql", "sqlalchemy"} & set(sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_chain_that_ends_in_itself() -> None:
    fault = KeyError("mine")
    fault.__cause__ = fault
    assert fault_of(fault) is None


def test_an_engine_of_another_package_judges_its_drivers_errors() -> None:
    spec = EngineSpec(provider="x", engine="x:Y", faults=lambda exc: Fault.LATE, driver="builtins")
    assert (spec.fault(KeyError()), spec.fault(sqlalchemy.exc.SQLAlchemyError())) == (Fault.LATE, Fault.LATE)
    assert EngineSpec(provider="x", engine="x:Y", faults=lambda exc: Fault.LATE, driver="y").fault(KeyError()) is None


def test_engines_are_asked_while_they_are_open(rocksdb_settings: dict[str, Any]) -> None:
    with Container(config=rocksdb_settings) as container:
        container.storage().ping()
        assert "rocksdb" in {spec.provider for spec in specs_in_use()}
    assert "rocksdb" not in {spec.provider for spec in specs_in_use()}
