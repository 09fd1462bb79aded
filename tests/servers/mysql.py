"""The servers of MySQL's protocol: MariaDB and TiDB."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tests.servers.debian import binary
from tests.servers.server import (
    GIVEN,
    Files,
    Server,
    ServerMissing,
    free_port,
    run,
    running,
    server_room,
    server_user,
    settings_of,
    write,
)
from tests.tidb.binary import built

__all__ = ["has_tidb", "mariadb", "tidb"]

_USER = "CREATE USER tester@'%' IDENTIFIED BY 'pr1vate';\nGRANT ALL ON *.* TO tester@'%' WITH GRANT OPTION;\n"


@contextlib.contextmanager
def mariadb(files: Files | None = None, **options: str) -> Iterator[Server]:
    """Give a MariaDB server: a private one if it shall have files and options (where `{room}` is their folder)."""
    url = GIVEN.get("P8FS_TEST_MARIADB_URL")
    if url and not files:
        yield Server("mariadb", settings_of(url, "tidb", 3306))
        return
    server_binary = binary("mariadbd", "/usr/sbin", "mariadb-server")
    install = binary("mariadb-install-db", "/usr/bin", "mariadb-server")
    user = server_user("mysql")
    with server_room(user) as room:
        data, settings = room / "data", _settings()
        run([install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal",
             "--skip-test-db", *([f"--user={user}"] if user else [])], None)  # fmt: skip
        (room / "init.sql").write_text(f"CREATE DATABASE test;\n{_USER}")
        write(files, room, user)
        given = [f"--{name.replace('_', '-')}={value.format(room=room)}" for name, value in options.items()]
        flags = [f"--datadir={data}", f"--port={settings['tidb_port']}", "--bind-address=127.0.0.1",
                 f"--socket={room}/my.sock", f"--pid-file={room}/my.pid", f"--init-file={room}/init.sql",
                 "--skip-name-resolve", "--character-set-server=utf8mb4", "--collation-server=utf8mb4_bin",
                 "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M", *given]  # fmt: skip
        server = Server("mariadb", settings, [server_binary, "--no-defaults", *flags], user,
                        lambda: _answers(settings), log=room / "log")  # fmt: skip
        for attempt in running(server):
            (room / "init.sql").write_text("")  # what it says is done; a restart must not do it again
            yield attempt


def has_tidb() -> bool:
    """Return whether there is a TiDB to test on: one that the environment names, or one that `make tidb` built."""
    return "P8FS_TEST_TIDB_URL" in GIVEN or built() is not None


@contextlib.contextmanager
def tidb(files: Files | None = None, **options: str) -> Iterator[Server]:
    """Give a TiDB server: a private one if it shall have files and options (where `{room}` is their folder)."""
    url = GIVEN.get("P8FS_TEST_TIDB_URL")
    if url and not files and not options:
        yield _surely_tidb(Server("tidb", settings_of(url, "tidb", 4000)))
        return
    server_binary = built()
    if server_binary is None:
        raise ServerMissing("there is no TiDB: build it (make tidb), or name one in P8FS_TEST_TIDB_URL")
    with server_room(None) as room:
        settings = _settings()
        (room / "init.sql").write_text(_USER)
        write(files, room, None)
        given = [part for name, value in options.items()
                 for part in (f"-{name.replace('_', '-')}", value.format(room=room))]  # fmt: skip
        flags = ["-path", str(room), "-port", str(settings["tidb_port"]), "-socket", str(room / "my.sock"),
                 "-init", str(room / "init.sql"), "-grace", "2s", *given]  # fmt: skip
        server = Server("tidb", settings, [str(server_binary), *flags], None,
                        lambda: _answers(settings), log=room / "log")  # fmt: skip
        yield from running(server)


def _settings() -> dict[str, Any]:
    return {"storage_provider": "tidb", "tidb_host": "127.0.0.1", "tidb_port": free_port(),
            "tidb_database": "test", "tidb_user": "tester", "tidb_password": "pr1vate"}  # fmt: skip


def _surely_tidb(server: Server) -> Server:
    """Return a server that says that it is a TiDB.

    :raises ServerMissing: it is something else, on which the tests would prove nothing.
    """
    connection = _connected(server.settings)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT VERSION()")
        version = str(cursor.fetchone()[0])
    if "TiDB" not in version:
        raise ServerMissing(f"P8FS_TEST_TIDB_URL names a {version}, no TiDB: P8FS_TEST_MARIADB_URL is for others")
    return server


def _connected(settings: dict[str, Any]) -> Any:
    import pymysql

    return pymysql.connect(
        host=settings["tidb_host"], port=settings["tidb_port"], user=settings["tidb_user"], ssl_disabled=True,
        password=settings["tidb_password"], connect_timeout=2, read_timeout=2,
    )  # fmt: skip


def _answers(settings: dict[str, Any]) -> bool:
    import pymysql

    with contextlib.suppress(pymysql.MySQLError):
        _connected(settings).close()
        return True
    return False
