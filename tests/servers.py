"""Real servers for tests and benchmarks: those that the environment names, else private ones that end with the process.

`P8FS_TEST_POSTGRES_URL` and `P8FS_TEST_TIDB_URL` name servers to use (a database in which tables may be made).
Without them, a throwaway server is started on a free port of 127.0.0.1 from the binaries on the machine; where these
are missing Debian's package is installed if we are root or may use sudo, else the failure says what to install. A
missing server is never a silent skip.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

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

    settings: dict[str, Any]
    command: Sequence[str] = ()
    user: str | None = None
    is_up: Callable[[], bool] = lambda: True
    stop_signal: signal.Signals = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    log: Path | None = None

    @property
    def is_ours(self) -> bool:
        """Whether the tests started it, and so may stop it."""
        return bool(self.command)

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
        for pid in self._family(self.process.pid):
            os.kill(pid, signal.SIGSTOP)

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


@contextlib.contextmanager
def postgresql(files: Files | None = None, **options: str) -> Iterator[Server]:
    """Give a PostgreSQL server: a private one if it shall have files and options (where `{room}` is their folder)."""
    url = GIVEN.get("P8FS_TEST_POSTGRES_URL")
    if url and not files:
        yield Server(_settings_of(url, "pg", 5432))
        return
    initdb = _binary("initdb", "/usr/lib/postgresql/*/bin", "postgresql")
    user = _server_user("postgres")
    with _room(user) as room:
        port, data = _free_port(), room / "data"
        (room / "password").write_text("pr1vate")
        _run([initdb, "-D", data, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", room / "password",
              "-E", "UTF8", "--no-locale", "--no-sync"], user)  # fmt: skip
        given = {name: value.format(room=room) for name, value in options.items()}
        given |= {"listen_addresses": "127.0.0.1,::1", "unix_socket_directories": f"{room}", "fsync": "off"}
        flags = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
        _write(files, room, user)
        settings = {"storage_provider": "postgresql", "pg_host": "127.0.0.1", "pg_port": port,
                    "pg_database": "postgres", "pg_user": "postgres", "pg_password": "pr1vate"}  # fmt: skip
        server = Server(
            settings, [str(Path(initdb).with_name("postgres")), "-D", str(data), "-p", str(port), *flags], user,
            lambda: _answers_postgresql(settings), signal.SIGINT, log=room / "log",
        )  # fmt: skip
        yield from _running(server)


@contextlib.contextmanager
def tidb(files: Files | None = None, **options: str) -> Iterator[Server]:
    """Give a server that speaks TiDB's protocol: a TiDB that the environment names, else a MariaDB.

    It is a private MariaDB if it shall have files and options (where `{room}` is their folder).
    """
    url = GIVEN.get("P8FS_TEST_TIDB_URL")
    if url and not files:
        yield Server(_settings_of(url, "tidb", 4000))
        return
    server_binary = _binary("mariadbd", "/usr/sbin", "mariadb-server")
    install = _binary("mariadb-install-db", "/usr/bin", "mariadb-server")
    user = _server_user("mysql")
    with _room(user) as room:
        port, data = _free_port(), room / "data"
        _run([install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal",
              "--skip-test-db", *([f"--user={user}"] if user else [])], None)  # fmt: skip
        (room / "init.sql").write_text(
            "CREATE DATABASE test;\nCREATE USER tester@'%' IDENTIFIED BY 'pr1vate';\n"
            "GRANT ALL ON *.* TO tester@'%' WITH GRANT OPTION;\n"
        )
        _write(files, room, user)
        given = [f"--{name.replace('_', '-')}={value.format(room=room)}" for name, value in options.items()]
        flags = [*given, f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1", f"--socket={room}/my.sock",
                 f"--pid-file={room}/my.pid", f"--init-file={room}/init.sql", "--skip-name-resolve",
                 "--character-set-server=utf8mb4", "--collation-server=utf8mb4_bin",  # as TiDB has it
                 "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M"]  # fmt: skip
        settings = {"storage_provider": "tidb", "tidb_host": "127.0.0.1", "tidb_port": port,
                    "tidb_database": "test", "tidb_user": "tester", "tidb_password": "pr1vate"}  # fmt: skip
        server = Server(
            settings, [server_binary, "--no-defaults", *flags], user,
            lambda: _answers_mysql(settings), log=room / "log",
        )  # fmt: skip
        for attempt in _running(server):
            (room / "init.sql").write_text("")  # what it says is done; a restart must not do it again
            yield attempt


@contextlib.contextmanager
def pgbouncer(server: Server) -> Iterator[Server]:
    """Give a PgBouncer that lends the sessions of a PostgreSQL server for a transaction each; it has two of them."""
    binary = _binary("pgbouncer", "/usr/sbin", "pgbouncer")
    user = _server_user("postgres")
    with _room(user) as room:
        there, port = server.settings, _free_port()
        address = f"host={there['pg_host']} port={there['pg_port']}"
        ini = {"listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": room, "pool_mode": "transaction",
               "default_pool_size": 2, "auth_type": "scram-sha-256", "auth_file": room / "users"}  # fmt: skip
        lines = ["[databases]", f"* = {address}", "[pgbouncer]", *(f"{name} = {value}" for name, value in ini.items())]
        users = f'"{there["pg_user"]}" "{there["pg_password"]}"\n'
        _write({"ini": "\n".join(lines).encode(), "users": users.encode()}, room, user)
        settings = {**there, "pg_host": "127.0.0.1", "pg_port": port}
        yield from _running(Server(settings, [binary, str(room / "ini")], user,
                                   lambda: _answers_postgresql(settings), signal.SIGINT, log=room / "log"))  # fmt: skip


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens."""
    return _free_port()


