"""The command, as it is typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tests.servers import free_port


def p8fs_cluster(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **{f"P8FS_{name.upper()}": str(value) for name, value in settings.items()}}
    command = [sys.executable, "-m", "p8fs_cluster", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_check_on_rocksdb(rocksdb_settings: dict[str, Any]) -> None:
    done = p8fs_cluster("check", **rocksdb_settings)
    assert done.returncode == 0, done.stderr
    for text in ("read the settings", "open the storage", "write, read, delete", "close", " ms"):
        assert text in done.stdout


def test_check_as_json(rocksdb_settings: dict[str, Any]) -> None:
    done = p8fs_cluster("check", "--json", **rocksdb_settings)
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert [step["name"] for step in report["steps"]] == [
        "read the settings",
        "open the storage",
        "one round trip",
        "close",
    ]
    assert all(step["ok"] and step["seconds"] >= 0 and step["fault"] is None for step in report["steps"])


def test_check_on_a_server(sql_server: Any) -> None:
    done = p8fs_cluster("check", **sql_server.settings)
    assert done.returncode == 0, done.stderr
    assert "query" in done.stdout


def test_check_of_settings_that_can_not_be_used() -> None:
    done = p8fs_cluster("check", pg_port="abc", log_level="LOUD", pg_password="hunter2")
    assert done.returncode == 1
    assert "P8FS_PG_PORT (from the environment)" in done.stderr
    assert "P8FS_LOG_LEVEL" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_check_of_a_log_file_that_can_not_be_written(rocksdb_settings: dict[str, Any]) -> None:
    done = p8fs_cluster("check", "--json", **rocksdb_settings, log_file="/proc/nope")
    assert done.returncode == 1
    report = {step["name"]: step for step in json.loads(done.stdout)["steps"]}
    assert "P8FS_LOG_FILE (from the environment)" in report["open the log file"]["fault"]
    assert report["one round trip"]["ok"]
    assert p8fs_cluster("check", **rocksdb_settings, log_file="log.txt").returncode == 0


def test_check_of_a_server_that_is_down() -> None:
    port = free_port()
    done = p8fs_cluster("check", "--json", pg_host="127.0.0.1", pg_port=port, pg_password="hunter2")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["ok"] is False
    faults = [step["fault"] for step in report["steps"] if not step["ok"]]
    assert len(faults) == 1
    assert "P8FS_PG_PORT (from the environment)" in faults[0]
    assert "hunter2" not in done.stdout + done.stderr


def test_config_show() -> None:
    done = p8fs_cluster("config", "show", pg_password="hunter2", pg_host="somewhere", tidb_password="")
    assert done.returncode == 0
    assert "hunter2" not in done.stdout
    lines = {line.split("│")[1].strip(): line for line in done.stdout.splitlines() if line.startswith("│")}
    assert "somewhere" in lines["P8FS_PG_HOST"]
    assert "the environment" in lines["P8FS_PG_HOST"]
    assert "*****" in lines["P8FS_PG_PASSWORD"]
    assert "the default" in lines["P8FS_PG_PORT"]


def test_values_that_look_like_markup_are_shown_as_they_are() -> None:
    done = p8fs_cluster("config", "show", log_format="[/p8fs] %(message)s", pg_host="[fe80::1]")
    assert done.returncode == 0, done.stderr
    assert "[/p8fs] %(message)s" in done.stdout
    assert "[fe80::1]" in done.stdout


def test_config_show_as_json() -> None:
    shown = json.loads(p8fs_cluster("config", "show", "--json", pg_password="hunter2", api_port="tcp://h:81").stdout)
    assert shown["pg_password"] == {"value": "**********", "source": "the environment"}
    assert shown["api_port"]["value"] == 81
    assert shown["auth_jwt_secret"]["value"] is None


def test_config_show_of_settings_that_can_not_be_used() -> None:
    done = p8fs_cluster("config", "show", pg_port=0)
    assert (done.returncode, done.stdout) == (1, "")
    assert "P8FS_PG_PORT" in done.stderr


def test_config_docs() -> None:
    assert "| `P8FS_PG_PORT` | `5438` | PostgreSQL port |" in p8fs_cluster("config", "docs").stdout
