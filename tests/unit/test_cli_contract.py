"""Hold what scripts rely on: exit codes, streams, and the shape of JSON, as docs/operating.md has it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import __version__
from p8fs_cluster.config.settings import P8FSConfig
from tests.command import p8fs_cluster
from tests.processes import PATIENCE, ROOT, running, variables
from tests.terminals import terminal

PAGE = (ROOT / "docs" / "operating.md").read_text("utf-8")
FAULTY = {"pg_port": 0, "api_port": "abc", "pg_password": "hunter2"}
LINK = "tcp://10.0.0.1:80"
"""What Kubernetes puts into a variable for a Service of such a name."""

HELD = """
from p8fs_cluster import Container
with Container() as container:
    assert container.cluster().lock("notes").acquire()
    assert container.cluster().leader("notes").wait(30)
    container.kv().put("a", b"1")
"""

Command = tuple[str, ...]

GROUPS: list[Command] = [("config",), ("storage",), ("cluster",), ("kv",)]

COMMANDS: list[Command] = [
    ("check",),
    ("graph",),
    ("init", "made"),
    ("config", "show"),
    ("config", "explain"),
    ("config", "explain", "api_port"),
    ("config", "docs"),
    ("config", "schema"),
    ("config", "env-example"),
    ("config", "k8s", "--name", "notes"),
    ("config", "diff", "env", "defaults"),
    ("storage", "ping"),
    ("storage", "checkpoint", "copy"),
    ("storage", "restore", "copy"),
    ("cluster", "init"),
    ("cluster", "nodes"),
    ("cluster", "leaders"),
    ("cluster", "locks"),
    ("cluster", "history"),
    ("cluster", "release", "notes"),
    ("cluster", "resign", "notes"),
    ("cluster", "watch"),
    ("kv", "init"),
    ("kv", "get", "a"),
    ("kv", "put", "b", "1"),
    ("kv", "delete", "a"),
    ("kv", "scan"),
    ("kv", "count"),
    ("kv", "stats"),
    ("kv", "export"),
    ("kv", "import", "lines.jsonl"),
    ("kv", "copy", "--from", "rocksdb", "--to", "rocksdb:copied", "--verify"),
]
ENDLESS = [("cluster", "watch")]
"""They end by Ctrl-C, and have tests of their own."""
ENDING = [command for command in COMMANDS if command not in ENDLESS]
SILENT = (("storage", "checkpoint"), ("storage", "restore"))
"""Their answer is a folder."""
WITH_JSON: list[Command] = [
    ("check",),
    ("config", "show"),
    ("config", "explain"),
    ("config", "explain", "api_port"),
    ("config", "diff", "current", "defaults"),
    ("storage", "ping"),
    ("cluster", "init"),
    ("cluster", "leaders"),
    ("cluster", "locks"),
    ("cluster", "history"),
    ("cluster", "release", "notes"),
    ("cluster", "resign", "notes"),
    ("kv", "init"),
    ("kv", "get", "a"),
    ("kv", "put", "b", "1"),
    ("kv", "delete", "a"),
    ("kv", "scan"),
    ("kv", "count"),
    ("kv", "stats"),
    ("kv", "import", "lines.jsonl"),
    ("kv", "copy", "--from", "rocksdb", "--to", "rocksdb:copied", "--verify"),
]
LINES = (("storage", "ping"), ("kv", "scan"))
"""Their JSON is a line each."""
READS_NO_SETTINGS = (("graph",), ("init",), ("config", "docs"), ("config", "schema"), ("config", "env-example"))


@pytest.fixture
def good(rocksdb_settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that work, with a checkpoint for `restore`, a lock and a leader that were, a value, and lines."""
    assert p8fs_cluster("storage", "checkpoint", "copy", **rocksdb_settings).returncode == 0
    Path("copy").rename("taken")
    Path("lines.jsonl").write_text('{"key": "c", "value": "1"}')
    environment = {**os.environ, **variables(rocksdb_settings)}
    subprocess.run([sys.executable, "-c", HELD], check=True, env=environment)
    return {**rocksdb_settings, "pg_password": "hunter2"}


def names(command: Command) -> Command:
    return command[: 1 if command[0] in ("check", "graph", "init") else 2]


def row(command: Command) -> list[str]:
    """The cells of the command's row in the page's table."""
    shown = " ".join(names(command)) + (" NAME" if command[1:2] == ("explain",) and len(command) > 2 else "")
    found = re.search(rf"^\| `{shown}` \|(.*)\|$", PAGE, re.MULTILINE)
    assert found is not None, f"docs/operating.md has no row for {shown}"
    return [cell.strip() for cell in found[1].split("|")]


def shape(value: Any) -> str:
    """The keys of JSON as the page writes them."""
    if isinstance(value, list):
        return f"[{shape(value[0])}]" if value else "[]"
    if value.keys() <= P8FSConfig.model_fields.keys():
        return "{SETTING: " + shape(value["api_port"]) + "}"
    parts = (f"{key}: {shape(part)}" if isinstance(part, (dict, list)) else key for key, part in value.items())
    return "{" + ", ".join(parts) + "}"


