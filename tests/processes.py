"""Real processes for tests: started in a group of their own, and gone at the block's end, whatever happened in it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers import free_port

ROOT = Path(__file__).parent.parent
PATIENCE = 60
"""Seconds that something may take on a busy machine before it counts as not happening."""


@dataclass
class Running:
    """A process, and what it has printed."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(how)
        return self.wait()

    def wait(self) -> int:
        """Return the exit code when it has ended."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end:\n{self.output}") from None

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition, for as long as the process lives."""
        try:
            until(lambda: condition() or self.process.poll() is not None, what)
            assert condition(), f"{what}: it ended before, with exit code {self.process.poll()}"
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.output}") from None


def until(condition: Callable[[], object], what: str = "what is waited for") -> None:
    """Wait for a condition, but not for ever."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what}: that never came"
        time.sleep(0.02)


def forked(action: Callable[[], Any]) -> Any:
    """Return what `action` returns in a forked child, through JSON; a child that hangs shows its stacks and ends."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            told = {"returned": action()}
        except BaseException:
            told = {"raised": traceback.format_exc()}
        os.write(writing, json.dumps(told).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answers:  # noqa: PTH123
        if not select.select([answers], [], [], PATIENCE)[0]:
            os.kill(child, signal.SIGABRT)  # at which pytest's handler shows its stack
        told = json.loads(answers.read() or '{"raised": "it hung, and was ended"}')
    os.waitpid(child, 0)
    assert "raised" not in told, told["raised"]
    return told["returned"]


@contextlib.contextmanager
def running(log: Path, *arguments: object, settings: Mapping[str, object] | None = None) -> Iterator[Running]:
    """Run `python ARGUMENTS` with our settings as variables; its group is killed at the end of the block."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables(settings or {})}
    command = [sys.executable, *map(str, arguments)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)
    try:
        yield Running(process, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def variables(settings: Mapping[str, object]) -> dict[str, str]:
    """Return settings as the environment has them."""
    return {f"P8FS_{name.upper()}": str(value) for name, value in settings.items()}


@contextlib.contextmanager
def serving(
    log: Path, server: str, *arguments: object, settings: Mapping[str, object] | None = None
) -> Iterator[tuple[Running, str]]:
    """Run gunicorn or uvicorn on a free port; give the process and its address when it takes connections."""
    port = free_port()
    where = ("--bind", f"127.0.0.1:{port}") if server == "gunicorn" else ("--port", port)
    with running(log, "-m", server, *where, *arguments, settings=settings) as process:
        process.until(lambda: takes_connections(port), "it listens")
        yield process, f"http://127.0.0.1:{port}"


def takes_connections(port: int) -> bool:
    """Return whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
