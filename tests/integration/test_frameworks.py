"""Each framework's module with the real framework: real servers, real commands, real workers."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import pytest
from celery import Celery
from dependency_injector import providers
from fastapi import BackgroundTasks, FastAPI, Request, WebSocket
from fastapi.testclient import TestClient
from flask import Flask, stream_with_context
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.routing import Route

from p8fs_cluster import Container, InjectionError, Provide, Storage, inject
from p8fs_cluster.exceptions import StorageClosed
from p8fs_cluster.frameworks import celery, fastapi, flask, starlette
from p8fs_cluster.testing import memory_storage
from tests.integration.recorded import events
from tests.integration.test_examples import ask, run, served
from tests.processes import ROOT, running, serving
from tests.servers import Server, free_port

UNREACHABLE = {"storage_provider": "tidb", "tidb_host": "127.0.0.1", "tidb_port": 1, "pool_timeout": 1}
IN_MEMORY = {"storage_provider": "rocksdb", "rocksdb_path": "never/opened"}


class Notes(Container):
    """In memory, with a service of its own."""

    storage = providers.Singleton(memory_storage)
    greeting = providers.Factory(lambda: "hello")

    async def _later() -> str:
        return "later"

    later = providers.Coroutine(_later)


NotesStorage = Annotated[Storage, fastapi.depends(Notes.storage)]


@inject
def port(api: Any = Provide[Container.api]) -> int:
    return api.port


class TestStarlette:
    def app(self, **options: Any) -> Starlette:
        def ready(request: StarletteRequest) -> JSONResponse:
            container = request.app.state.container
            return JSONResponse({"provider": container.storage().provider, "seconds": container.storage().ping()})

        app = Starlette(routes=[Route("/ready", ready)], lifespan=starlette.lifespan(**options))
        starlette.install(app)
        return app

    def test_one_container_again_and_again(self, rocksdb_settings: dict[str, Any]) -> None:
        container = Container(config=rocksdb_settings)
        app = self.app(container=container)
        for _ in range(2):
            with served(app) as url:
                assert ask(f"{url}/ready")[1]["provider"] == "rocksdb"
                assert container.storage().stats()["engines"] == 1
            with pytest.raises(StorageClosed):
                container.storage().ping()

    @pytest.mark.parametrize("shape", ["class", "factory", "none"])
    def test_a_new_container_at_each_start(
        self, shape: str, rocksdb_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in rocksdb_settings.items():
            monkeypatch.setenv(f"P8FS_{name.upper()}", str(value))
        options = {"class": {"container": Container}, "factory": {"container": lambda: Container()}, "none": {}}
        app, seen = self.app(**options[shape]), []
        for _ in range(2):
            with served(app) as url:
                assert ask(f"{url}/ready")[0] == 200
                seen.append(app.state.container)
        assert seen[0] is not seen[1]

    def test_validation_leaves_the_event_loop_alone(self) -> None:
        async def started() -> None:
            loop_is_free = threading.Event()
            container = Container(config=IN_MEMORY)
            storage = memory_storage()
            monkey = pytest.MonkeyPatch()
            monkey.setattr(storage, "open", lambda: waited.append(loop_is_free.wait(20)))
            with monkey.context(), container.storage.override(storage):
                asyncio.get_running_loop().call_later(0.01, loop_is_free.set)
                async with starlette.lifespan(container)(Starlette()):
                    pass

        waited: list[bool] = []
        asyncio.run(started())
        assert waited == [True]

    def test_it_refuses_to_start(self) -> None:
        done = run("uvicorn", "examples.starlette_app:app", "--port", str(free_port()), **UNREACHABLE)
        assert done.returncode != 0
        assert "P8FS_TIDB_PORT (from the environment)" in done.stdout

    def test_503_and_no_word_of_the_store(self, caplog: pytest.LogCaptureFixture) -> None:
        with served(self.app(container=Container(config=UNREACHABLE), validate=False)) as url:
            assert ask(f"{url}/ready") == (503, {"detail": "the storage does not answer"})
        assert "tidb at root@127.0.0.1:1/test" in caplog.text

    def test_around(self) -> None:
        @asynccontextmanager
        async def around(app: Starlette) -> AsyncIterator[dict[str, Any]]:
            steps.append(port())
            yield {"port": port()}
            app.state.container.storage().ping()
            steps.append("closed before the container")

        steps: list[Any] = []
        container = Notes(config={"api_port": 9001})
        app = Starlette(
            routes=[Route("/port", lambda request: JSONResponse(request.state.port))],
            lifespan=starlette.lifespan(container, around=around),
        )
        with served(app) as url:
            assert ask(f"{url}/port") == (200, 9001)
        assert steps == [9001, "closed before the container"]

    def test_the_example(self, tmp_path: Path, rocksdb_settings: dict[str, Any]) -> None:
        with serving(tmp_path / "log", "uvicorn", "examples.starlette_app:app", settings=rocksdb_settings) as (
            server,
            url,
        ):
            assert ask(f"{url}/documents") == (200, {"stored": 0})
            assert ask(f"{url}/ready")[1]["seconds"] > 0
            assert server.end() in (0, -signal.SIGTERM)


class TestFastAPI:
    def app(self) -> FastAPI:
        container = Notes(config={"api_port": 9001})
        app = FastAPI(lifespan=fastapi.lifespan(container))

        @app.get("/provider")
        def provider(storage: NotesStorage) -> str:  # a plain handler, which FastAPI runs in a thread
            return storage.provider

        @app.get("/all")
        async def everything(
            *,
            request: Request,
            name: str,
            by_provider: NotesStorage,
            by_name: Annotated[Storage, fastapi.depends("storage")],
            api_port: Annotated[int, fastapi.depends(Notes.config.provided.api_port)],
            greeting: Annotated[str, fastapi.depends(Notes.greeting)],
            later: Annotated[str, fastapi.depends(Notes.later)],
        ) -> list[Any]:
            same = by_provider is by_name is request.app.state.container.storage()
            return [name, same, api_port, greeting, later]

        @app.get("/missing")
        def missing(value: Annotated[Any, fastapi.depends("strage")]) -> None:
            raise AssertionError

        return app

    def test_depends(self) -> None:
        with served(self.app()) as url:
            assert ask(f"{url}/all?name=x") == (200, ["x", True, 9001, "hello", "later"])

    def test_the_container_of_the_application_is_meant(self) -> None:
        with served(self.app()) as url, Notes(config={"api_port": 9002}) as another:
            assert port() == 9002
            assert ask(f"{url}/all?name=x") == (200, ["x", True, 9001, "hello", "later"])
            assert another.storage().stats()["engines"] == 0

    def test_depends_means_the_container_that_the_application_names(self) -> None:
        """Also where two are entered in the process, and no `lifespan` has entered one for the request."""
        app = self.app()
        with Notes(config={"api_port": 9001}) as named, Notes(config={"api_port": 9002}):
            app.state.container = named
            client = TestClient(app)  # not entered: the lifespan does not run
            answers: list[Any] = []

            def ask_from_elsewhere() -> None:
                answers.append(client.get("/all?name=x").json()[2])

            thread = threading.Thread(target=ask_from_elsewhere)
            thread.start()
            thread.join()
        assert answers == [9001]

    def test_of_several_applications_each_is_served_by_its_own(self) -> None:
        """In handlers of either kind, background tasks and websockets, and within another container's block."""
        seen: list[int] = []

        def application(number: int) -> FastAPI:
            container = Notes(config={"api_port": number})
            app = FastAPI(lifespan=fastapi.lifespan(lambda: container))

            @app.get("/thread")
            def thread(tasks: BackgroundTasks) -> int:
                tasks.add_task(lambda: seen.append(port()))
                return port()

            @app.get("/task")
            async def task() -> int:
                return port()

            @app.websocket("/socket")
            async def socket(websocket: WebSocket) -> None:
                await websocket.accept()
                await websocket.send_json(port())
                await websocket.close()

            return app

        with Notes(config={"api_port": 1}), TestClient(application(2)) as two, TestClient(application(3)) as three:
            for client, number in ((two, 2), (three, 3), (two, 2)):
                assert [client.get(path).json() for path in ("/thread", "/task")] == [number, number]
                with client.websocket_connect("/socket") as socket:
                    assert socket.receive_json() == number
            assert seen == [2, 3, 2]
            assert port() == 1

    def test_overrides_of_container_and_of_fastapi(self) -> None:
        app = self.app()

        class Fake:
            provider = "fake"

        with served(app) as url:
            assert ask(f"{url}/provider") == (200, "memory")
            with app.state.container.storage.override(Fake()):
                assert ask(f"{url}/provider") == (200, "fake")
            app.dependency_overrides[fastapi.depends(Notes.storage).dependency] = Fake
            assert ask(f"{url}/provider") == (200, "fake")
            app.dependency_overrides.clear()
            assert ask(f"{url}/provider") == (200, "memory")

    def test_nothing_of_it_is_in_the_schema(self) -> None:
        schema = self.app().openapi()
        parameters = schema["paths"]["/all"]["get"]["parameters"]
        assert [parameter["name"] for parameter in parameters] == ["name"]
        assert "parameters" not in schema["paths"]["/provider"]["get"]
        assert "requestBody" not in schema["paths"]["/provider"]["get"]

    def test_what_is_not_there_is_a_clear_error(self, caplog: pytest.LogCaptureFixture) -> None:
        with served(self.app()) as url, pytest.raises(urllib.error.HTTPError) as answer:
            urllib.request.urlopen(f"{url}/missing")
        answer.value.close()
        assert answer.value.code == 500
        raised = next(record.exc_info[1] for record in caplog.records if record.exc_info)
        assert isinstance(raised, InjectionError)
        assert "did you mean 'storage'?" in str(raised)


