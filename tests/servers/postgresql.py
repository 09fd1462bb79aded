"""PostgreSQL, and a PgBouncer before it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.servers.debian import binary
from tests.servers.server import (
    GIVEN,
    Files,
    Server,
    free_port,
    run,
    running,
    server_room,
    server_user,
    settings_of,
    write,
)

__all__ = ["pgbouncer", "postgresql", "replica"]


@contextlib.contextmanager
def postgresql(files: Files | None = None, **options: str) -> Iterator[Server]:
    """Give a PostgreSQL server: a private one if it shall have files and options (where `{room}` is their folder)."""
    url = GIVEN.get("P8FS_TEST_POSTGRES_URL")
    if url and not files:
        yield Server("postgresql", settings_of(url, "pg", 5432))
        return
    initdb = binary("initdb", "/usr/lib/postgresql/*/bin", "postgresql")
    user = server_user("postgres")
    with server_room(user) as room:
        port, data = free_port(), room / "data"
        (room / "password").write_text("pr1vate")
        run([initdb, "-D", data, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", room / "password",
              "-E", "UTF8", "--no-locale", "--no-sync"], user)  # fmt: skip
        given = {"fsync": "off", **{name: value.format(room=room) for name, value in options.items()}}
        given |= {"listen_addresses": "127.0.0.1,::1", "unix_socket_directories": f"{room}"}
        flags = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
        write(files, room, user)
        settings = {"storage_provider": "postgresql", "pg_host": "127.0.0.1", "pg_port": port,
                    "pg_database": "postgres", "pg_user": "postgres", "pg_password": "pr1vate"}  # fmt: skip
        command = [str(Path(initdb).with_name("postgres")), "-D", str(data), "-p", str(port), *flags]
        server = Server("postgresql", settings, command, user, lambda: answers_postgresql(settings), signal.SIGINT,
                        log=room / "log")  # fmt: skip
        yield from running(server)


@contextlib.contextmanager
def replica(primary: Server) -> Iterator[Server]:
    """Give an asynchronous replica of a private PostgreSQL server, which follows it while both run."""
    there, binaries = primary.settings, Path(primary.command[0]).parent
    user = server_user("postgres")
    with server_room(user) as room:
        port, data = free_port(), room / "data"
        source = (f"host={there['pg_host']} port={there['pg_port']} user={there['pg_user']} "
                  f"password={there['pg_password']}")  # fmt: skip
        run([binaries / "pg_basebackup", "-d", source, "-D", data, "-R", "-X", "stream", "--no-sync",
             "-c", "fast"], user)  # fmt: skip
        command = [primary.command[0], "-D", str(data), "-p", str(port), "-c", "listen_addresses=127.0.0.1",
                   "-c", f"unix_socket_directories={room}", "-c", "fsync=off"]  # fmt: skip
        settings = {**there, "pg_port": port}
        yield from running(Server("postgresql", settings, command, user, lambda: answers_postgresql(settings),
                                  signal.SIGINT, log=room / "log"))  # fmt: skip


@contextlib.contextmanager
def pgbouncer(server: Server) -> Iterator[Server]:
    """Give a PgBouncer that lends the sessions of a PostgreSQL server for a transaction each; it has two of them."""
    pgbouncer_binary = binary("pgbouncer", "/usr/sbin", "pgbouncer")
    user = server_user("postgres")
    with server_room(user) as room:
        there, port = server.settings, free_port()
        address = f"host={there['pg_host']} port={there['pg_port']}"
        ini = {"listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": room, "pool_mode": "transaction",
               "default_pool_size": 2, "auth_type": "scram-sha-256", "auth_file": room / "users"}  # fmt: skip
        lines = ["[databases]", f"* = {address}", "[pgbouncer]", *(f"{name} = {value}" for name, value in ini.items())]
        users = f'"{there["pg_user"]}" "{there["pg_password"]}"\n'
        write({"ini": "\n".join(lines).encode(), "users": users.encode()}, room, user)
        settings = {**there, "pg_host": "127.0.0.1", "pg_port": port}
        yield from running(Server("postgresql", settings, [pgbouncer_binary, str(room / "ini")], user,
                                   lambda: answers_postgresql(settings), signal.SIGINT, log=room / "log"))  # fmt: skip


def answers_postgresql(settings: dict[str, Any]) -> bool:
    import psycopg

    parameters = {"host": settings["pg_host"], "port": settings["pg_port"], "user": settings["pg_user"],
                  "dbname": settings["pg_database"], "password": settings["pg_password"]}  # fmt: skip
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(**parameters, connect_timeout=2).close()
        return True
    return False
