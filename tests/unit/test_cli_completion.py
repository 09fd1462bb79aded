"""Completion, as a shell asks for it: by variables, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from p8fs_cluster.config.settings import P8FSConfig
from tests.command import install, p8fs_cluster


def offered(monkeypatch: pytest.MonkeyPatch, line: str, path: Path | None = None) -> list[str]:
    """Return what bash is offered for the last word of a line."""
    monkeypatch.setenv("_P8FS_CLUSTER_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    done = p8fs_cluster(path=path)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


EXPLAIN = "p8fs-cluster config explain "


class TestSettings:
    @pytest.mark.parametrize(
        ("typed", "names"),
        [
            ("pg_p", ["pg_password", "pg_password_command", "pg_pgbouncer", "pg_port"]),
            ("PG_PO", ["PG_PORT"]),
            ("P8FS_PG_PO", ["P8FS_PG_PORT"]),
            ("p8fs_pg_po", ["p8fs_pg_port"]),
            ("P8FS_pg_po", ["P8FS_pg_port"]),
            ("mail_p", ["mail_port"]),
            ("P8FS_MAIL_", [f"P8FS_MAIL_{name}" for name in ("KEY", "PORT", "RATIO", "RELAY", "SENDERS", "SERVER")]),
            ("xyzzy", []),
        ],
    )
    def test_names_in_the_case_that_is_typed(
        self, typed: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert offered(monkeypatch, EXPLAIN + typed, install(tmp_path / "site")) == names

    def test_all_of_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert {*P8FSConfig.model_fields} <= {*offered(monkeypatch, EXPLAIN)}
        assert {f"P8FS_{name.upper()}" for name in P8FSConfig.model_fields} <= {*offered(monkeypatch, EXPLAIN + "P8")}

    @pytest.mark.parametrize(
        "code",
        [
            "raise SystemExit('no')",
            "import logging, sys\nprint('hello')\nlogging.warning('hello')\nsys.stderr.write('hello')\n1 / 0",
            "import os\nos.write(2, b'hello')",
        ],
    )
    def test_nothing_of_a_broken_section_is_seen(
        self, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = install(tmp_path / "site", code, "broken")
        assert offered(monkeypatch, EXPLAIN + "pg_po", path) == ["pg_port"]

    def test_settings_that_can_not_be_used_are_no_hindrance(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("P8FS_PG_PORT", "no number")
        assert offered(monkeypatch, EXPLAIN + "pg_po") == ["pg_port"]


class TestSidesOfADiff:
    @pytest.fixture(autouse=True)
    def files(self) -> None:
        for name in ("a.env", "current.toml", "b.yaml", "other.txt"):
            Path(name).touch()
        Path("mounted").mkdir()
        Path(".hidden").mkdir()

    def test_words_and_files(self, monkeypatch: pytest.MonkeyPatch) -> None:
        everything = ["env", "current", "defaults", "-", "a.env", "b.yaml", "current.toml", "mounted"]
        assert offered(monkeypatch, "p8fs-cluster config diff ") == everything
        assert offered(monkeypatch, "p8fs-cluster config diff a.env cur") == ["current", "current.toml"]

    def test_the_shell_completes_what_is_no_word(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert offered(monkeypatch, "p8fs-cluster config diff mou") == []


class TestContainers:
    def test_those_that_modules_here_declare(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("notes").mkdir()
        text = "from p8fs_cluster import Container\nprint('imported')\n1 / 0\nclass Application(Container):\n    pass\n"
        Path("notes/app.py").write_text(text)
        Path("notes/__init__.py").write_text("class Whole(containers.DeclarativeContainer): ...\n")
        Path("not-a-module.py").write_text(text)
        Path("folder.py").mkdir()
        for command in ("check", "graph"):
            found = offered(monkeypatch, f"p8fs-cluster {command} ")
            assert sorted(found) == ["notes.app:Application", "notes:Whole", "p8fs_cluster:Container"]
        assert offered(monkeypatch, "p8fs-cluster check notes.a") == ["notes.app:Application"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("p8fs-cluster con", ["config"]),
        ("p8fs-cluster config ex", ["explain"]),
        ("p8fs-cluster --ver", ["--version"]),
        ("p8fs-cluster --version ch", ["check"]),
        ("p8fs-cluster graph --format ", ["mermaid", "dot", "svg"]),
        ("p8fs-cluster config k8s --mount e", ["env"]),
    ],
)
def test_commands_options_and_choices(line: str, found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert offered(monkeypatch, line) == found


def test_no_framework_and_no_driver_is_imported_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what makes completion quick."""
    monkeypatch.setenv("_P8FS_CLUSTER_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", EXPLAIN)
    monkeypatch.setenv("COMP_CWORD", "3")
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print(*sys.modules, file=open('modules', 'w')))\n"
        "from p8fs_cluster.cli.app import main\n"
        "main()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    imported = {name.partition(".")[0] for name in Path("modules").read_text().split()}
    assert "typer" in imported
    assert not imported & {"dependency_injector", "fastapi", "flask", "psycopg", "pymysql", "sqlalchemy", "rocksdict"}


def test_bash_itself_is_answered() -> None:
    """The script that is installed, in the shell that it is for."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    script = """
eval "$(_P8FS_CLUSTER_COMPLETE=source_bash p8fs-cluster)"
complete -p p8fs-cluster | grep -o -- '-F [^ ]*'
COMP_WORDS=(p8fs-cluster config explain P8FS_PG_PO) COMP_CWORD=3
_p8fs_cluster_completion p8fs-cluster
echo "${COMPREPLY[@]}"
"""
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("-F _p8fs_cluster_completion\nP8FS_PG_PORT\n", "")
