"""What servers of MySQL's protocol do, TiDB and MariaDB, through either handle."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from p8fs_cluster import Container
from p8fs_cluster.exceptions import StorageError, StorageUnavailable
from tests.conformance.cases import Case
from tests.conformance.conftest import case_of, through_both
from tests.processes import until
from tests.servers import MYSQL

SESSIONS = "SELECT id FROM information_schema.processlist"
HARMFUL = ["tidb_low_resolution_tso", "tidb_enable_external_ts_read", "tidb_enable_noop_functions"]
BUSY = "SELECT COUNT(*) FROM information_schema.columns a, information_schema.columns b, information_schema.columns c"
"""Runs for long, and is no SLEEP, which ends well when it is interrupted."""


@pytest.fixture(params=through_both(MYSQL))
def mysql_case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    with case_of(request, tmp_path) as case:
        yield case


@pytest.fixture(params=through_both(tuple({"tidb"}.intersection(MYSQL))))
def tidb_case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    with case_of(request, tmp_path) as case:
        yield case


@pytest.fixture(params=through_both(("mariadb",)))
def mariadb_case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    with case_of(request, tmp_path) as case:
        yield case


def run(connection: Any, statement: str) -> Any:
    cursor = connection.cursor()
    cursor.execute(statement)
    return list(cursor.fetchall()) if cursor.description else []


def administrator(case: Case) -> Any:
    """Return a bare connection beside the handle."""
    assert case.server is not None
    settings = case.server.settings
    return pymysql.connect(
        host=settings["tidb_host"],
        port=settings["tidb_port"],
        user=settings["tidb_user"],
        password=settings["tidb_password"],
        database=settings["tidb_database"],
        autocommit=True,
    )


def test_the_transaction_mode_is_the_settings(tidb_case: Case) -> None:
    for mode in ("pessimistic", "optimistic"):
        with tidb_case.container.config.override({"tidb_txn_mode": mode, "pool_max_size": 1}):
            for _ in range(2):
                with tidb_case.storage as connection:
                    assert run(connection, "SELECT @@tidb_txn_mode") == [(mode,)]
                    run(connection, "SET SESSION tidb_txn_mode = ''")  # the next borrower has a session reset


@pytest.mark.parametrize("mode", ["pessimistic", "optimistic"])
def test_a_transaction_that_meets_another_is_run_again(tidb_case: Case, mode: str) -> None:
    """Optimistic, TiDB tells of a conflict at the commit (9007); pessimistic, the row is locked and nothing is lost."""
    case, attempts = tidb_case, []
    case.put("counter", "0")
    with administrator(case) as other, case.container.config.override({"tidb_txn_mode": mode}):

        def work(connection: Any) -> None:
            attempts.append(case.access.get(connection, "counter"))
            if len(attempts) == 1:
                run(other, "UPDATE conformance SET value = value + 1 WHERE name = 'counter'")
            run(connection, "UPDATE conformance SET value = value + 10 WHERE name = 'counter'")

        case.storage.run_in_transaction(work)
    assert attempts == (["0"] if mode == "pessimistic" else ["0", "1"])
    assert case.get("counter") == "11"


def test_a_table_that_changes_under_a_transaction(tidb_case: Case) -> None:
    """Without its lock of metadata TiDB tells of the change at the commit (8028), and all is run again."""
    case, attempts = tidb_case, []
    with administrator(case) as other:
        run(other, "SET GLOBAL tidb_enable_metadata_lock = OFF")
        try:

            def work(connection: Any) -> None:
                case.access.put(connection, f"attempt {len(attempts)}", "x")
                attempts.append(connection)
                if len(attempts) == 1:
                    run(other, "ALTER TABLE conformance ADD COLUMN note INT")
                    run(other, "ALTER TABLE conformance DROP COLUMN note")

            case.storage.run_in_transaction(work)
        finally:
            run(other, "SET GLOBAL tidb_enable_metadata_lock = ON")
    assert len(attempts) == 2
    assert (case.get("attempt 0"), case.get("attempt 1")) == (None, "x")


def test_snapshots_that_conflict_on_mariadb(mariadb_case: Case) -> None:
    """From MariaDB 11.6.2 on this is the default: a row that has changed since it was read is an error (1020)."""
    case, attempts = mariadb_case, []
    case.put("counter", "0")
    with administrator(case) as other:

        def work(connection: Any) -> None:
            run(connection, "SET SESSION innodb_snapshot_isolation = ON")
            attempts.append(case.access.get(connection, "counter"))
            if len(attempts) == 1:
                run(other, "UPDATE conformance SET value = value + 1 WHERE name = 'counter'")
            run(connection, "UPDATE conformance SET value = value + 10 WHERE name = 'counter'")

        case.storage.run_in_transaction(work)
    assert attempts == ["0", "1"]
    assert case.get("counter") == "11"


@pytest.mark.parametrize("kill", ["KILL QUERY", "KILL CONNECTION", "KILL"])
def test_who_is_killed_commits_nothing(mysql_case: Case, kill: str) -> None:
    case, over = mysql_case, threading.Event()
    with administrator(case) as other:
        with pytest.raises(pymysql.OperationalError, match=r"1317|2013|context canceled"), case.storage as connection:
            case.access.put(connection, "killed", "x")
            session = run(connection, "SELECT CONNECTION_ID()")[0][0]
            runs = (
                f"SELECT COUNT(*) FROM information_schema.processlist WHERE id = {session} AND info LIKE '%columns c%'"
            )

            def kill_it() -> None:
                """Kill again and again: a kill that comes while the statement begins is lost."""
                while not over.wait(0.02):
                    with contextlib.suppress(pymysql.MySQLError):  # it may be gone
                        run(other, f"{kill} {session}") if run(other, runs) else None

            killer = threading.Thread(target=kill_it)
            killer.start()
            try:
                run(connection, BUSY)
            finally:
                over.set()
                killer.join()
        assert case.get("killed") is None
        if kill == "KILL QUERY":  # the session goes on, and is lent again
            return
        until(lambda: (session,) not in run(other, SESSIONS), "the session ends")


def test_a_statement_larger_than_the_server_takes(mysql_case: Case) -> None:
    case = mysql_case
    [(limit,)] = case.storage.execute("SELECT @@max_allowed_packet")
    assert case.storage.execute(f"SELECT LENGTH('{'x' * (limit - 1000)}')", timeout=60) == [(limit - 1000,)]
    for size in (limit + 1000, 2 * limit):
        with pytest.raises(StorageError, match="max_allowed_packet"):
            case.storage.execute(f"SELECT LENGTH('{'x' * size}')", timeout=60)
        assert case.storage.execute("SELECT 1") == [(1,)]


def test_warnings_can_be_read(mysql_case: Case) -> None:
    with mysql_case.storage as connection:
        assert run(connection, "SELECT CAST('x' AS SIGNED)") == [(0,)]
        [(level, number, _)] = run(connection, "SHOW WARNINGS")
    assert (level, number) == ("Warning", 1292)


def test_what_the_check_tells_of_the_server(mysql_case: Case) -> None:
    assert mysql_case.server is not None
    told = mysql_case.storage.inspect()
    if mysql_case.server.kind == "mariadb":
        assert told.startswith("MySQL protocol, no TiDB: ")
        assert told.endswith("; packets of up to 16 MiB")
    else:
        assert told.startswith("TiDB v")
        assert "; packets of up to 64 MiB; transactions are pessimistic unless" in told


@pytest.mark.parametrize("name", HARMFUL)
def test_settings_of_the_server_that_do_harm_are_told(tidb_case: Case, name: str) -> None:
    with administrator(tidb_case) as other:
        run(other, f"SET GLOBAL {name} = ON")
        try:
            with pytest.raises(StorageError, match=f"GLOBAL {name} is 'ON': .*; SET GLOBAL {name} = 'OFF'"):
                tidb_case.storage.inspect()
        finally:
            run(other, f"SET GLOBAL {name} = OFF")
    assert tidb_case.storage.inspect()


def test_a_way_to_authenticate_that_the_drivers_do_not_know(tidb_case: Case) -> None:
    with administrator(tidb_case) as other:
        run(other, "DROP USER IF EXISTS odd@'%'")
        run(other, "CREATE USER odd@'%' IDENTIFIED WITH tidb_sm3_password BY 'pr1vate'")
    with (
        tidb_case.container.config.override({"tidb_user": "odd"}),
        pytest.raises(StorageUnavailable, match=r"tidb_sm3_password.*mysql_native_password.*P8FS_TIDB_USER"),
    ):
        tidb_case.storage.execute("SELECT 1")


def test_a_password_of_sha2_needs_tls(tidb_case: Case) -> None:
    with administrator(tidb_case) as other:
        run(other, "DROP USER IF EXISTS sha2@'%'")
        run(other, "CREATE USER sha2@'%' IDENTIFIED WITH caching_sha2_password BY 'pr1vate'")
    with (
        tidb_case.container.config.override({"tidb_user": "sha2"}),
        pytest.raises(StorageUnavailable, match="caching_sha2_password needs TLS"),
    ):
        tidb_case.storage.execute("SELECT 1")


def test_a_server_leaves_nothing_to_the_other_container(mysql_case: Case) -> None:
    """Locks by name are the server's own, and end with the block."""
    with Container(config=mysql_case.server.settings if mysql_case.server else {}) as second:
        with mysql_case.storage as connection:
            assert run(connection, "SELECT GET_LOCK('mine', 1)") == [(1,)]
            assert second.storage().execute("SELECT GET_LOCK('mine', 0)") == [(0,)]
        assert second.storage().execute("SELECT GET_LOCK('mine', 10)") == [(1,)]


@pytest.mark.parametrize(
    ("statement", "look", "clean"),
    [
        ("SET SESSION tidb_read_staleness = '-5'", "SELECT @@tidb_read_staleness", "0"),
        ("SET SESSION tidb_low_resolution_tso = ON", "SELECT @@tidb_low_resolution_tso", 0),
        ("SET SESSION innodb_lock_wait_timeout = 3", "SELECT @@innodb_lock_wait_timeout", 50),
        ("SET SESSION tidb_session_alias = 'mine'", "SELECT @@tidb_session_alias", ""),
        ("BEGIN OPTIMISTIC", "SELECT @@tidb_current_ts > 0", 0),
    ],
)
def test_what_only_tidb_has_is_not_left_behind(tidb_case: Case, statement: str, look: str, clean: Any) -> None:
    with tidb_case.container.config.override({"pool_max_size": 1}):
        with tidb_case.storage as first:
            run(first, statement)
            assert run(first, look) != [(clean,)]
        with tidb_case.storage as second:
            assert second == first, "it is the same connection"
            assert run(second, look) == [(clean,)]
