"""The example of a scheduler, as its readers start it: two processes, of which one is killed."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import Container
from tests.coordination.conftest import TABLES
from tests.processes import Running, running, until
from tests.servers import Server

TTL = 1.5


@pytest.fixture(params=["postgresql", "mariadb"])
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    server: Server = request.getfixturevalue(f"{request.param}_server")
    return {**server.settings, "cluster_create": True}


@pytest.fixture
def container(settings: dict[str, Any]) -> Iterator[Container]:
    """The store as an operator sees it."""
    with Container(config=settings) as container:
        for table in TABLES:
            container.storage().execute(f"DROP TABLE IF EXISTS {table}")
        yield container


def started(settings: dict[str, Any], log: Path) -> Any:
    return running(log, "-m", "examples.scheduler", "--cron", "* * * * * *", "--ttl", TTL, settings=settings)


def events(*processes: Running) -> list[dict[str, Any]]:
    lines = [line for process in processes for line in process.output.splitlines() if line.startswith("{")]
    return [json.loads(line) for line in lines]


def count(process: Running, event: str) -> int:
    return [each["event"] for each in events(process)].count(event)


def holders(container: Container) -> dict[str, Any]:
    rows = container.storage().execute("SELECT name, holder FROM p8fs_leases ORDER BY name")
    return {name if isinstance(name, str) else name.decode(): holder for name, holder in rows}


def test_two_processes_of_which_one_is_killed(settings: dict[str, Any], container: Container, tmp_path: Path) -> None:
    with started(settings, tmp_path / "first") as first:
        first.until(lambda: count(first, "leads") == 1, "it leads")
        with started(settings, tmp_path / "second") as second:
            second.until(lambda: count(second, "joined") == 1, "it joins")
            assert [each["nodes"] for each in events(second) if each["event"] == "joined"] == [2]
            until(lambda: count(first, "ran") + count(second, "ran") >= 4, "ticks come")
            assert count(second, "leads") == 0
            first.end(signal.SIGKILL)
            second.until(lambda: count(second, "leads") == 1, "the other one leads")
            ran = count(second, "ran")
            second.until(lambda: count(second, "ran") >= ran + 3, "ticks go on")
            [fence, later] = [each["fence"] for each in events(first, second) if each["event"] == "leads"]
            assert later > fence
            assert second.end() == 0, second.output
            assert events(second)[-1]["event"] == "ended"
            assert count(second, "leads no more") == 1
    assert set(holders(container)) == {"leader:scheduler", "schedule:report", *_nodes(first, second)}
    held = [name for name, holder in holders(container).items() if holder is not None]
    assert held == _nodes(first), "but for the dead one's presence everything is free"
    outcomes = [outcome for (outcome,) in container.storage().execute("SELECT outcome FROM p8fs_scheduled_runs")]
    done = outcomes.count("done")
    assert len(outcomes) - done <= 1, "no more than the run that was killed has none"
    assert done <= count(first, "ran") + count(second, "ran") <= len(outcomes), "each tick ran once"


def _nodes(*processes: Running) -> list[str]:
    return [f"node:{each['node']}" for each in events(*processes) if each["event"] == "joined"]
