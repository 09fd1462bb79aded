"""Options of connections, against real servers."""

from __future__ import annotations

from typing import Any

import psycopg
import pymysql
import pytest
from sqlalchemy import text

from p8fs_cluster import Container
from p8fs_cluster.exceptions import StorageError, StorageUnavailable
from p8fs_cluster.providers.tidb import TiDB
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
    with Container(config={**production, "tidb_host": "127.0.0.2"}) as container:  # noqa: SIM117
        with pytest.raises(StorageUnavailable, match=r"verified TLS.*P8FS_TIDB_SSL_CA"):
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
