"""`p8fs-cluster storage`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from p8fs_cluster import Container
from tests.command import p8fs_cluster
from tests.servers import Server, free_port


def test_ping(sql_server: Server) -> None:
    done = p8fs_cluster("storage", "ping", **sql_server.settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(" ms")


def test_ping_again_and_again(rocksdb_settings: dict[str, Any]) -> None:
    done = p8fs_cluster(
        "storage", "ping", "--watch", "--count", "3", "--interval", "0.01", "--json", **rocksdb_settings
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == 3
    assert all(answer["seconds"] >= 0 and answer["fault"] is None for answer in answers)


def test_ping_of_nobody() -> None:
    done = p8fs_cluster("storage", "ping", pg_port=free_port(), pg_host="127.0.0.1", pg_password="hunter2")
    assert done.returncode == 1
    assert "P8FS_PG_PORT (from the environment)" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr


def test_a_checkpoint_is_a_whole_copy(rocksdb_settings: dict[str, Any], tmp_path: Path) -> None:
    with Container(config=rocksdb_settings) as container, container.storage() as database:
        database[b"key"] = b"value"
    done = p8fs_cluster("storage", "checkpoint", str(tmp_path / "copy"), **rocksdb_settings)
    assert done.returncode == 0, done.stderr
    with Container(config={**rocksdb_settings, "rocksdb_path": tmp_path / "copy"}) as container:  # noqa: SIM117
        with container.storage() as copy:
            assert copy[b"key"] == b"value"


def test_a_checkpoint_of_what_another_has_open(rocksdb_settings: dict[str, Any], tmp_path: Path) -> None:
    with Container(config=rocksdb_settings) as container:
        container.storage().open()
        done = p8fs_cluster("storage", "checkpoint", str(tmp_path / "copy"), **rocksdb_settings)
    assert done.returncode == 1
    assert "holds it" in done.stderr
    assert not (tmp_path / "copy").exists()


def test_a_checkpoint_into_what_is_there(rocksdb_settings: dict[str, Any], tmp_path: Path) -> None:
    done = p8fs_cluster("storage", "checkpoint", str(tmp_path), **rocksdb_settings)
    assert done.returncode == 1
    assert "no checkpoint in" in done.stderr


def test_a_checkpoint_of_a_server(sql_server: Server, tmp_path: Path) -> None:
    done = p8fs_cluster("storage", "checkpoint", str(tmp_path / "copy"), **sql_server.settings)
    assert done.returncode == 1
    assert ("pg_dump" if sql_server.kind == "postgresql" else "BR") in done.stderr
