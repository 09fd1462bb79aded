"""What is seen on terminals and in pipes: how wide a table is, and what `check` is waiting for."""

from __future__ import annotations

import re
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

    def test_a_row_is_a_line_in_a_pipe(
        self, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, rocksdb_settings: dict[str, Any]
    ) -> None:
        monkeypatch.delenv("COLUMNS", raising=False)
        done = p8fs_cluster(*command, **rocksdb_settings, pg_database=f"{LONG}\n\t[/x] end")
        rows = [line for line in done.stdout.splitlines() if line.startswith("│")]
        assert all(line.split("│")[1].strip() for line in rows)
        if command[0] == "config":
            assert sum(f"{LONG}\\n\\t[/x] end" in line for line in rows) == 1


def plain(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)