class TestFlask:
    def app(self, container: Container) -> Flask:
        app = Flask(__name__)
        assert flask.init_app(app, container) is app.extensions["p8fs_cluster"]

        @app.get("/port")
        def shown() -> dict[str, int]:
            return {"port": port()}

        @app.get("/ready")
        @inject
        def ready(storage: Storage = Provide[Container.storage]) -> dict[str, Any]:
            return {"seconds": storage.ping()}

        @app.get("/stream")
        def stream() -> Any:
            return stream_with_context(str(port()) for _ in range(3))

        @app.get("/broken")
        def broken() -> None:
            raise ZeroDivisionError

        return app

    def test_each_application_has_its_own(self) -> None:
        first, second = (Container(config={"api_port": number}) for number in (9001, 9002))
        apps = self.app(first), self.app(second)
        with first, second:
            for _ in range(2):
                for app, number in zip(apps, (9001, 9002), strict=True):
                    client = app.test_client()
                    assert client.get("/port").json == {"port": number}
                    assert client.get("/stream").text == f"{number}" * 3
                    assert client.get("/broken").status_code == 500
            assert (first._entered, second._entered, port()) == (1, 1, 9002)

    def test_what_was_opened_stays_open_between_requests(self, rocksdb_settings: dict[str, Any]) -> None:
        container = Container(config=rocksdb_settings)
        client = self.app(container).test_client()
        with container:
            for _ in range(2):
                assert client.get("/ready").json["seconds"] > 0
                assert container.storage().stats()["engines"] == 1
        with pytest.raises(StorageClosed):
            container.storage().ping()

    def test_without_a_block_the_process_holds_it(self, tmp_path: Path) -> None:
        code = """
from flask import Flask
from p8fs_cluster.frameworks.flask import init_app
from tests.integration.recorded import Recorded, note
app = Flask(__name__)
container = init_app(app, Recorded)
app.add_url_rule("/", view_func=lambda: container.line())
note("imported")
for _ in range(2):
    assert app.test_client().get("/").text.startswith("line of")
note("ending")
"""
        check(code)
        assert words(tmp_path) == ["imported", "open", "ending", "close"]

    def test_503_and_no_word_of_the_store(self, caplog: pytest.LogCaptureFixture) -> None:
        container = Container(config=UNREACHABLE)
        with container:
            answer = self.app(container).test_client().get("/ready")
        assert (answer.status_code, answer.json) == (503, {"detail": "the storage does not answer"})
        assert "tidb at root@127.0.0.1:1/test" in caplog.text

    def test_the_example(self, tmp_path: Path, postgresql_server: Server) -> None:
        (tmp_path / "note.txt").write_text("a lease has a token")
        settings, workers = postgresql_server.settings, ("--preload", "--workers", "2")
        with Container(config=settings) as container:
            for table in ("documents", "document_words"):
                container.storage().execute(f"DROP TABLE IF EXISTS {table}")
        assert run("flask", "--app", "examples.flask_app", "prepare", **settings).returncode == 0
        with serving(tmp_path / "log", "gunicorn", *workers, "examples.flask_app:app", settings=settings) as (
            server,
            url,
        ):
            assert ask(f"{url}/documents?path={tmp_path}/note.txt", "POST") == (200, {"taken": 1, "stored": 1})
            for _ in range(10):
                assert ask(f"{url}/words/lease") == (200, [f"{tmp_path}/note.txt"])
                assert ask(f"{url}/ready")[1]["seconds"] > 0
            assert server.end() == 0


