"""Look at terminals and pipes: how wide a table is, and what `check` is waiting for."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.command import p8fs_cluster
from tests.terminals import terminal

LONG = "/data/" + "0123456789" * 20


def cells(text: str, column: int) -> str:
    """The whole text of a table's column, put together again."""
    rows = [line.split("│")[1:-1] for line in text.splitlines() if line.startswith("│")]
    return "".join(row[column].strip() for row in rows)


def widest(text: str) -> int:
    return max(map(len, text.splitlines()))


@pytest.mark.parametrize("command", [("config", "show"), ("check",)], ids=" ".join)
class TestTables:
    def test_nothing_is_cut_off_at_80_columns(
        self, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, rocksdb_settings: dict[str, Any]
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        done = p8fs_cluster(*command, **rocksdb_settings, pg_database=LONG)
        assert done.returncode == 0, done.stderr
        assert widest(done.stdout) <= 80
        assert "…" not in done.stdout
        if command[0] == "config":
            assert LONG in cells(done.stdout, 1)
            assert "P8FS_PG_TARGET_SESSION_ATTRS" in done.stdout, "a name is not broken where there is room"

    def test_columns_are_respected(
        self, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, rocksdb_settings: dict[str, Any]
    ) -> None:
        monkeypatch.setenv("COLUMNS", "50")
        assert 40 < widest(p8fs_cluster(*command, **rocksdb_settings, pg_database=LONG).stdout) <= 50
        with terminal(*command, columns=60, **rocksdb_settings) as shown:
            assert shown.wait() == 0
        lines = [line for line in shown.seen.splitlines() if line.startswith("│")]
        assert 40 < max(map(len, map(plain, lines))) <= 60

    @pytest.mark.parametrize("columns", ["", "0", "wide"])
    def test_a_row_is_a_line_in_a_pipe(
        self,
        columns: str,
        command: tuple[str, ...],
        monkeypatch: pytest.MonkeyPatch,
        rocksdb_settings: dict[str, Any],
    ) -> None:
        monkeypatch.setenv("COLUMNS", columns)
        done = p8fs_cluster(*command, **rocksdb_settings, pg_database=f"{LONG}\n\t[/x] end")
        rows = [line for line in done.stdout.splitlines() if line.startswith("│")]
        assert rows
        assert all(line.split("│")[1].strip() for line in rows)
        if command[0] == "config":
            assert sum(f"{LONG}\\n\\t[/x] end" in line for line in rows) == 1


def plain(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)


@pytest.fixture
def silent() -> Iterator[dict[str, Any]]:
    """Settings of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {"pg_host": "127.0.0.1", "pg_port": server.getsockname()[1], "pg_password": "hunter2"}


class TestSignOfLife:
    def test_the_step_that_waits_is_seen_while_it_waits(self, silent: dict[str, Any]) -> None:
        with terminal("check", **silent, pool_timeout=30) as shown:
            shown.until_seen("open the storage")
            shown.until_seen("0:00:01")
            assert shown.process.poll() is None
            assert "failed" not in shown.seen

    def test_it_is_gone_when_all_is_done(self, silent: dict[str, Any]) -> None:
        with terminal("check", stdout=subprocess.PIPE, **silent, pool_timeout=0.5) as shown:
            assert shown.wait() == 1
            assert shown.process.stdout is not None
            printed = shown.process.stdout.read().decode()
        assert "0:00:00" in shown.seen
        assert "0:00:00" not in printed, "the standard output has nothing of it"
        assert "│ open the storage" in printed
        assert "\x1b" not in printed
        assert "no answer within 0.5 s" in plain(shown.seen).splitlines()[-1]
        assert shown.seen.endswith("\n")

    @pytest.mark.parametrize("arguments", [("check",), ("check", "--json")], ids=" ".join)
    def test_not_in_a_pipe(self, arguments: tuple[str, ...], silent: dict[str, Any]) -> None:
        done = p8fs_cluster(*arguments, **silent, pool_timeout=0.5)
        assert done.returncode == 1
        assert "0:00:0" not in done.stdout + done.stderr
        assert "\x1b" not in done.stdout + done.stderr

    def test_not_with_json(self, silent: dict[str, Any]) -> None:
        with terminal("check", "--json", stdout=subprocess.PIPE, **silent, pool_timeout=0.5) as shown:
            assert shown.wait() == 1
        assert "0:00:0" not in shown.seen
        assert "\x1b" not in shown.seen
