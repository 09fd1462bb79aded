"""A worker loop over outages and signals: in the main thread, in several threads, and on an event loop."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import Container, StorageUnavailable
from p8fs_cluster.containers.default import active
from p8fs_cluster.exceptions import LeaseLost
from p8fs_cluster.frameworks import _outage
from p8fs_cluster.frameworks.worker import run
from p8fs_cluster.testing import memory_storage
from tests.integration.recorded import events
from tests.integration.test_examples import run as module
from tests.processes import running
from tests.servers import Server, postgresql

FORMS = ("alone", "threads", "tasks", "awaitables")
"""The ways in which work is done: by one worker in the main thread, and by three otherwise."""


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_outage, "_FIRST", 0.001)
    monkeypatch.setattr(_outage, "_LONGEST", 0.002)


def container() -> Container:
    made = Container(config={"storage_provider": "rocksdb", "rocksdb_path": "never/opened"})
    made.storage.override(memory_storage())
    return made


def run_as(form: str, job: Any, **options: Any) -> None:
    """Run a plain function as the work of that form."""

    async def job_on_the_loop() -> Any:
        await asyncio.sleep(0)
        return job()

    work = {"tasks": job_on_the_loop, "awaitables": lambda: job_on_the_loop()}.get(form, job)
    run(work, container, workers=1 if form == "alone" else 3, **options)


@pytest.mark.parametrize("form", FORMS)
class TestEveryForm:
    def test_it_goes_on_after_an_outage_which_is_logged_once(self, form: str, caplog: pytest.LogCaptureFixture) -> None:
        def job() -> object:
            calls.append(active())
            if len(calls) < 20:
                raise StorageUnavailable("postgresql at x: refused")
            return False if len(calls) > 30 else None

        calls: list[Any] = []
        with caplog.at_level(logging.INFO, "p8fs_cluster.frameworks"):
            run_as(form, job)
        assert len(set(calls)) == 1, "the container is the active one"
        assert [record.message for record in caplog.records if "refused" in record.message] == [
            "the store does not answer, and the work is tried again until it does: postgresql at x: refused"
        ]
        assert [record.message for record in caplog.records if "answers again" in record.message]

    def test_it_goes_on_after_a_lease_was_lost(self, form: str, caplog: pytest.LogCaptureFixture) -> None:
        def job() -> bool:
            calls.append(1)
            if len(calls) == 1:
                raise LeaseLost("leader:reports: the lease (0, 1) is over")
            return False

        calls: list[int] = []
        run_as(form, job)
        assert len(calls) >= 2
        assert "as its lease was lost: leader:reports" in caplog.text

    def test_any_other_exception_ends_it(self, form: str) -> None:
        def job() -> None:
            raise ValueError("mine")

        with pytest.raises(ValueError, match="mine"):
            run_as(form, job)

    def test_false_ends_all_workers(self, form: str) -> None:
        def job() -> bool:
            return len(done) < 5 or done.append(1) is not None

        done: list[int] = [1] * 5
        run_as(form, job, every=3600)

    def test_a_container_that_is_open_stays_so(self, form: str) -> None:
        with container() as opened:
            run(lambda: active() is not opened, opened, workers=3)
            assert opened._entered == 1
            assert opened.storage().ping() > 0


def test_workers_of_async_work_are_tasks_of_one_loop() -> None:
    async def work() -> bool:
        met.add(asyncio.current_task())
        loops.add(asyncio.get_running_loop())
        while len(met) < 3:
            await asyncio.sleep(0)
        assert threading.current_thread() is threading.main_thread()
        return False

    met: set[Any] = set()
    loops: set[Any] = set()
    run(work, container, workers=3)
    assert (len(met), len(loops)) == (3, 1)


def test_workers_of_sync_work_are_threads() -> None:
    def work() -> bool:
        met.add(threading.current_thread())
        together.wait(60)
        return False

    together = threading.Barrier(3)
    met: set[Any] = set()
    run(work, container, workers=3)
    assert len(met) == 3
    assert threading.main_thread() not in met


def test_a_function_may_return_an_awaitable_now_and_then() -> None:
    async def later() -> bool:
        calls.append("later")
        return len(calls) < 4

    def work() -> Any:
        calls.append("now")
        return None if len(calls) == 1 else later()

    calls: list[str] = []
    run(work, container)
    assert calls == ["now", "now", "later", "now", "later"]


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"grace": -1}, {"grace": float("nan")}])
def test_numbers_that_can_not_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        run(lambda: False, container, **wrong)


PROGRAM = """
import asyncio, sys, threading, time
from pathlib import Path
from p8fs_cluster import Container, Provide, Scoped, inject
from p8fs_cluster.containers.default import active
from p8fs_cluster.frameworks.worker import run
from p8fs_cluster.testing import memory_storage
from tests.integration.recorded import note
def open_transaction():
    note("open")
    try:
        yield 1
    except BaseException as exc:
        note("rollback-" + type(exc).__name__)
        raise
    note("commit")