def _running(server: Server) -> Iterator[Server]:
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _write(files: Files | None, room: Path, user: str | None) -> None:
    """Write the server's own files, which nobody else may read: PostgreSQL refuses keys that others can."""
    for name, content in (files or {}).items():
        path = room / name
        path.touch(mode=0o600)
        path.write_bytes(content)
        if user:
            shutil.chown(path, user)


@contextlib.contextmanager
def _room(user: str | None) -> Iterator[Path]:
    """A folder in /tmp that the server's user owns; the clone may lie where that user can't go."""
    room = Path(tempfile.mkdtemp(prefix="p8fs-", dir="/tmp"))
    try:
        if user:
            os.chown(room, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        room.chmod(0o755)
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _binary(name: str, where: str, package: str) -> str:
    path = _find(name, where)
    if path is None:
        _install(package)
        path = _find(name, where)
    if path is None:
        raise ServerMissing(f"{name} is missing: install Debian's package {package}")
    return path


def _find(name: str, where: str) -> str | None:
    found = sorted(Path("/").glob(f"{where[1:]}/{name}"))
    return str(found[-1]) if found else shutil.which(name)


def _install(package: str) -> None:
    variable = "P8FS_TEST_POSTGRES_URL" if package == "postgresql" else "P8FS_TEST_TIDB_URL"
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    other = "" if package == "pgbouncer" else f", or name a server in {variable}"
    way_out = f"install it (apt-get install {package}){other}"
    if not shutil.which("apt-get") or (sudo and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode):
        raise ServerMissing(f"the tests need {package}, and it can't be installed from here: {way_out}")
    print(f"installing {package} for the tests …", file=sys.stderr)
    environment = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"]
    with _no_services():
        for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", package]):
            done = subprocess.run([*sudo, *environment, *command], stdin=subprocess.DEVNULL, capture_output=True)
            if done.returncode:
                raise ServerMissing(f"{' '.join(command)} failed: {done.stderr.decode()[-500:]}; {way_out}")


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Keep Debian from starting the server that it installs: ours are private ones."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists() or os.geteuid() != 0:
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def _server_user(package_user: str) -> str | None:
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


def _run(command: Sequence[object], user: str | None) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, cwd="/", **_as_user(user))
    if done.returncode:
        raise ServerMissing(f"{command[0]} failed:\n{done.stdout.decode()}{done.stderr.decode()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers_postgresql(settings: dict[str, Any]) -> bool:
    import psycopg

    parameters = {"host": settings["pg_host"], "port": settings["pg_port"], "user": settings["pg_user"],
                  "dbname": settings["pg_database"], "password": settings["pg_password"]}  # fmt: skip
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(**parameters, connect_timeout=2).close()
        return True
    return False


def _answers_mysql(settings: dict[str, Any]) -> bool:
    import pymysql

    with contextlib.suppress(pymysql.MySQLError):
        pymysql.connect(
            host=settings["tidb_host"], port=settings["tidb_port"], user=settings["tidb_user"], ssl_disabled=True,
            password=settings["tidb_password"], connect_timeout=2, read_timeout=2,
        ).close()  # fmt: skip
        return True
    return False


def _settings_of(url: str, prefix: str, default_port: int) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "storage_provider": "postgresql" if prefix == "pg" else "tidb",
        f"{prefix}_host": parts.hostname or "localhost",
        f"{prefix}_port": parts.port or default_port,
        f"{prefix}_database": unquote(parts.path.lstrip("/")),
        f"{prefix}_user": unquote(parts.username or ""),
        f"{prefix}_password": unquote(parts.password or ""),
    }
