"""Leaders and scheduled jobs in servers and workers as they are: who leads, and what their orderly end leaves."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import Container
from tests.coordination.conftest import TABLES
from tests.integration.recorded import events
from tests.integration.test_frameworks import celery_worker
from tests.processes import running, serving, until
from tests.servers import Server


@pytest.fixture
def settings(postgresql_server: Server) -> dict[str, Any]:
    return {**postgresql_server.settings, "cluster_create": True}


@pytest.fixture(autouse=True)
def store(settings: dict[str, Any]) -> Iterator[Container]:
    with Container(config=settings) as container:
        for table in TABLES:
            container.storage().execute(f"DROP TABLE IF EXISTS {table}")
        yield container


def held(store: Container) -> list[str]:
    return [name for (name,) in store.storage().execute("SELECT name FROM p8fs_leases WHERE holder IS NOT NULL")]


def outcomes(store: Container) -> set[str | None]:
    return {outcome for (outcome,) in store.storage().execute("SELECT outcome FROM p8fs_scheduled_runs")}


def ask(url: str) -> dict[str, Any]:
    with contextlib.suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(url, timeout=10) as answer:
        told: dict[str, Any] = json.load(answer)
        return told
    return {"pid": 0, "leads": False}


def noted(folder: Path, word: str) -> list[int]:
    """Return the processes that have noted something."""
    return [int(line.split()[1]) for line in events(folder) if line.startswith(word)]


def replica(name: str, tmp_path: Path, settings: dict[str, Any], app: str = "app") -> Any:
    log, place = tmp_path / name, {**settings, "api_port": 9001}
    return serving(log, "uvicorn", "--lifespan", "on", f"tests.coordination.led_asgi:{app}", settings=place)


@pytest.mark.parametrize("app", ["app", "careless"])
def test_two_replicas_under_uvicorn_of_which_one_is_ended(
    app: str, tmp_path: Path, settings: dict[str, Any], store: Container
) -> None:
    with replica("first", tmp_path, settings, app) as (first, url):
        until(lambda: ask(url)["leads"], "it leads")
        with replica("second", tmp_path, settings, app) as (second, other):
            until(lambda: len(noted(tmp_path, "ends")) >= 2, "ticks come")
            assert not ask(other)["leads"]
            assert first.end() in (0, -signal.SIGTERM)
            until(lambda: ask(other)["leads"], "the other one leads, long before the ttl is over")
            assert noted(tmp_path, "led") == [first.pid]
            assert events(tmp_path).index(f"led {first.pid}") < events(tmp_path).index(f"leads-9001 {second.pid}")
            assert second.end() in (0, -signal.SIGTERM)
    for process in (first, second):
        assert noted(tmp_path, "begins").count(process.pid) == noted(tmp_path, "ends").count(process.pid)
        assert "Traceback" not in process.output
        assert "was destroyed" not in process.output
    assert noted(tmp_path, "leads-9001") == [first.pid, second.pid]
    assert held(store) == []
    assert outcomes(store) == {"done"}


def test_a_start_that_fails_leaves_nothing_held(tmp_path: Path, settings: dict[str, Any], store: Container) -> None:
    options = ("--port", "0", "--lifespan", "on", "tests.coordination.led_asgi:broken")
    with running(tmp_path / "log", "-m", "uvicorn", *options, settings=settings) as process:
        assert process.wait() != 0
    assert "in the start" in process.output
    assert len(noted(tmp_path, "leads")) == len(noted(tmp_path, "led")) == 1
    assert held(store) == []


def met(url: str, but: int = 0) -> dict[int, bool]:
    """Ask until one worker leads, and another one has answered; return which of them leads."""
    found: dict[int, bool] = {}

    def enough() -> bool:
        answer = ask(url)
        found[answer["pid"]] = answer["leads"]
        living = {pid: leads for pid, leads in found.items() if pid not in (0, but)}
        return len(living) >= 2 and any(living.values())

    until(enough, "two workers answer, and one leads")
    return {pid: leads for pid, leads in found.items() if pid not in (0, but)}


GUNICORN = {
    "asgi": ("--worker-class", "uvicorn.workers.UvicornWorker", "--workers", 2, "--preload", "led_asgi:app"),
    "careless": ("--worker-class", "uvicorn.workers.UvicornWorker", "--workers", 2, "--preload", "led_asgi:careless"),
    "flask": ("--config", "python:tests.coordination.led_flask", "led_flask:app"),
}


@pytest.mark.parametrize("kind", GUNICORN)
def test_one_worker_of_gunicorn_leads_and_hands_on(
    kind: str, tmp_path: Path, settings: dict[str, Any], store: Container
) -> None:
    *options, app = GUNICORN[kind]
    with serving(tmp_path / "log", "gunicorn", *options, f"tests.coordination.{app}", settings=settings) as (
        server,
        url,
    ):
        [first] = [pid for pid, leads in met(url).items() if leads]
        assert first != server.pid
        os.kill(first, signal.SIGTERM)
        assert sum(met(url, but=first).values()) == 1, "another one leads, long before the ttl is over"
        if kind != "flask":
            until(lambda: "done" in outcomes(store), "a run has ended")
        assert server.end() == 0
    assert "Traceback" not in server.output
    assert held(store) == []
    if kind != "flask":
        assert noted(tmp_path, "led")[0] == first
        assert len(noted(tmp_path, "led")) == len(noted(tmp_path, "leads"))
        assert outcomes(store) == {"done"}


def test_one_child_of_a_celery_worker_leads_and_its_main_process_schedules(
    tmp_path: Path, settings: dict[str, Any], store: Container
) -> None:
    with celery_worker(tmp_path, "tests.coordination.led_celery", "prefork", settings) as worker:
        until(lambda: noted(tmp_path, "leads"), "a child leads")
        until(lambda: len(noted(tmp_path, "ticked")) >= 2, "tasks are sent")
        assert noted(tmp_path, "main-True") == noted(tmp_path, "still-True") == [worker.pid]
        assert len(noted(tmp_path, "child-False")) == 2
        assert noted(tmp_path, "child-True") == [], "no child believes in its parent's lease"
        [first] = noted(tmp_path, "leads")
        assert first in noted(tmp_path, "child-False")
        store.storage().execute("UPDATE p8fs_leases SET resign = fence WHERE name = 'leader:child'")
        until(lambda: len(noted(tmp_path, "leads")) == 2, "another child leads, as an operator asked for")
        assert noted(tmp_path, "leads")[1] != first
        assert sorted(held(store))[:2] == ["leader:child", "leader:main"]
        assert worker.end() == 0
    assert held(store) == []
    [(runs, done)] = store.storage().execute("SELECT count(*), count(outcome) FROM p8fs_scheduled_runs")
    assert runs == done
    assert len(noted(tmp_path, "ticked")) <= runs


def test_a_solo_worker_of_celery_gives_up_all_at_its_end(
    tmp_path: Path, settings: dict[str, Any], store: Container
) -> None:
    with celery_worker(tmp_path, "tests.coordination.led_celery", "solo", settings) as worker:
        until(lambda: noted(tmp_path, "ticked"), "tasks are sent")
        assert noted(tmp_path, "main-True") == [worker.pid]
        assert worker.end() == 0
    assert held(store) == []


WORK = """
import sys, time
from p8fs_cluster import Container
from p8fs_cluster.frameworks.worker import run
from tests.integration.recorded import note
container = Container()
@container.cluster().leader_only("work", ttl=600)
def work():
    note("worked")
    time.sleep(0.05)