class Application(Container):
    job = Scoped(open_transaction).within("job")
def container():
    made = Application(config={{"storage_provider": "rocksdb", "rocksdb_path": "x", "log_level": "INFO"}})
    made.storage.override(memory_storage())
    return made
@inject
def begin(job=Provide[Application.job]): pass
def patient():
    begin()
    note("begin")
    while not Path("go on").exists(): time.sleep(0.01)
    note("end")
async def patient_async():
    begin()
    note("begin")
    while not Path("go on").exists(): await asyncio.sleep(0.01)
    note("end")
async def blocking_async():
    patient()
async def stubborn():
    note("begin")
    while True:
        try: await asyncio.sleep(0.01)
        except asyncio.CancelledError: note("refused")
def away():
    from p8fs_cluster import StorageUnavailable
    note("begin")
    raise StorageUnavailable("down")
async def away_async(): away()
def stuck():
    begin()
    note("begin")
    threading.Event().wait()
from p8fs_cluster.frameworks import _outage, _stopping
_stopping._AGAIN = 0.2
if {work}.__name__.startswith("away"): _outage._FIRST = _outage._LONGEST = 3600
run({work}, container, {options})
note("returned")
"""


def program(work: str, options: str) -> str:
    return PROGRAM.format(work=work, options=options)


def words(folder: Path) -> list[str]:
    return [event.split()[0] for event in events(folder)]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("work", "workers"), [("patient", 1), ("patient", 3), ("patient_async", 1), ("patient_async", 3)]
)
def test_the_jobs_at_hand_are_finished(work: str, workers: int, how: signal.Signals, tmp_path: Path) -> None:
    with running(tmp_path / "log", "-c", program(work, f"workers={workers}")) as process:
        process.until(lambda: words(tmp_path).count("begin") == workers, "all work")
        process.process.send_signal(how)
        (tmp_path / "go on").touch()
        assert process.wait() == 0
    told = Counter(words(tmp_path))
    assert told["begin"] == told["end"] == told["commit"] >= workers
    assert words(tmp_path)[-1] == "returned"


@pytest.mark.parametrize(
    ("work", "workers", "told"),
    [
        ("patient", 1, "rollback-GraceOver"),
        ("patient_async", 2, "rollback-CancelledError"),
        ("blocking_async", 1, "rollback-GraceOver"),
        ("stubborn", 1, "refused"),
        ("stuck", 1, "rollback-GraceOver"),
        ("stuck", 2, "begin"),
    ],
)
def test_what_does_not_end_in_its_grace(work: str, workers: int, told: str, tmp_path: Path) -> None:
    with running(tmp_path / "log", "-c", program(work, f"workers={workers}, grace=0.2")) as process:
        process.until(lambda: words(tmp_path).count("begin") == workers, "all work")
        assert process.end() == 0
        assert "did not end within the grace of 0.2 s, and were cut off: " in process.output
        assert process.output.count(f"{work} (worker") == (workers if workers > 1 else 0), "it is named"
        assert f"cut off: {work}" in process.output
    assert words(tmp_path).count(told) >= workers
    assert words(tmp_path)[-1] == "returned"


@pytest.mark.parametrize("work", ["away", "away_async"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_ends_the_pause_of_an_outage(work: str, workers: int, tmp_path: Path) -> None:
    with running(tmp_path / "log", "-c", program(work, f"workers={workers}")) as process:
        process.until(lambda: words(tmp_path).count("begin") == workers, "all pause")
        assert process.end() == 0
    assert words(tmp_path) == ["begin"] * workers + ["returned"]


@pytest.mark.parametrize(("work", "workers"), [("patient", 2), ("patient_async", 1)])
def test_a_second_signal_does_not_wait(work: str, workers: int, tmp_path: Path) -> None:
    with running(tmp_path / "log", "-c", program(work, f"workers={workers}")) as process:
        process.until(lambda: words(tmp_path).count("begin") == workers, "all work")
        process.process.send_signal(signal.SIGTERM)
        process.until(lambda: "SIGTERM" not in caught(process.pid), "it has noted the first")
        assert process.end() == -signal.SIGTERM


def caught(pid: int) -> set[str]:
    """The signals for which the process has a handler of its own, by what the kernel says."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt")]
    return {number.name for number in signal.Signals if int(line.split()[1], 16) >> (number - 1) & 1}


