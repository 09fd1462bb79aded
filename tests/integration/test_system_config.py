"""The whole way from variables to connections, as one process of a service goes it, on real servers."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import string
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest

from p8fs_cluster import Container, Storage, validate_configuration
from p8fs_cluster.config.settings import P8FSConfig, config
from p8fs_cluster.exceptions import ConfigurationError, NotCommitted, StorageError, StorageUnavailable
from tests.servers import Server, free_port

pytestmark = pytest.mark.integration

EVERY_PRINTABLE = "".join(c for c in string.printable if c.isprintable())
PASSWORDS = ["p@ss/w:rd#%41 é", "→ 値", EVERY_PRINTABLE]


def variables(settings: dict[str, Any]) -> dict[str, str]:
    return {f"P8FS_{name.upper()}": str(value) for name, value in settings.items()}


def prefix(server: Server) -> str:
    return "pg" if server.settings["storage_provider"] == "postgresql" else "tidb"


def test_database_provider_integration() -> None:
    if config.storage_provider == "postgresql":
        assert "postgresql://" in config.pg_connection_string
    elif config.storage_provider == "tidb":
        assert "mysql://" in config.tidb_connection_string


def test_modules_share_the_settings_of_the_environment(sql_server: Server) -> None:
    code = """
from p8fs_cluster import Container, Provide, Storage, container, inject, validate_configuration
from p8fs_cluster.config.settings import config
from p8fs_cluster.logging.setup import LoggingSetup
import logging

LoggingSetup.configure_logging()
validate_configuration()

@inject
def version(storage: Storage = Provide[Container.storage]) -> str:
    return storage.execute("SELECT version()")[0][0]

logging.getLogger("p8fs_api").info("%s on %s", config.service_name, version())
print(container.storage().stats()["borrowed"], container.storage().provider == config.storage_provider)
"""
    environment = {**os.environ, **variables(sql_server.settings), "P8FS_SERVICE_NAME": "notes"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert " - p8fs_api - INFO - notes on " in done.stdout
    assert done.stdout.endswith("0 True\n")
    assert done.stderr == ""


def test_the_connection_strings_lead_to_the_servers(postgresql_server: Server, mysql_server: Server) -> None:
    config = P8FSConfig(**{**mysql_server.settings, **postgresql_server.settings})
    with psycopg.connect(config.pg_connection_string) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert config.tidb_connection_string.startswith("mysql://")


@pytest.fixture
def user_with_password(sql_server: Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """A user of the server whose password is the test's."""
    password: str = request.param
    with Container(config=sql_server.settings) as container, container.storage() as connection:
        cursor = connection.cursor()
        if isinstance(connection, pymysql.connections.Connection):
            cursor.execute("DROP USER IF EXISTS nasty@'%'")
            cursor.execute("CREATE USER nasty@'%%' IDENTIFIED BY %s", (password,))
            cursor.execute("GRANT ALL ON test.* TO nasty@'%'")
        else:
            cursor.execute("DROP ROLE IF EXISTS nasty")
            cursor.execute(psycopg.sql.SQL("CREATE ROLE nasty LOGIN PASSWORD {}").format(psycopg.sql.Literal(password)))
    return password


@pytest.mark.parametrize("user_with_password", PASSWORDS, indirect=True)
def test_any_password_logs_in(sql_server: Server, user_with_password: str) -> None:
    changes = {f"{prefix(sql_server)}_user": "nasty", f"{prefix(sql_server)}_password": user_with_password}
    with Container(config={**sql_server.settings, **changes}) as container:
        assert container.storage().execute("SELECT 1") == [(1,)]
        with container.engine().connect() as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar() == 1
        if prefix(sql_server) == "pg":
            with psycopg.connect(container.config().pg_connection_string) as by_string:
                assert by_string.execute("SELECT 1").fetchone() == (1,)


def test_ipv6_and_socket_directory(postgresql_server: Server) -> None:
    if not postgresql_server.is_ours:
        pytest.skip("the server that P8FS_TEST_POSTGRES_URL names need not listen there")
    assert postgresql_server.log is not None
    for host in ("::1", "[::1]", str(postgresql_server.log.parent)):
        with Container(config={**postgresql_server.settings, "pg_host": host}) as container:
            assert container.storage().execute("SELECT 1") == [(1,)]
            with psycopg.connect(container.config().pg_connection_string) as by_string:
                assert by_string.execute("SELECT 1").fetchone() == (1,)