class TestTyperAndClick:
    TYPER = """
import typer
from p8fs_cluster.frameworks.typer import enter
from tests.integration.recorded import Recorded, note, active_line
app = typer.Typer()
@app.callback()
def main(ctx: typer.Context):
    enter(ctx, Recorded)
@app.command()
def work():
    note(active_line())
@app.command()
def fail():
    raise ZeroDivisionError(active_line())
@app.command()
def leave():
    raise typer.Exit(len(active_line()) and 3)
try:
    app()
finally:
    note("ended")
"""
    CLICK = """
import click
from p8fs_cluster.frameworks.typer import enter
from tests.integration.recorded import Recorded, note, active_line
@click.group()
@click.pass_context
def main(ctx):
    enter(ctx, Recorded)
@main.command()
def work():
    note(active_line())
@main.command()
def fail():
    raise ZeroDivisionError(active_line())
@main.command()
def leave():
    raise click.exceptions.Exit(len(active_line()) and 3)
try:
    main()
finally:
    note("ended")
"""

    @pytest.mark.parametrize("program", [TYPER, CLICK], ids=["typer", "click"])
    @pytest.mark.parametrize(("command", "code"), [("work", 0), ("fail", 1), ("leave", 3)])
    def test_closed_however_the_command_ends(self, program: str, command: str, code: int, tmp_path: Path) -> None:
        done = python(program, command)
        assert done.returncode == code, done.stderr
        assert ("ZeroDivisionError" in done.stderr) is (command == "fail")
        assert words(tmp_path) == ["open", *(["line"] if command == "work" else []), "close", "ended"]

    @pytest.mark.parametrize("program", [TYPER, CLICK], ids=["typer", "click"])
    def test_help_opens_nothing(self, program: str, tmp_path: Path) -> None:
        assert python(program, "work", "--help").returncode == 0
        assert words(tmp_path) == ["ended"]

    def test_the_example(self, tmp_path: Path, rocksdb_settings: dict[str, Any]) -> None:
        (tmp_path / "note.txt").write_text("a lease has a token")
        done = run("examples.typer_app", "add", "note.txt", **rocksdb_settings)
        assert done.returncode == 0, done.stderr
        assert "Took in 1; 1 are stored." in done.stdout
        done = run("examples.typer_app", "find", "lease", **rocksdb_settings)
        assert (done.returncode, done.stdout) == (0, "note.txt\n")
        assert run("examples.typer_app", "find", "nowhere", **rocksdb_settings).returncode == 1


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Celery]:
    from tests.integration.celery_service import queue_in

    with queue_in(tmp_path) as app:
        yield app