def test_a_signal_while_it_validates_lets_no_job_begin(tmp_path: Path) -> None:
    slow = """storage = memory_storage()
    def open():
        note("begin")
        while not Path("go on").exists(): time.sleep(0.01)
    storage.open = open
    made.storage.override(storage)
"""
    code = program("patient", "").replace("made.storage.override(memory_storage())", slow)
    with running(tmp_path / "log", "-c", code) as process:
        process.until(lambda: "begin" in words(tmp_path), "it validates")
        process.process.send_signal(signal.SIGTERM)
        process.until(lambda: "SIGTERM" not in caught(process.pid), "it has noted the signal")
        (tmp_path / "go on").touch()
        assert process.wait() == 0
    assert words(tmp_path) == ["begin", "returned"]


def test_logging_is_set_up_before_anything_is_checked(tmp_path: Path) -> None:
    settings = {"storage_provider": "tidb", "tidb_host": "127.0.0.1", "tidb_port": 1, "pool_timeout": 1}
    code = """
import logging
from p8fs_cluster.frameworks import worker
validate = worker.validate_configuration
worker.validate_configuration = lambda opened: logging.getLogger("mine").warning("checking") or validate(opened)
worker.run(lambda: False)
"""
    with running(tmp_path / "log", "-c", code, settings={**settings, "log_format": "json"}) as process:
        assert process.wait() == 1, "a store that is down at the start is an error"
        assert '"logger":"mine","message":"checking"' in process.output
        assert "P8FS_TIDB_PORT (from the environment)" in process.output


@pytest.fixture
def server() -> Any:
    with postgresql({"unused": b""}) as server:  # a private one, which the test stops
        yield server


@pytest.mark.parametrize("form", ["threads", "asyncio"])
def test_the_example_outlives_a_restart_of_the_database(form: str, server: Server, tmp_path: Path) -> None:
    settings = {**server.settings, "pool_timeout": 1}
    with Container(config=settings) as opened:
        storage = opened.storage()
        arguments = ("-m", "examples.worker", "--workers", "3", *(["--asyncio"] if form == "asyncio" else []))
        with running(tmp_path / "log", *arguments, settings=settings) as worker:
            worker.until(lambda: "waits for jobs" in worker.output, "it has begun")
            add(storage, 0, 200)
            worker.until(lambda: done(storage) >= 20, "jobs are done")
            server.stop()
            worker.until(lambda: "the store does not answer" in worker.output, "it has seen the outage")
            server.start()
            worker.until(lambda: done(storage) >= 200, "jobs go on")
            add(storage, 200, 220)
            worker.until(lambda: done(storage) == 220, "all are done")
            assert worker.end() == 0
            assert "Traceback" not in worker.output
        counts = storage.execute("SELECT times, count(*) FROM worker_jobs GROUP BY times")
        assert counts == [(1, 220)], "no job was lost, and none done twice"


def test_the_example_refuses_to_start_without_a_database() -> None:
    refused = module("examples.worker", storage_provider="postgresql", pg_port=1, pg_host="127.0.0.1", pool_timeout=1)
    assert refused.returncode == 1
    assert "P8FS_PG_PORT (from the environment)" in refused.stderr


def add(storage: Any, first: int, end: int) -> None:
    storage.execute("INSERT INTO worker_jobs (id) SELECT generate_series(%s::int, %s::int - 1)", (first, end))


def done(storage: Any) -> int:
    [(count,)] = storage.execute("SELECT coalesce(sum(times), 0) FROM worker_jobs")
    return int(count)
