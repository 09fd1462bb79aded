"""Options of connections, against real servers."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from sqlalchemy import text

from p8fs_cluster import Container
from p8fs_cluster.exceptions import StorageError, StorageUnavailable
from p8fs_cluster.providers.storage.tidb.engine import TiDB
from tests.processes import until
from tests.relays import relay
from tests.servers import Server, free_port


def test_the_first_of_several_hosts_that_will_do(postgresql_server: Server) -> None:
    hosts = {"pg_host": "127.0.0.2,127.0.0.1", "pg_target_session_attrs": "read-write"}
    with Container(config={**postgresql_server.settings, **hosts}) as container:
        assert container.storage().execute("SELECT 1") == [(1,)]
        with psycopg.connect(container.config().pg_connection_string) as by_string:
            assert by_string.execute("SELECT 1").fetchone() == (1,)


def test_no_host_that_will_do(postgresql_server: Server) -> None:
    with Container(config={**postgresql_server.settings, "pg_target_session_attrs": "standby"}) as container:  # noqa: SIM117
        with pytest.raises(StorageUnavailable, match="P8FS_PG_TARGET_SESSION_ATTRS"):
            container.storage().execute("SELECT 1")


def test_the_server_ends_statements(postgresql_server: Server) -> None:
    with Container(config={**postgresql_server.settings, "pg_statement_timeout": 0.1}) as container:  # noqa: SIM117
        with pytest.raises(StorageError, match="statement timeout"):
            container.storage().execute("SELECT pg_sleep(60)")


def test_the_server_knows_who_we_are(postgresql_server: Server) -> None:
    names = {"service_name": "notes", "pod_name": "notes-7"}
    with Container(config={**postgresql_server.settings, **names}) as container:
        assert container.storage().execute("SHOW application_name") == [("notes@notes-7",)]


def test_behind_a_pooler_nothing_is_prepared_nor_reset(postgresql_server: Server) -> None:
    settings = {"pg_pgbouncer": True, "pool_max_size": 1, "pg_statement_timeout": 5}
    with Container(config={**postgresql_server.settings, **settings}) as container:
        storage = container.storage()
        for number in range(10):
            assert storage.execute("SELECT %s::int", (number,)) == [(number,)]
        assert storage.execute("SELECT COUNT(*) FROM pg_prepared_statements") == [(0,)]
        assert storage.execute("SHOW statement_timeout") == [("0",)]
        storage.execute("SET work_mem = '12345kB'")
        assert storage.execute("SHOW work_mem") == [("12345kB",)]


def test_production_needs_verified_tls(mysql_server: Server) -> None:
    production: dict[str, Any] = {**mysql_server.settings, "environment": "production", "pool_timeout": 1}
    with Container(config=production) as container:
        assert container.storage().execute("SELECT 1") == [(1,)], "the server is on this machine"
    for name in ("production", "Production", " prod"):
        elsewhere = {**production, "tidb_host": "127.0.0.2", "environment": name}
        with Container(config=elsewhere) as container, pytest.raises(StorageUnavailable, match=r"verified TLS[^?]*$"):
            container.storage().execute("SELECT 1")
    with Container(config={**production, "tidb_host": "127.0.0.2"}) as container:  # noqa: SIM117
        with pytest.raises(StorageUnavailable, match=r"/\w+: production needs verified TLS[^?]*P8FS_TIDB_SSL_CA[^?]*$"):
            container.storage().execute("SELECT 1")
    with (
        Container(
            config={**production, "tidb_host": "127.0.0.2", "tidb_insecure": True, "tidb_port": free_port()}
        ) as it,
        pytest.raises(StorageUnavailable, match="refused"),
    ):
        it.storage().execute("SELECT 1")


def test_a_server_that_shuts_down_gets_no_more_of_us(mysql_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with Container(config={**mysql_server.settings, "pool_max_size": 1}) as container:
        storage = container.storage()
        with storage as first:
            first.cursor().execute("SELECT 1")
        with pytest.raises(pymysql.OperationalError), storage as leaving:
            assert leaving is first

            def answer(packet_type: Any = None) -> Any:
                raise pymysql.OperationalError(1053, "Server shutdown in progress")

            with monkeypatch.context() as patch:
                patch.setattr(pymysql.connections.Connection, "_read_packet", lambda self, packet_type=None: answer())
                leaving.cursor().execute("SELECT 1")
        with storage as second:
            assert second is not first


def test_codes_that_are_tried_again() -> None:
    retried = [
        number for number in range(10_000) if TiDB.retry_pause(pymysql.OperationalError(number, "x")) is not None
    ]
    assert retried == [1020, 1213, 8002, 8005, 8022, 8028, 9001, 9002, 9003, 9004, 9005, 9007]
    assert TiDB.retry_pause(pymysql.OperationalError(1105, "pessimistic lock retry limit reached")) is not None


def test_a_session_of_the_orm(sql_server: Server) -> None:
    with Container(config={**sql_server.settings, "pool_max_size": 1}) as container:
        container.storage().execute("DROP TABLE IF EXISTS orm")
        container.storage().execute("CREATE TABLE orm (n INT)")
        with container.session() as session:
            session.execute(text("INSERT INTO orm VALUES (1)"))
            session.commit()
            session.execute(text("INSERT INTO orm VALUES (2)"))
        assert container.storage().execute("SELECT n FROM orm") == [(1,)]
        assert container.storage().stats()["borrowed"] == 0


def test_only_our_settings_steer_a_connection(
    postgresql_server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What libpq takes from the environment for other programs is none of our settings."""
    (tmp_path / "services").write_text("[steer]\noptions=-c work_mem=12345kB\napplication_name=steered\n")
    look = "SELECT current_setting('work_mem'), current_setting('client_encoding'), current_setting('application_name')"
    steering = {"PGHOSTADDR": "127.0.0.9", "PGOPTIONS": "-c work_mem=12345kB", "PGSSLMODE": "verify-full",
                "PGSSLROOTCERT": "/nowhere", "PGREQUIREPEER": "nobody", "PGCLIENTENCODING": "LATIN1"}  # fmt: skip
    for variables in (steering, {"PGSERVICE": "steer", "PGSERVICEFILE": str(tmp_path / "services")}):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

        async def asynchronous() -> list[Any]:
            async with Container(config=postgresql_server.settings) as container:
                return await container.async_storage().execute(look)

        with Container(config=postgresql_server.settings) as container:
            assert container.storage().execute(look) == [("4MB", "UTF8", "p8fs")]
        assert asyncio.run(asynchronous()) == [("4MB", "UTF8", "p8fs")]