@container.async_cluster().leader_only("work", ttl=600)
async def work_async():
    note("worked")
run({work}, container, every=0.02)
note("returned")
"""


@pytest.mark.parametrize("work", ["work", "work_async"])
def test_one_worker_loop_works_and_hands_on(
    work: str, tmp_path: Path, settings: dict[str, Any], store: Container
) -> None:
    code = WORK.replace("{work}", work)
    with running(tmp_path / "first", "-c", code, settings=settings) as first:
        first.until(lambda: noted(tmp_path, "worked"), "it works")
        with running(tmp_path / "second", "-c", code, settings=settings) as second:
            until(lambda: len(_sessions_waiting(store)) >= 1, "the other one stands as well")
            assert first.end() == 0, first.output
            second.until(lambda: second.pid in noted(tmp_path, "worked"), "it works, long before the ttl is over")
            assert second.end() == 0, second.output
    pids = noted(tmp_path, "worked")
    assert pids == sorted(pids, key=[first.pid, second.pid].index), "never both"
    assert noted(tmp_path, "returned") == [first.pid, second.pid]
    assert held(store) == []


def _sessions_waiting(store: Container) -> list[Any]:
    return store.storage().execute("SELECT 1 FROM pg_stat_activity WHERE query ILIKE 'LISTEN%%'")
