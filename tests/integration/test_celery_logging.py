"""Records of a Celery worker: each once, redacted, as JSON on stdout, whatever pool runs the tasks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import until

SERVICE = """
from celery import Celery
from p8fs_cluster import Container
from p8fs_cluster.frameworks.celery import init_app

app = Celery("service", broker="filesystem://")
folders = {name: "queue" for name in ("data_folder_in", "data_folder_out")}
app.conf.broker_transport_options = {**folders, "processed_folder": "done"}
container = init_app(app, Container)

@app.task
def work():
    print("printed")
    container.logger("p8fs_api").info("at work, at postgresql://me:hunter2@db/x")
"""


@pytest.mark.parametrize("pool", ["solo", "prefork", "threads"])
def test_each_record_comes_once(pool: str, tmp_path: Path) -> None:
    for folder in ("queue", "done"):
        (tmp_path / folder).mkdir()
    (tmp_path / "service.py").write_text(SERVICE)
    given = {"P8FS_LOG_FORMAT": "json", "P8FS_STORAGE_PROVIDER": "rocksdb", "C_FORCE_ROOT": "1"}
    environment = {**os.environ, **given, "P8FS_ROCKSDB_PATH": str(tmp_path / "store")}
    send = [sys.executable, "-c", "from service import work; work.delay()"]
    subprocess.run(send, cwd=tmp_path, env=environment, check=True, timeout=60)
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "service",
        "worker",
        "--pool",
        pool,
        "-c",
        "1",
        "-l",
        "INFO",
        "-f",
        "theirs.log",
    ]
    out, err = tmp_path / "out", tmp_path / "err"
    with (
        out.open("w") as stdout,
        err.open("w") as stderr,
        subprocess.Popen(command, stdout=stdout, stderr=stderr, cwd=tmp_path, env=environment) as worker,
    ):
        try:
            until(said(out, "succeeded in"), "the end of the task")
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(60)
    lines = out.read_text().splitlines()
    found = [json.loads(line) for line in lines if "at work" in line]
    assert [(each["level"], each["message"]) for each in found] == [("INFO", "at work, at postgresql://me:***@db/x")]
    assert lines.count("printed") == 1
    assert "--logfile theirs.log is not used: P8FS_LOG_FILE names the file" in out.read_text()
    assert "at work" not in err.read_text()
    assert "hunter2" not in out.read_text() + err.read_text()


def said(path: Path, text: str) -> Callable[[], bool]:
    return lambda: text in path.read_text()