def test_the_version() -> None:
    done = p8fs_cluster("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"p8fs-cluster {__version__}\n", "")


@pytest.mark.parametrize("command", [(), *GROUPS, *dict.fromkeys(map(names, COMMANDS))], ids=" ".join)
def test_help_in_short(command: Command) -> None:
    done = p8fs_cluster(*command, "-h")
    assert (done.returncode, done.stderr) == (0, "")
    assert " ".join(["Usage: p8fs-cluster", *command, "["]) in done.stdout
    if len(command) < 2:
        assert done.stdout == p8fs_cluster(*command, "--help").stdout


def test_every_command_is_in_the_table_and_here() -> None:
    listed = {
        tuple(shown.removesuffix(" NAME").split()) for shown in re.findall(r"^\| `([a-z].*?)` \|.*\|.*\|", PAGE, re.M)
    }
    there_are = {(name,) for name in commands_of()} - {*GROUPS}
    there_are |= {(*group, name) for group in GROUPS for name in commands_of(*group)}
    assert {names(command) for command in COMMANDS} == there_are == listed


def commands_of(*group: str) -> list[str]:
    """The names of commands that the help lists."""
    box = p8fs_cluster(*group, "-h").stdout.partition("─ Commands ─")[2]
    return re.findall(r"^│ ([a-z0-9-]+) ", box, re.MULTILINE)


class TestExitCodes:
    @pytest.mark.parametrize("command", ENDING, ids=" ".join)
    def test_when_it_works(self, command: Command, good: dict[str, Any]) -> None:
        if command[-2:] == ("restore", "copy"):
            Path("taken").rename("copy")
            good["rocksdb_path"] = "restored"
        done = p8fs_cluster(*command, **good)
        assert done.returncode == (1 if command[1:2] == ("diff",) else 0), done.stderr
        told = done.stdout if names(command) not in SILENT else done.stderr
        assert told.strip()
        assert (done.stderr if names(command) not in SILENT else done.stdout) == ""
        assert "hunter2" not in done.stdout + done.stderr

    @pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
    def test_of_settings_that_can_not_be_used(self, command: Command) -> None:
        done = p8fs_cluster(*command, **FAULTY)
        assert "hunter2" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        if names(command) in READS_NO_SETTINGS:
            assert (done.returncode, done.stderr) == (0, "")
            return
        assert done.returncode == (2 if command[1:2] == ("diff",) else 1)
        assert "P8FS_PG_PORT (from the environment)" in done.stderr
        assert "P8FS_API_PORT (from the environment)" in done.stderr
        assert done.stdout == "" or command == ("check",)

    @pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
    def test_of_arguments_that_can_not_be_understood(self, command: Command) -> None:
        done = p8fs_cluster(*command, "--nothing")
        assert (done.returncode, done.stdout) == (2, "")
        assert "Usage: p8fs-cluster " + " ".join(names(command)) in done.stderr
        assert "No such option: --nothing" in done.stderr

    @pytest.mark.parametrize(
        ("command", "said"),
        [
            (("check", "nowhere:Application"), "there is no module 'nowhere'"),
            (("graph", "nowhere:Application"), "there is no module 'nowhere'"),
            (("init", "made", "--name", "class"), "'class' is taken"),
            (("graph", "--output", "a.png"), "a.png does not say a format"),
            (("graph", "--output", "nowhere/a.dot"), "nowhere/a.dot can't be written"),
            (("config", "explain", "nothing"), "there is no such setting"),
            (("config", "k8s", "--name", "No"), "is no name in Kubernetes"),
            (("config", "k8s", "--name", "notes", "--output", "nowhere/a.yaml"), "can't be written"),
            (("config", "diff", "nowhere.env", "env"), "nowhere.env does not exist"),
            (("config", "diff", "-", "-"), "only one of the two"),
            (("kv", "import", "nowhere"), "nowhere can't be read"),
            (("kv", "copy", "--from", "rocksdb", "--to", "rocksdb"), "the same store"),
        ],
    )
    def test_of_what_is_not_possible(self, command: Command, said: str) -> None:
        done = p8fs_cluster(*command)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert row(command)[1], "the page says so, too"

    def test_of_a_diff(self) -> None:
        assert p8fs_cluster("config", "diff", "env", "defaults").returncode == 0
        assert p8fs_cluster("config", "diff", "env", "defaults", pg_port=1).returncode == 1


class TestJson:
    @pytest.mark.parametrize("command", WITH_JSON, ids=" ".join)
    def test_of_an_answer(self, command: Command, good: dict[str, Any]) -> None:
        Path(".env").write_text("P8FS_API_PORT=81\n")  # beside a link, and over a default
        done = p8fs_cluster(*command, "--json", **good, api_port=LINK)
        assert done.stderr == ""
        answers = done.stdout.splitlines() if names(command) in LINES else [done.stdout]
        assert {shape(json.loads(answer)) for answer in answers} == {row(command)[2].partition("`")[2].strip("`")}
        assert "hunter2" not in done.stdout

    @pytest.mark.parametrize("command", WITH_JSON, ids=" ".join)
    def test_of_settings_that_can_not_be_used(self, command: Command) -> None:
        done = p8fs_cluster(*command, "--json", **FAULTY)
        answer = json.loads(done.stdout)
        assert "P8FS_PG_PORT (from the environment)" in done.stderr
        assert "hunter2" not in done.stdout + done.stderr
        if command == ("check",):
            assert shape(answer) == row(command)[2].strip("`")
            assert (answer["ok"], answer["steps"][-1]["ok"]) == (False, False)
        elif command == ("storage", "ping"):
            assert shape(answer) in row(command)[2]
            assert answer["fault"].startswith("2 settings can't be used:")
        else:
            assert f"`{shape(answer)}`" in PAGE
            assert answer["fault"].startswith("2 settings can't be used:")
            assert [problem["variable"] for problem in answer["problems"]] == ["P8FS_PG_PORT", "P8FS_API_PORT"]
            assert {problem["source"] for problem in answer["problems"]} == {"the environment"}

    @pytest.mark.parametrize(
        "command",
        [
            ("check", "nowhere:Application"),
            ("config", "explain", "nothing"),
            ("config", "diff", "nowhere.env", "env"),
            ("config", "diff", "-", "-"),
        ],
        ids=" ".join,
    )
    def test_of_what_is_not_possible(self, command: Command) -> None:
        done = p8fs_cluster(*command, "--json")
        assert done.returncode == 2
        assert json.loads(done.stdout) == {"fault": done.stderr.strip(), "problems": []}

    def test_of_a_server_that_is_down(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        settings = {"pg_host": "127.0.0.1", "pg_port": port, "pg_password": "hunter2"}
        for command in (("check", "--json"), ("storage", "ping", "--json"), ("cluster", "nodes", "--json")):
            done = p8fs_cluster(*command, **settings)
            assert done.returncode == 1
            answer = json.loads(done.stdout)
            fault = answer["steps"][-2]["fault"] if command[0] == "check" else answer["fault"]
            assert "P8FS_PG_PORT (from the environment)" in fault
            assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize("command", [each for each in ENDING if names(each) not in SILENT], ids=" ".join)
def test_a_reader_that_goes_away_is_no_fault(command: Command, good: dict[str, Any]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, **{f"P8FS_{name.upper()}": str(value) for name, value in good.items()}}
    call = [sys.executable, "-P", "-m", "p8fs_cluster", *command]
    done = subprocess.run(call, stdout=writing, stderr=subprocess.PIPE, env=environment)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


class TestInterrupts:
    @pytest.fixture
    def silent(self) -> Iterator[socket.socket]:
        """A server that takes connections and says nothing."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(PATIENCE)
            yield server

    def test_of_a_check(self, silent: socket.socket) -> None:
        settings = {"pg_host": "127.0.0.1", "pg_port": silent.getsockname()[1], "pool_timeout": 60}
        with terminal("check", stdout=subprocess.PIPE, **settings) as shown:
            shown.until_seen("open the storage")
            # Imports are over when it connects: Python takes an interrupt in an exec() of text, as dataclasses have it,
            # for one that nobody has handled, and ends by the signal in place of the exit code.
            connection, _ = silent.accept()
            with connection:
                shown.process.send_signal(signal.SIGINT)
                assert shown.wait() == 130, shown.seen
            assert "Traceback" not in shown.seen

    @pytest.mark.parametrize("answers", [True, False])
    def test_of_a_ping(self, answers: bool, good: dict[str, Any], tmp_path: Path) -> None:
        settings = good if answers else {**good, "rocksdb_path": "/proc/nowhere"}
        arguments = ("-m", "p8fs_cluster", "storage", "ping", "--watch", "--interval", "0.05", "--json")
        with running(tmp_path / "log", *arguments, settings=settings) as process:
            process.until(lambda: process.output.count("\n") > 1, "it pings")
            assert process.end(signal.SIGINT) == (0 if answers else 1)
            assert all(json.loads(line).keys() for line in process.output.splitlines())


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        (("confg", "show"), "No such command 'confg'. Did you mean 'config'?"),
        (("config", "shwo"), "No such command 'shwo'. Did you mean 'show'?"),
        (("config", "show", "--jsno"), "No such option: --jsno (Possible options: --json)"),
        (("graph", "--format", "sgv"), "'svg'"),
    ],
)
def test_what_is_misspelt_is_told_with_what_is_meant(command: Command, meant: str) -> None:
    done = p8fs_cluster(*command)
    assert (done.returncode, done.stdout) == (2, "")
    assert meant in done.stderr
