"""A server that the tests start, stop, hang and kill, and the folder in which it lives."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = [
    "GIVEN",
    "Files",
    "Server",
    "ServerMissing",
    "free_port",
    "run",
    "running",
    "server_room",
    "server_user",
    "settings_of",
    "write",
]

PATIENCE = 90
"""Seconds that a server may take to start on a busy machine."""


GIVEN = {name: value for name, value in os.environ.items() if name.startswith("P8FS_TEST_")}
"""What was named before any test took its variables away."""


Files = Mapping[str, bytes]
"""Names and contents."""


class ServerMissing(Exception):
    """No server, and no way to get one."""


@dataclass
class Server:
    """A server that tests may use, stop and start again, and the settings that lead to it."""

    kind: str
    """What it is: postgresql, mariadb, tidb."""
    settings: dict[str, Any]
    command: Sequence[str] = ()
    user: str | None = None
    is_up: Callable[[], bool] = lambda: True
    stop_signal: signal.Signals = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    log: Path | None = None

    @property
    def is_ours(self) -> bool:
        """Return whether the tests started it, and so may stop it."""
        return bool(self.command)

    @property
    def provider(self) -> str:
        """The engine that it is behind."""
        return str(self.settings["storage_provider"])

    @property
    def port_setting(self) -> str | None:
        """The name of the setting that holds its port; None: nobody connects to it."""
        return next((name for name in self.settings if name.endswith("_port")), None)

    def start(self) -> None:
        assert self.log is not None
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **_as_user(self.user),
            )
        deadline = time.monotonic() + PATIENCE
        while not self.is_up():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise ServerMissing(f"{self.command[0]} did not start:\n{self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it in order, as an operator would, and wait until it is gone."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """End it at once."""
        self._end(signal.SIGKILL)

    def hang(self) -> None:
        """Stop all its processes without ending them: they hold their sockets and answer nothing."""
        assert self.process is not None
        family = list(self._family(self.process.pid))
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
        while not all(map(_stopped, family)):
            time.sleep(0.001)

    def go_on(self) -> None:
        """Undo `hang`."""
        assert self.process is not None
        for pid in self._family(self.process.pid):
            os.kill(pid, signal.SIGCONT)

    def _kill_family(self) -> None:
        assert self.process is not None
        for pid in list(self._family(self.process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _family(self, pid: int) -> Iterator[int]:
        """PostgreSQL's backends are sessions of their own, out of a group's reach."""
        yield pid
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                yield from self._family(int(child))

    def _end(self, how: signal.Signals) -> None:
        if self.process and self.process.poll() is None:
            if how is signal.SIGKILL:
                self._kill_family()
            else:
                self.process.send_signal(how)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self._kill_family()
            self.process.wait()
        self.process = None


def _stopped(pid: int) -> bool:
    """Return whether every thread of a process has stopped: a signal takes a moment to reach them."""
    stats = [task.joinpath("stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens, and which the system gives to no client.

    One that tries again and again to reach a server that is down may be given that very port: it is connected to itself
    then, and the server can't start.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def running(server: Server) -> Iterator[Server]:
    server.start()
    try:
        yield server
    finally:
        server.stop()


def write(files: Files | None, room: Path, user: str | None) -> None:
    """Write the server's own files, which nobody else may read: PostgreSQL refuses keys that others can."""
    for name, content in (files or {}).items():
        path = room / name
        path.touch(mode=0o600)
        path.write_bytes(content)
        if user:
            shutil.chown(path, user)


@contextlib.contextmanager
def server_room(user: str | None) -> Iterator[Path]:
    """A folder in /tmp that the server's user owns; the clone may lie where that user can't go."""
    room = Path(tempfile.mkdtemp(prefix="p8fs-", dir="/tmp"))
    try:
        if user:
            os.chown(room, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        room.chmod(0o755)
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


def server_user(package_user: str) -> str | None:
    """Root may not run these servers; anybody else runs them as they are."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return package_user if package_user in known else "nobody"


def _as_user(user: str | None) -> dict[str, Any]:
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": user, "group": entry.pw_gid, "extra_groups": [], "env": {"PATH": os.defpath, "HOME": "/tmp"}}


def run(command: Sequence[object], user: str | None) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, cwd="/", **_as_user(user))
    if done.returncode:
        raise ServerMissing(f"{command[0]} failed:\n{done.stdout.decode()}{done.stderr.decode()}")


def settings_of(url: str, prefix: str, default_port: int) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "storage_provider": "postgresql" if prefix == "pg" else "tidb",
        f"{prefix}_host": parts.hostname or "localhost",
        f"{prefix}_port": parts.port or default_port,
        f"{prefix}_database": unquote(parts.path.lstrip("/")),
        f"{prefix}_user": unquote(parts.username or ""),
        f"{prefix}_password": unquote(parts.password or ""),
    }