def celery_worker(folder: Path, app: str, pool: str, settings: dict[str, Any] | None = None) -> Any:
    options = ("worker", "--pool", pool, "--concurrency", "2", "--without-gossip", "--without-mingle")
    return running(folder / "log", "-m", "celery", "--app", app, *options, settings=settings)


class TestCelery:
    @pytest.mark.parametrize(("pool", "tasks"), [("prefork", 2), ("solo", 1), ("threads", 2)])
    def test_each_process_opens_its_own_and_closes_it(
        self, pool: str, tasks: int, queue: Celery, tmp_path: Path
    ) -> None:
        names = [f"task-{number}" for number in range(tasks)]
        with celery_worker(tmp_path, "tests.integration.celery_service", pool) as worker:
            sent = [queue.send_task("tests.integration.celery_service.meet", (name, names)) for name in names]
            answers = [result.get(timeout=60) for result in sent]
            assert worker.end() == 0
        pids = {pid for pid, _ in answers}
        assert all(line == f"line of {pid}" for pid, line in answers)
        assert pids == {worker.pid} if pool != "prefork" else len(pids) == 2 and worker.pid not in pids
        assert sorted(events(tmp_path)) == sorted(f"{word} {pid}" for pid in pids for word in ("open", "close"))

    def test_the_example(self, tmp_path: Path, postgresql_server: Server, queue: Celery) -> None:
        (tmp_path / "note.txt").write_text("a lease has a token")
        settings = postgresql_server.settings
        with celery_worker(tmp_path, "examples.celery_app", "prefork", settings) as worker:
            for _ in range(4):
                answer = queue.send_task("examples.celery_app.add", (str(tmp_path / "note.txt"),)).get(timeout=60)
                assert answer["taken"] == 1
            assert worker.end() == 0

    def test_each_task_has_the_container_of_its_application(self) -> None:
        def asked() -> int:
            return port()

        answers = []
        for number in (9001, 9002):
            app = Celery(f"app{number}", set_as_current=False)
            app.conf.task_always_eager = True
            celery.init_app(app, Container(config={"api_port": number}))
            answers.append(app.task(name=f"port{number}")(asked).delay)
        with Container(config={"api_port": 1}):
            assert [answer().get() for answer in (*answers, answers[0])] == [9001, 9002, 9001]
            assert port() == 1