def test_socket_of_the_other_server(mysql_server: Server) -> None:
    if not mysql_server.is_ours:
        pytest.skip("the server that the environment names has no socket here")
    assert mysql_server.log is not None
    with Container(
        config={**mysql_server.settings, "tidb_host": str(mysql_server.log.parent / "my.sock")}
    ) as container:
        assert container.storage().execute("SELECT 1") == [(1,)]


class TestFaults:
    """Each names the settings, never the password, and comes within the timeout."""

    def fault(self, settings: dict[str, Any]) -> str:
        with Container(config={"pool_timeout": 2, **settings}) as container:
            with pytest.raises(StorageUnavailable) as caught:
                container.storage().execute("SELECT 1")
            with pytest.raises(ConfigurationError, match="the storage does not work"):
                validate_configuration(container)
            with pytest.raises(StorageUnavailable), container.engine().connect():
                pass
        chain = [caught.value, caught.value.__cause__, caught.value.__context__]
        assert not any("hunter2" in str(error) for error in chain)
        return str(caught.value)

    def test_wrong_password(self, sql_server: Server) -> None:
        name = f"{prefix(sql_server)}_password"
        message = self.fault({**sql_server.settings, name: "hunter2"})
        assert f"P8FS_{name.upper()} (from code)" in message
        assert "check user and password" in message

    def test_no_such_user(self, sql_server: Server) -> None:
        name = f"{prefix(sql_server)}_user"
        assert f"P8FS_{name.upper()}" in self.fault({**sql_server.settings, name: "nobody_here"})

    def test_no_such_database(self, sql_server: Server) -> None:
        name = f"{prefix(sql_server)}_database"
        message = self.fault({**sql_server.settings, name: "no_such_database"})
        assert f"P8FS_{name.upper()} (from code)" in message
        assert "no_such_database" in message

    @pytest.mark.parametrize("provider", ["postgresql", "tidb"])
    def test_nobody_listens(self, provider: str) -> None:
        name = "pg" if provider == "postgresql" else "tidb"
        port = free_port()
        message = self.fault({"storage_provider": provider, f"{name}_host": "127.0.0.1", f"{name}_port": port})
        assert f"{provider} at " in message
        assert f"127.0.0.1:{port}" in message
        assert f"P8FS_{name.upper()}_HOST (from code), P8FS_{name.upper()}_PORT (from code)" in message
        assert "refused" in message

    @pytest.mark.parametrize("provider", ["postgresql", "tidb"])
    def test_who_listens_says_nothing(self, provider: str) -> None:
        """Our own deadline ends it: libpq's is in whole seconds, and PyMySQL has none for the handshake."""
        name = "pg" if provider == "postgresql" else "tidb"
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            settings = {"storage_provider": provider, f"{name}_host": "127.0.0.1", f"{name}_port": port}
            message = self.fault({**settings, "pool_timeout": 0.3})
        assert "no answer within 0.3 s" in message
        assert "P8FS_POOL_TIMEOUT=0.3" in message

    @pytest.mark.parametrize("provider", ["postgresql", "tidb"])
    def test_who_listens_is_somebody_else(self, provider: str) -> None:
        name = "pg" if provider == "postgresql" else "tidb"
        with socket.create_server(("127.0.0.1", 0)) as other:

            def answer() -> None:
                while True:
                    try:
                        connection, _ = other.accept()
                    except OSError:
                        return
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    connection.close()

            threading.Thread(target=answer, daemon=True).start()
            settings = {"storage_provider": provider, f"{name}_host": "127.0.0.1"}
            message = self.fault({**settings, f"{name}_port": other.getsockname()[1]})
            other.shutdown(socket.SHUT_RDWR)
        assert f"P8FS_{name.upper()}_PORT" in message

    def test_32_threads_do_not_queue_behind_a_dead_server(self) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as silent,
            Container(
                config={"pg_host": "127.0.0.1", "pg_port": silent.getsockname()[1], "pool_timeout": 1}
            ) as container,
        ):
            faults: list[BaseException] = []

            def use(storage: Storage) -> None:
                try:
                    storage.ping()
                except StorageUnavailable as exc:
                    faults.append(exc)

            threads = [threading.Thread(target=use, args=(container.storage(),)) for _ in range(32)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(faults) == 32
            silent.setblocking(False)
            attempts = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    silent.accept()[0].close()
                    attempts += 1
            assert attempts < 5, "they share an attempt; one after another would take 32 s"

    def test_an_unusable_file_of_authorities(self, mysql_server: Server, tmp_path: Path) -> None:
        (tmp_path / "ca.pem").write_text("nonsense")
        assert "P8FS_TIDB_SSL_CA" in self.fault({**mysql_server.settings, "tidb_ssl_ca": tmp_path / "ca.pem"})


class TestServersComeAndGo:
    def test_after_a_restart_no_borrower_gets_a_dead_connection(self, sql_server: Server) -> None:
        if not sql_server.is_ours:
            pytest.skip("the environment names this server; it is not ours to stop")
        with Container(config=sql_server.settings) as container:
            storage = container.storage()
            with storage, storage, storage:
                assert storage.stats()["borrowed"] == 3
            sql_server.stop()
            with container.config.override({"pool_timeout": 1}), pytest.raises(StorageUnavailable):
                storage.execute("SELECT 1")
            sql_server.start()
            for _ in range(20):
                assert storage.execute("SELECT 1") == [(1,)]

    def test_a_connection_that_dies_in_the_block(self, sql_server: Server) -> None:
        if not sql_server.is_ours:
            pytest.skip("the environment names this server; it is not ours to stop")
        with Container(config=sql_server.settings) as container:
            with pytest.raises(NotCommitted, match="before the commit was sent"), container.storage() as connection:
                connection.cursor().execute("SELECT 1")
                sql_server.kill()
                assert select.select([connection.fileno()], [], [], 30)[0], "the system has closed its sockets"
            sql_server.start()
            assert container.storage().execute("SELECT 1") == [(1,)]
            with pytest.raises(ZeroDivisionError), container.storage() as connection:
                connection.cursor().execute("SELECT 1")
                sql_server.kill()
                1 / 0  # noqa: B018
            sql_server.start()
            assert container.storage().execute("SELECT 1") == [(1,)]
            assert container.storage().stats()["borrowed"] == 0

    def test_a_loss_that_the_block_did_not_mind_is_told(self, sql_server: Server) -> None:
        if not sql_server.is_ours:
            pytest.skip("the environment names this server; it is not ours to stop")
        with Container(config=sql_server.settings) as container:
            with pytest.raises(StorageError, match="lost in the block"), container.storage() as connection:
                connection.cursor().execute("SELECT 1")
                sql_server.kill()
                with contextlib.suppress(psycopg.Error, pymysql.MySQLError):
                    connection.cursor().execute("SELECT 1")
            sql_server.start()
            assert container.storage().execute("SELECT 1") == [(1,)]

    def test_ping_of_a_server_that_hangs_ends(self, sql_server: Server) -> None:
        if not sql_server.is_ours:
            pytest.skip("the environment names this server; it is not ours to stop")
        with Container(config={**sql_server.settings, "pool_timeout": 1}) as container:
            storage = container.storage()
            storage.ping()
            sql_server.hang()
            try:
                with pytest.raises(StorageUnavailable, match="no answer within 1 s"):
                    storage.ping()
            finally:
                sql_server.go_on()
            assert storage.ping() > 0


def in_child(action: Callable[[], object]) -> str:
    """Fork, and return what `action` returns, or raises, in the child."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(tell, repr(action()).encode())
        except BaseException as exc:
            os.write(tell, repr(exc).encode())
        finally:
            os._exit(0)
    os.close(tell)
    with os.fdopen(told, "rb") as answers:
        answer = answers.read().decode()
    os.waitpid(child, 0)
    return answer


class TestFork:
    def test_a_child_has_connections_of_its_own(self, sql_server: Server) -> None:
        whoami = "SELECT pg_backend_pid()" if prefix(sql_server) == "pg" else "SELECT connection_id()"
        with Container(config=sql_server.settings) as container:
            storage = container.storage()
            with storage as connection:
                cursor = connection.cursor()
                cursor.execute(whoami)
                mine = list(cursor.fetchall())
                answer = in_child(lambda: storage.execute(whoami))
                assert answer.startswith("[(")
                assert answer != repr(mine)
                cursor.execute(whoami)
                assert list(cursor.fetchall()) == mine, "the parent's connection is whole"
            assert storage.execute(whoami) == mine

    def test_a_child_that_leaves_its_parents_block(self, sql_server: Server) -> None:
        with Container(config=sql_server.settings) as container:
            storage = container.storage()
            storage.execute("DROP TABLE IF EXISTS forked")
            storage.execute("CREATE TABLE forked (name VARCHAR(10))")

            def block() -> Iterator[None]:
                with storage as connection:
                    for name in "xy":
                        connection.cursor().execute("INSERT INTO forked VALUES (%s)", (name,))
                        yield

            def child() -> object:
                running.close()
                return storage.execute("SELECT count(*) FROM forked")

            def committing() -> object:
                with contextlib.suppress(StopIteration):
                    next(running)
                return storage.execute("SELECT count(*) FROM forked")

            running = block()
            next(running)
            assert in_child(child) == "[(0,)]"
            next(running)
            assert in_child(committing) == "[(0,)]", "the child must not commit for its parent"
            with pytest.raises(ZeroDivisionError):
                running.throw(ZeroDivisionError())
            assert storage.execute("SELECT count(*) FROM forked") == [(0,)]
            assert storage.stats()["borrowed"] == 0


class TestRocksDB:
    def test_a_second_process_is_told_who_holds_it(self, rocksdb_settings: dict[str, Any]) -> None:
        environment = {**os.environ, **variables(rocksdb_settings)}
        with Container(config=rocksdb_settings) as container:
            container.storage().open()
            done = subprocess.run(
                [sys.executable, "-m", "p8fs_cluster", "check"], capture_output=True, text=True, env=environment
            )
        assert done.returncode == 1
        assert f"process {os.getpid()} holds it" in done.stderr
        assert "P8FS_ROCKSDB_PATH (from the environment)" in done.stderr

    def test_a_second_container_in_this_process(self, rocksdb_settings: dict[str, Any]) -> None:
        with Container(config=rocksdb_settings) as first, Container(config=rocksdb_settings) as second:
            first.storage().open()
            with pytest.raises(StorageUnavailable, match="this process has it open already"):
                second.storage().open()

    def test_after_a_fork_it_is_a_clear_error(self, rocksdb_settings: dict[str, Any]) -> None:
        with Container(config=rocksdb_settings) as container:
            storage = container.storage()
            storage.open()
            assert f"process {os.getpid()} holds it" in in_child(storage.ping)
            assert storage.ping() > 0

    @pytest.mark.parametrize("path", ["/proc/nope", "file", "file/below"])
    def test_a_path_that_can_not_be_written(self, path: str) -> None:
        Path("file").write_text("in the way")
        with Container(config={"storage_provider": "rocksdb", "rocksdb_path": path}) as container:
            with pytest.raises(StorageUnavailable, match="P8FS_ROCKSDB_PATH"):
                container.storage().open()
            with pytest.raises(ConfigurationError, match="P8FS_ROCKSDB_PATH"):
                validate_configuration(container)
        assert Path("file").read_text() == "in the way"

    def test_what_failed_to_open_is_tried_again(self) -> None:
        Path("file").write_text("in the way")
        with Container(config={"storage_provider": "rocksdb", "rocksdb_path": "file"}) as container:
            for _ in range(2):
                with pytest.raises(StorageUnavailable):
                    container.storage().ping()
            Path("file").unlink()
            assert container.storage().ping() > 0

    def test_a_directory_that_is_none_of_its_own(self, tmp_path: Path) -> None:
        (tmp_path / "db").mkdir()
        (tmp_path / "db" / "CURRENT").write_text("nonsense")
        with (
            Container(config={"storage_provider": "rocksdb", "rocksdb_path": tmp_path / "db"}) as container,
            pytest.raises(StorageUnavailable, match="is it a RocksDB directory, and whole"),
        ):
            container.storage().open()

    def test_what_was_written_survives_kill_9(self, rocksdb_settings: dict[str, Any]) -> None:
        code = """
import os, signal
from p8fs_cluster import container
with container.storage() as db:
    db[b"kept"] = b"yes"
os.kill(os.getpid(), signal.SIGKILL)
"""
        environment = {**os.environ, **variables(rocksdb_settings)}
        assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == -9
        with Container(config=rocksdb_settings) as container, container.storage() as database:
            assert database[b"kept"] == b"yes"


def test_validate_configuration(sql_server: Server, rocksdb_settings: dict[str, Any]) -> None:
    for settings in (sql_server.settings, rocksdb_settings):
        with Container(config=settings) as container:
            validate_configuration()
            validate_configuration(container)
            assert container.storage().stats()["engines"] == 1
    with Container() as container, pytest.MonkeyPatch.context() as patch:
        patch.setenv("P8FS_PG_PORT", "0")
        with pytest.raises(ConfigurationError, match="P8FS_PG_PORT"):
            validate_configuration()
