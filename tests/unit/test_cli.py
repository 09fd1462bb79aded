"""The command, as it is typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.servers import free_port


def p8fs_cluster(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **{f"P8FS_{name.upper()}": str(value) for name, value in settings.items()}}
    command = [sys.executable, "-P", "-m", "p8fs_cluster", *arguments]  # as the script: the folder is not on the path
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
        "check the container",
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


SERVICE = """
import os
from dependency_injector import containers, providers
from p8fs_cluster import Container

class Client:
    def __init__(self, host: str) -> None:
        raise AssertionError("built")

class Application(Container):
    client = providers.Singleton(Client, Container.config.provided.pg_host)

class Wrong(Container):
    client = providers.Singleton(Client, hots=1)
    other = providers.Singleton(Client)

class Foreign(containers.DeclarativeContainer):
    client = providers.Singleton(Client, "h")

def make():
    return Application()

def fail():
    raise ValueError("not to mysql://root:hunter2@db/app")

number = 3
"""


@pytest.fixture
def service() -> None:
    Path("service.py").write_text(SERVICE)
    made = 'from service import Application\napplication = Application(config={"rocksdb_path": "elsewhere"})\n'
    Path("made.py").write_text(made)


@pytest.mark.usefixtures("service")
class TestOwnContainers:
    @pytest.mark.parametrize("name", ["service:Application", "made:application", "service:make"])
    def test_are_checked(self, name: str, rocksdb_settings: dict[str, Any]) -> None:
        done = p8fs_cluster("check", name, "--json", **rocksdb_settings)
        assert done.returncode == 0, done.stderr
        steps = json.loads(done.stdout)["steps"]
        assert [step["name"] for step in steps][:2] == ["check the container", "read the settings"]
        assert [step["name"] for step in steps][-1] == "close"
        assert steps[0]["detail"] == "8 providers"
        assert Path("elsewhere").exists() == (name == "made:application")

    def test_that_can_not_work(self, rocksdb_settings: dict[str, Any]) -> None:
        done = p8fs_cluster("check", "service:Wrong", **rocksdb_settings)
        assert done.returncode == 1
        assert done.stderr.splitlines() == [
            "2 problems in the container:",
            "  client: Client: there is no argument 'hots'; did you mean 'host'?",
            "  other: Client: argument 'host' is missing",
        ]
        assert "read the settings" not in done.stdout

    def test_without_storage(self) -> None:
        done = p8fs_cluster("check", "service:Foreign", "--json", pg_port="no number")
        assert done.returncode == 0, done.stderr
        assert [step["name"] for step in json.loads(done.stdout)["steps"]] == ["check the container"]

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("service:Aplication", "service has no 'Aplication'; did you mean 'Application'?"),
            ("servise:Application", "there is no module 'servise'; did you mean 'service'?"),
            (
                "examples.own_containr:Application",
                "there is no module 'examples.own_containr'; did you mean 'own_container'?",
            ),
            ("service", "'service' names no container: say MODULE:NAME, such as service.app:Application"),
            ("service:number", "service:number is no container, but of type int"),
            ("service:fail", "calling service:fail failed: ValueError: not to mysql://root:***@db/app"),
            ("broken:Application", "importing broken failed: SyntaxError: invalid syntax (broken.py, line 1)"),
            ("needy:Application", "importing needy failed: ModuleNotFoundError: No module named 'nobody_has_this'"),
            ("leaver:Application", "importing leaver failed: SystemExit: 3"),
        ],
    )
    @pytest.mark.parametrize("command", ["check", "graph"])
    def test_that_can_not_be_loaded(self, command: str, name: str, said: str) -> None:
        Path("broken.py").write_text("this is no Python\n")
        Path("needy.py").write_text("import nobody_has_this\n")
        Path("leaver.py").write_text("raise SystemExit(3)\n")
        done = p8fs_cluster(command, name)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == said + "\n"

    def test_are_drawn(self) -> None:
        done = p8fs_cluster("graph", "service:Application", pg_port="no number")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("flowchart LR\n")
        assert 'n7["client<br/>Singleton · Client"]' in done.stdout
        assert 'n7 -->|"host .pg_host"| n0' in done.stdout


class TestGraph:
    def test_of_our_container_to_stdout(self) -> None:
        assert p8fs_cluster("graph").stdout.startswith("flowchart LR\n")
        assert p8fs_cluster("graph", "--format", "dot").stdout.startswith('digraph "Container" {\n')
        assert "<title>Container:" in p8fs_cluster("graph", "--format", "svg").stdout

    @pytest.mark.parametrize(
        ("name", "start"), [("a.svg", "<svg "), ("a.dot", "digraph "), ("a.gv", "digraph "), ("a.mmd", "flowchart ")]
    )
    def test_to_a_file_of_that_ending(self, name: str, start: str) -> None:
        done = p8fs_cluster("graph", "--output", name)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert Path(name).read_text("utf-8").startswith(start)

    def test_the_format_that_is_asked_for_wins(self) -> None:
        assert p8fs_cluster("graph", "--output", "a.txt", "--format", "svg").returncode == 0
        assert ET.parse("a.txt").getroot().tag.endswith("svg")  # noqa: S314

    def test_to_a_file_that_can_not_be(self) -> None:
        done = p8fs_cluster("graph", "--output", "a.png")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("a.png does not say a format: use --format, or an ending of .mmd")
        done = p8fs_cluster("graph", "--output", "nowhere/a.svg")
        assert (done.returncode, done.stderr) == (2, "nowhere/a.svg can't be written: No such file or directory\n")


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
    shown = json.loads(p8fs_cluster("config", "show", "--json", pg_password="hunter2", api_port="81").stdout)
    assert shown["pg_password"] == {"value": "**********", "source": "the environment"}
    assert shown["api_port"]["value"] == 81
    assert shown["auth_jwt_secret"]["value"] is None


def test_config_show_of_settings_that_can_not_be_used() -> None:
    done = p8fs_cluster("config", "show", pg_port=0)
    assert (done.returncode, done.stdout) == (1, "")
    assert "P8FS_PG_PORT" in done.stderr


def test_config_docs() -> None:
    assert "| `P8FS_PG_PORT` | `5438` | PostgreSQL port |" in p8fs_cluster("config", "docs").stdout
