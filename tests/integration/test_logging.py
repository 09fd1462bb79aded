"""Logging of real processes: queues at exit and over forks, files of several writers, servers' own loggers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.processes import ROOT, running, serving, variables

JSON: dict[str, Any] = {"log_format": "json"}


def entries(text: str) -> list[dict[str, Any]]:
    """A traceback on stderr, in the same file, may stand before one on its line."""
    return [json.loads(line) for line in re.findall(r'{"time".*}', text)]


ENDINGS = {"exception": ["the process ends: ZeroDivisionError"]}
"""What is logged of the end of a process, besides what it has written."""


@pytest.mark.parametrize("queue", [True, False])
@pytest.mark.parametrize(
    ("how", "times"), [("return", 1), ("sys.exit", 1), ("exception", 1), ("multiprocessing", 2), ("os.fork", 3)]
)
def test_none_lost_and_none_twice(how: str, times: int, queue: bool, tmp_path: Path) -> None:
    settings = {**JSON, "log_queue": queue, "log_file": tmp_path / "file"}
    with running(tmp_path / "out", "-m", "tests.integration.log_writers", how, 2000, settings=settings) as process:
        assert process.wait() == (how == "exception"), process.output
    for name in ("out", "file"):
        written = entries((tmp_path / name).read_text())
        assert [entry["message"] for entry in written if "pid" not in entry] == ENDINGS.get(how, [])
        told = Counter((entry["pid"], entry["index"]) for entry in written if "pid" in entry)
        assert sum(told.values()) == 2000 * times
        writers = {pid for pid, _ in told}
        assert len(writers) == (1 if times == 1 else 2)
        assert {index for _, index in told} == set(range(2000))


def test_several_processes_rotate_one_file(tmp_path: Path) -> None:
    settings = {**JSON, "log_file": tmp_path / "log", "log_file_max_bytes": 200_000, "log_file_backups": 100}
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                running(tmp_path / f"{n}", "-m", "tests.integration.log_writers", "return", 5000, settings=settings)
            )
            for n in range(4)
        ]
        assert [writer.wait() for writer in writers] == [0] * 4
    files = [path for path in tmp_path.glob("log*") if path.name != "log.lock"]
    assert len(files) > 5
    assert all(path.stat().st_size < 201_000 for path in files)
    assert all(path.stat().st_size > 199_000 for path in files if path.name != "log"), "moved twice"
    told = Counter((e["pid"], e["index"]) for path in files for e in map(json.loads, path.read_text().splitlines()))
    assert len(told) == sum(told.values()) == 20_000


APP = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from p8fs_cluster import Container
from p8fs_cluster.frameworks.starlette import RequestContext, lifespan
def hello(request):
    request.app.state.container.logger("p8fs_api").info("hello", n=1)
    return PlainTextResponse("hello")
app = Starlette(routes=[Route("/", hello)], lifespan=lifespan(Container, validate=False))
app.add_middleware(RequestContext)
"""


def test_uvicorns_lines_are_json_once_with_the_request(tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(APP)
    with serving(tmp_path / "log", "uvicorn", "--app-dir", tmp_path, "served:app", settings=JSON) as (server, url):
        headers = {"X-Request-ID": "a1", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
        urllib.request.urlopen(urllib.request.Request(url, headers=headers)).close()
        urllib.request.urlopen(urllib.request.Request(url, headers={"X-Request-ID": "no id;"})).close()
        server.until(lambda: server.output.count("GET / HTTP") == 2, "the access log")
        server.end()
    told = entries(server.output)
    access = [entry for entry in told if entry["logger"] == "uvicorn.access"]
    hello = [entry for entry in told if entry["message"] == "hello"]
    assert server.output.count("GET / HTTP") == len(access) == len(hello) == 2
    for entry in (access[0], hello[0]):
        assert (entry["request_id"], entry["trace_id"], entry["span_id"]) == ("a1", "a" * 32, "b" * 16)
    assert len(hello[1]["request_id"]) == 32
    assert access[1]["request_id"] == hello[1]["request_id"]


def test_gunicorns_lines_are_json_once(tmp_path: Path) -> None:
    options = ("--access-logfile", "-", "tests.integration.log_flask:app")
    with serving(tmp_path / "log", "gunicorn", *options, settings=JSON) as (server, url):
        urllib.request.urlopen(url).close()
        server.until(lambda: "GET / HTTP" in server.output, "the access log")
        assert server.end() == 0
    access = [entry for entry in entries(server.output) if entry["logger"] == "gunicorn.access"]
    assert server.output.count("GET / HTTP") == len(access) == 1


def logged(code: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    code = f"from p8fs_cluster import Container\nimport os, sys\nlog = Container().logger('p8fs')\n{code}"
    everything = {**os.environ, "PYTHONPATH": str(ROOT), **variables(JSON), **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, env=everything)


def test_stdout_that_is_not_utf_8() -> None:
    done = logged("log.info('é→😀', name='é')", PYTHONIOENCODING="ascii", LC_ALL="C")
    entry = json.loads(done.stdout)
    assert (entry["message"], entry["name_"], done.stderr) == ("é→😀", "é", b"")


def test_stdout_that_is_closed_is_told_once_without_arguments() -> None:
    done = logged("sys.stdout.close()\nfor _ in range(3): log.info('%s', 'private')")
    assert done.stderr.count(b"logging to stdout fails: ValueError") == 1
    assert b"private" not in done.stderr


def test_a_broken_pipe_raises_nothing() -> None:
    done = logged("hear, tell = os.pipe()\nos.close(hear)\nos.dup2(tell, 1)\nlog.info('x')\nlog.info('y')\nos._exit(7)")
    assert done.returncode == 7
    assert done.stderr.count(b"BrokenPipeError") == 1


@pytest.mark.parametrize(("no_colour", "coloured"), [("", True), ("1", False)])
def test_colours_on_a_terminal(no_colour: str, coloured: bool) -> None:
    hear, tell = os.openpty()
    code = "from p8fs_cluster import Container; Container().logger('p8fs').warning('here')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": no_colour, "TERM": "xterm"}
    assert subprocess.run([sys.executable, "-c", code], stdout=tell, env=environment).returncode == 0
    shown = os.read(hear, 1000)
    os.close(hear)
    os.close(tell)
    assert b"here" in shown
    assert (b"\x1b[33mWARNING\x1b[0m" in shown) is coloured
