"""A command of Typer or Click that an error of ours ends: its message, exit code 1, and a job that is rolled back."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from tests.processes import ROOT

APPLICATION = """
from p8fs_cluster.exceptions import CommitUnknown
from p8fs_cluster import Container, Provide, Scoped, Storage, inject
from p8fs_cluster.frameworks.typer import enter
def open_transaction():
    try:
        yield "open"
    except BaseException as exc:
        print("told of", type(exc).__name__)
        raise
    raise CommitUnknown("was it done?")
class Application(Container):
    job = Scoped(open_transaction).within("job")
@inject
def read(storage: Storage = Provide[Container.storage], job: str = Provide[Application.job]): storage.ping()
@inject
def begin(job: str = Provide[Application.job]): pass
"""

BODIES = """
def reads(): read()
def commits(): begin()
def tells(): raise CommitUnknown("sent hunter2 to mysql://root:x@db")
def divides(): begin() or 1 / 0
"""

TYPER = f"""
import typer
{APPLICATION}
app = typer.Typer()
@app.callback()
def main(ctx: typer.Context): enter(ctx, Application).config()
{BODIES}
for body in (reads, commits, tells, divides): app.command()(body)
"""

CLICK = f"""
import click
{APPLICATION}
@click.group()
@click.pass_context
def app(ctx): enter(ctx, Application).config()
{BODIES}
for body in (reads, commits, tells, divides): app.command()(body)
"""

UNREACHABLE = {"P8FS_STORAGE_PROVIDER": "tidb", "P8FS_TIDB_HOST": "127.0.0.1", "P8FS_TIDB_PORT": "1"}


def command(program: str, name: str, call: str = "app()") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "P8FS_TIDB_PASSWORD": "hunter2", **UNREACHABLE}
    line = [sys.executable, "-W", "error", "-c", f"{program}\n{call}", name]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60)


programs = pytest.mark.parametrize("program", [TYPER, CLICK], ids=["typer", "click"])
modes = pytest.mark.parametrize("call", ["app()", "app(standalone_mode=False)"], ids=["standalone", "within"])


@programs
@modes
def test_a_store_that_is_not_there_is_one_message(program: str, call: str) -> None:
    done = command(program, "reads", call)
    assert done.returncode == 1
    assert done.stdout == "told of StorageUnavailable\n", "the job is rolled back"
    [line] = done.stderr.splitlines()
    assert line.startswith("tidb at root@127.0.0.1:1/test: ")
    assert "P8FS_TIDB_PORT (from the environment)" in line


@programs
def test_so_is_a_commit_that_failed(program: str) -> None:
    done = command(program, "commits")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "was it done?\n")


@programs
def test_no_secret_is_in_it(program: str) -> None:
    done = command(program, "tells", "app()")
    assert (done.returncode, done.stderr) == (1, "sent *** to mysql://root:***@db\n")


@programs
@modes
def test_other_exceptions_are_left_alone(program: str, call: str) -> None:
    done = command(program, "divides", call)
    assert (done.returncode, done.stdout) == (1, "told of ZeroDivisionError\n")
    assert "ZeroDivisionError" in done.stderr
    assert "Traceback (most recent call last)" in done.stderr


@pytest.mark.parametrize(
    ("program", "runner"), [(TYPER, "typer.testing"), (CLICK, "click.testing")], ids=["typer", "click"]
)
def test_in_the_runner_of_tests(program: str, runner: str) -> None:
    call = f"""
from {runner} import CliRunner
result = CliRunner().invoke(app, ["tells"])
assert (result.exit_code, result.stderr) == (1, "sent *** to mysql://root:***@db\\n"), result
assert isinstance(result.exception.__cause__, CommitUnknown)
"""
    done = command(program, "", call)
    assert done.returncode == 0, done.stderr


@programs
def test_the_traceback_is_in_the_log_for_who_looks_for_it(program: str) -> None:
    done = command(program, "tells", "import logging; logging.basicConfig(level='DEBUG'); app()")
    assert done.returncode == 1
    assert "the command failed\nTraceback" in done.stderr


def test_an_error_of_enter_itself_is_told_as_well() -> None:
    fault: Any = 'Container(config={"pg_port": "many"})'
    done = command(TYPER.replace("enter(ctx, Application).config()", f"enter(ctx, lambda: {fault}).config()"), "reads")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "P8FS_PG_PORT (from code)" in done.stderr