class TestWorker:
    CODE = """
import sys
from pathlib import Path
from p8fs_cluster.containers.default import active
from p8fs_cluster.frameworks.worker import run
from tests.integration.recorded import Recorded, note
def work():
    active().line()
    note("begin")
    while not Path("go on").exists(): pass
    note("end")
run(work, Recorded, validate=False, every={every})
note("returned")
"""

    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
    def test_the_job_at_hand_is_finished(self, how: signal.Signals, tmp_path: Path) -> None:
        with running(tmp_path / "log", "-c", self.CODE.format(every=0)) as worker:
            worker.until(lambda: "begin" in words(tmp_path), "it works")
            worker.process.send_signal(how)
            (tmp_path / "go on").touch()
            assert worker.wait() == 0
        told = words(tmp_path)
        assert told[0] == "open"
        assert told[-3:] == ["end", "close", "returned"]

    def test_a_signal_ends_the_wait_between_jobs(self, tmp_path: Path) -> None:
        (tmp_path / "go on").touch()
        with running(tmp_path / "log", "-c", self.CODE.format(every=3600)) as worker:
            worker.until(lambda: "end" in words(tmp_path), "it waits")
            assert worker.end() == 0
        assert words(tmp_path) == ["open", "begin", "end", "close", "returned"]

    @pytest.mark.parametrize(("second", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, -signal.SIGINT)])
    def test_a_second_signal_does_not_wait(self, second: signal.Signals, code: int, tmp_path: Path) -> None:
        with running(tmp_path / "log", "-c", self.CODE.format(every=0)) as worker:
            worker.until(lambda: "begin" in words(tmp_path), "it works")
            worker.process.send_signal(signal.SIGTERM)
            worker.until(lambda: not handled(worker.pid, signal.SIGTERM), "it has noted the first")
            assert worker.end(second) == code
        assert "end" not in words(tmp_path)
        assert ("close" in words(tmp_path)) is (second is signal.SIGINT), "KeyboardInterrupt unwinds"

    def test_it_returns_when_the_work_is_done(self, tmp_path: Path) -> None:
        code = """
import signal
from p8fs_cluster.frameworks.worker import run
from tests.integration.recorded import Recorded, note
before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
jobs = [1, None, 0]
container = Recorded()
container.line
run(lambda: note("job") or container.line() and (jobs.pop() if jobs else False), container, validate=False)
assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
"""
        check(code)
        assert words(tmp_path) == ["job", "open", "job", "job", "job", "close"], "only False ends it"


def blocks() -> dict[str, str]:
    """The Python blocks of docs/frameworks.md, by the heading above them."""
    sections = re.split(r"^###? (.*)\n", (ROOT / "docs" / "frameworks.md").read_text("utf-8"), flags=re.MULTILINE)
    titled = zip(sections[1::2], sections[2::2], strict=True)
    found = {title: re.findall(r"```python\n(.*?)```", text, re.DOTALL) for title, text in titled}
    return {title: block for title, [block] in ((title, shown) for title, shown in found.items() if shown)}


@pytest.mark.parametrize("title", blocks())
def test_what_the_document_shows_runs(title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P8FS_STORAGE_PROVIDER", "rocksdb")
    check(blocks()[title])


def test_the_default_install_needs_no_framework() -> None:
    code = f"""
import sys
sys.modules.update(dict.fromkeys({["starlette", "fastapi", "flask", "celery", "click", "gunicorn", "uvicorn"]!r}))
import p8fs_cluster.frameworks.typer, p8fs_cluster.frameworks.worker, p8fs_cluster.cli.app
from p8fs_cluster import Container, inject, container
container.api()
"""
    check(code)


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)


def check(code: str) -> None:
    done = python(code)
    assert done.returncode == 0, done.stderr


def words(folder: Path) -> list[str]:
    """Return what was noted, without the processes."""
    return [event.split()[0] for event in events(folder)]


def handled(pid: int, number: signal.Signals) -> bool:
    """Return whether the process handles the signal itself, by what the kernel says."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(caught.group(1), 16) >> (number - 1) & 1)
