"""Callers in several processes under a few faults, for a short time. All faults, and for minutes: make chaos-kv"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.kv.history import violations
from tests.chaos.kv.run import Run, told
from tests.chaos.kv.taking import wrong
from tests.servers import SQL, Server

CODES = 30


@pytest.fixture
def rocksdb_server(tmp_path: Path) -> Server:
    """The settings of a store that is in the process itself."""
    return Server("rocksdb", {"storage_provider": "rocksdb", "rocksdb_path": tmp_path / "rocksdb"})


@pytest.mark.parametrize("kind", ["rocksdb", *SQL])
def test_no_update_is_lost(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    server: Server = request.getfixturevalue(f"{kind}_server")
    run = Run(3, 4, 0, ("kill", "restart") if server.is_ours else ("kill",), 1)
    history = run.history(server, tmp_path)
    broken = violations(history)
    assert not broken, told(kind, history, broken)
    assert len([call for call in history.calls if call.outcome == "done"]) > 100, told(kind, history, broken)
    assert {fault.name for fault in history.faults} == ({*run.faults} if server.is_ours else {"kill"})
    assert not wrong(replace(run, processes=2, threads=8).contest(server, CODES), CODES)


@pytest.mark.parametrize(
    ("bug", "rule"), [("takes_in_two_steps", "code taken twice"), ("keeps_no_log", "gone without a delete")]
)
def test_a_seeded_bug_is_found(bug: str, rule: str, rocksdb_server: Server, tmp_path: Path) -> None:
    history = Run(1, 4, 0, ("kill",), 1, bug).history(rocksdb_server, tmp_path)
    assert rule in {each.rule for each in violations(history)}