def test_a_service_that_is_not_there_is_told(postgresql_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSERVICE", "nope")
    with (
        Container(config=postgresql_server.settings) as container,
        pytest.raises(StorageUnavailable, match="PGSERVICE"),
    ):
        container.storage().execute("SELECT 1")


def test_variables_that_cant_be_overruled_are_told(
    postgresql_server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    with Container(config=postgresql_server.settings) as container:
        container.storage().execute("SELECT 1")
    assert "PGTZ" in caplog.text


@pytest.mark.parametrize("handle", ["threads", "asyncio"])
def test_a_first_host_that_hangs_leaves_time_for_the_next(postgresql_server: Server, handle: str) -> None:
    if not postgresql_server.is_ours:
        pytest.skip("the server that the environment names need not listen there")
    with socket.create_server(("127.0.0.2", 0)) as silent:
        port = silent.getsockname()[1]
        with relay("127.0.0.3", port, postgresql_server.settings["pg_port"]):
            settings = {**postgresql_server.settings, "pg_host": "127.0.0.2,127.0.0.3", "pg_port": port}

            async def asynchronous() -> list[Any]:
                async with Container(config=settings) as container:
                    return await container.async_storage().execute("SELECT 1")

            if handle == "asyncio":
                assert asyncio.run(asynchronous()) == [(1,)]
                return
            with Container(config=settings) as container:
                assert container.storage().execute("SELECT 1") == [(1,)]


@pytest.mark.parametrize("handle", ["threads", "asyncio"])
def test_a_first_address_that_hangs_leaves_time_for_the_next(
    mysql_server: Server, handle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = socket.getaddrinfo

    def two(host: str, port: Any, *args: Any, **kwargs: Any) -> Any:
        names = ("127.0.0.2", "127.0.0.3") if host == "db.test" else (host,)
        return [found for name in names for found in look_up(name, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    with socket.create_server(("127.0.0.2", 0)) as silent:
        port = silent.getsockname()[1]
        with relay("127.0.0.3", port, mysql_server.settings["tidb_port"]):
            settings = {**mysql_server.settings, "tidb_host": "db.test", "tidb_port": port, "pool_timeout": 2}

            async def asynchronous() -> list[Any]:
                async with Container(config=settings) as container:
                    return await container.async_storage().execute("SELECT 1")

            if handle == "asyncio":
                assert asyncio.run(asynchronous()) == [(1,)]
                return
            with Container(config=settings) as container:
                assert container.storage().execute("SELECT 1") == [(1,)]


def test_a_primary_that_only_reads_costs_one_failure(sql_server: Server) -> None:
    """Every connection from before the failover goes, so that the next ones are asked where the primary is."""
    provider = sql_server.provider
    if sql_server.kind == "tidb":
        return  # it has no such mode
    on, off = {
        "postgresql": ("ALTER SYSTEM SET default_transaction_read_only = on", "ALTER SYSTEM RESET ALL"),
        "tidb": ("SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0"),
    }[provider]
    session = {"postgresql": "SELECT pg_backend_pid()", "tidb": "SELECT CONNECTION_ID()"}[provider]
    with Container(config=sql_server.settings) as admin, Container(config=sql_server.settings) as container:
        administrator, storage = admin.storage(), container.storage()
        administrator.execute("DROP TABLE IF EXISTS failed_over")
        administrator.execute("CREATE TABLE failed_over (n INT)")
        if provider == "tidb":
            plain = "CREATE USER IF NOT EXISTS plain@'%' IDENTIFIED BY 'pr1vate'"
            administrator.execute(plain)
            administrator.execute("GRANT SELECT, INSERT ON test.* TO plain@'%'")
            container.config.override({"tidb_user": "plain", "tidb_password": "pr1vate"})
        with storage as first, storage as second:
            before = {session_of(first, session), session_of(second, session)}
        try:
            administrator.execute(on)
            if provider == "postgresql":
                administrator.execute("SELECT pg_reload_conf()")
                until(lambda: storage.execute("SHOW default_transaction_read_only") == [("on",)], "it only reads")
            with pytest.raises(StorageError, match=r"read.only"):
                storage.execute("INSERT INTO failed_over VALUES (1)")
            with storage as first, storage as second:
                assert not before & {session_of(first, session), session_of(second, session)}
        finally:
            with admin.storage() as connection:
                cursor = connection.cursor()
                if provider == "postgresql":
                    cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
            administrator.execute(off)
            if provider == "postgresql":
                administrator.execute("SELECT pg_reload_conf()")


def session_of(connection: Any, statement: str) -> Any:
    cursor = connection.cursor()
    cursor.execute(statement)
    return cursor.fetchone()[0]
