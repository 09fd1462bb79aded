"""What a borrower does to a session never reaches the next one; clean sessions are not reset."""

from __future__ import annotations

import contextlib
from typing import Any

import psycopg.sql
import psycopg.types.json
import psycopg.types.numeric
import pymysql
import pytest

from p8fs_cluster.exceptions import StorageError
from tests.conformance.cases import Case
from tests.servers.capabilities import needs

WORK_MEM = "SELECT current_setting('work_mem') = '12345kB'"
LEFT_BEHIND = {
    "postgresql": {
        "a setting": ("SET statement_timeout = 12345", "SHOW statement_timeout", "0"),
        "a setting by a function": ("SELECT set_config('work_mem', '12345kB', false)", WORK_MEM, False),
        "a second statement": ("SELECT 1; SET work_mem = '12345kB'", WORK_MEM, False),
        "a comment before": ("/* now */ SET work_mem = '12345kB'", WORK_MEM, False),
        "a composed statement": (psycopg.sql.SQL("SET work_mem = '12345kB'"), WORK_MEM, False),
        "a statement of bytes": (b"SET work_mem = '12345kB'", WORK_MEM, False),
        "a table of settings": ("UPDATE pg_settings SET setting = '12345' WHERE name = 'work_mem'", WORK_MEM, False),
        "a quoted function": ("SELECT \"set_config\" /* x */ ('work_mem', '12345kB', false)", WORK_MEM, False),
        "a table of pg_temp": ("CREATE TABLE pg_temp.left_behind (n INT)", "SELECT to_regclass('left_behind')", None),
        "an encoding": ("SET client_encoding = latin1", "SHOW client_encoding", "UTF8"),
        "a lock": (
            "SELECT pg_advisory_lock(7)",
            "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory'",
            0,
        ),
        "a temporary table": ("CREATE TEMPORARY TABLE left_behind (n INT)", "SELECT to_regclass('left_behind')", None),
        "a role": ("SET ROLE pg_monitor", "SELECT current_user = session_user", True),
        "a subscription": ("LISTEN somewhere; COMMIT", "SELECT COUNT(*) FROM pg_listening_channels()", 0),
        "a prepared statement": (
            "PREPARE left_behind AS SELECT 1",
            "SELECT COUNT(*) FROM pg_prepared_statements WHERE name = 'left_behind'",
            0,
        ),
    },
    "tidb": {
        "a setting": ("SET SESSION group_concat_max_len = 12345", "SELECT @@group_concat_max_len = 12345", 0),
        "a variable": ("SET @left_behind = 7", "SELECT @left_behind", None),
        "a variable in a query": ("SELECT @left_behind := 7", "SELECT @left_behind", None),
        "a lock": ("SELECT GET_LOCK('left_behind', 1)", "SELECT IS_USED_LOCK('left_behind')", None),
        "several at once": ("SET autocommit = 0, @left_behind = 7", "SELECT @left_behind", None),
        "a comment that is run": ("SELECT 1 /*!50000 , @left_behind := 7 */", "SELECT @left_behind", None),
        "a comment of TiDB or MariaDB": ("SET /*T! @left_behind = 7, */ @left_behind = 7", "SELECT @left_behind", None),
        "a quoted function": ("SELECT `get_lock` ('left_behind', 1)", "SELECT IS_USED_LOCK('left_behind')", None),
        "a statement of bytes": (b"SET @left_behind = 7", "SELECT @left_behind", None),
        "a database": ("USE mysql", "SELECT DATABASE()", "test"),
        "names": ("SET NAMES latin1", "SELECT @@character_set_client", "utf8mb4"),
        "autocommit": ("SET autocommit = 1", "SELECT @@autocommit", 0),
        "an isolation level": (
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            "SELECT @@tx_isolation",
            "REPEATABLE-READ",
        ),
        "a mode": ("SET sql_mode = ''", "SELECT @@sql_mode = ''", 0),
        "a temporary table": (
            "CREATE TEMPORARY TABLE left_behind (n INT)",
            "SELECT COUNT(*) FROM left_behind",
            "an error",
        ),
        "a prepared statement": ("PREPARE left_behind FROM 'SELECT 1 FROM DUAL'", "EXECUTE left_behind", "an error"),
    },
}
NAMES = sorted({name for cases in LEFT_BEHIND.values() for name in cases})


def run(connection: Any, statement: str) -> Any:
    cursor = connection.cursor()
    try:
        cursor.execute(statement)
    except pymysql.MySQLError:
        return [("an error",)]
    return list(cursor.fetchall()) if cursor.description else []


@pytest.mark.parametrize("fails", [False, True], ids=["", "in a block that fails"])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_behind(server_case: Case, name: str, fails: bool) -> None:
    statement, look, clean = LEFT_BEHIND[server_case.storage.provider].get(name, ("SELECT 1", "SELECT 1", 1))
    with server_case.container.config.override({"pool_max_size": 1}):
        with contextlib.suppress(ZeroDivisionError), server_case.storage as first:
            run(first, statement)
            assert name not in LEFT_BEHIND[server_case.storage.provider] or run(first, look) != [(clean,)]
            if fails:
                raise ZeroDivisionError
        with server_case.storage as second:
            assert second == first or "prepared" in name, "it is the same connection"
            assert run(second, look) == [(clean,)]


def test_a_clean_session_is_not_reset(server_case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reset is a round trip, and takes the prepared statements along."""
    server_case.storage.execute("DROP TABLE IF EXISTS clean")
    server_case.storage.execute("CREATE TABLE clean (name VARCHAR(40))")
    with server_case.container.config.override({"pool_max_size": 1}):
        with server_case.storage as connection:
            cursor = connection.cursor()
            cursor.execute("INSERT INTO clean VALUES (%s)", ("SET me@home; temporary := get_lock('",))
            cursor.execute("UPDATE clean SET name = %s", ("x",))
            cursor.executemany("INSERT INTO clean VALUES (%s)", [("a",), ("b",)])
            cursor.execute("SELECT * FROM clean")
            assert len(cursor.fetchall()) == 3
            assert not connection.dirty
        server_case.storage.execute("SELECT 1")
        with server_case.storage as connection:
            assert not connection.dirty


def test_always_reset(server_case: Case) -> None:
    assert server_case.server is not None
    needs(server_case.kind, "stored functions")
    hidden = {
        "postgresql": (
            "CREATE OR REPLACE FUNCTION hidden() RETURNS text LANGUAGE sql AS "
            "$$ SELECT set_config('work_mem', '12345kB', false) $$",
            "SELECT current_setting('work_mem') = '12345kB'",
        ),
        "tidb": ("CREATE OR REPLACE FUNCTION hidden() RETURNS INT BEGIN SET @left_behind = 7; RETURN 1; END",
                 "SELECT @left_behind = 7"),
    }[server_case.storage.provider]  # fmt: skip
    with server_case.container.config.override({"pool_max_size": 1, "pool_reset": "always"}):
        server_case.storage.execute(hidden[0])
        with server_case.storage as connection:
            run(connection, "SELECT hidden()")
            assert run(connection, hidden[1]) in ([(True,)], [(1,)])
        assert server_case.storage.execute(hidden[1]) in ([(False,)], [(None,)])


def test_sqlalchemys_sessions_are_reset_too(orm_server_case: Case) -> None:
    set_it, look = {
        "postgresql": ("SET statement_timeout = 12345", "SHOW statement_timeout"),
        "tidb": ("SET @left_behind = 7", "SELECT @left_behind"),
    }[orm_server_case.storage.provider]
    with orm_server_case.container.config.override({"pool_max_size": 1}):
        engine = orm_server_case.container.engine()
        with engine.connect() as connection:
            connection.exec_driver_sql(set_it)
        assert orm_server_case.storage.execute(look) in ([("0",)], [(None,)])


def test_prepared_statements_of_the_driver_outlive_a_reset(server_case: Case) -> None:
    with server_case.container.config.override({"pool_max_size": 1}):
        for number in range(20):
            with server_case.storage as connection:
                is_mysql = server_case.storage.provider == "tidb"
                run(connection, "SET @a = 1" if is_mysql else "SET lock_timeout = 5")
                cursor = connection.cursor()
                cursor.execute("SELECT %s + 1", (number,))
                assert list(cursor.fetchall()) == [(number + 1,)]


def test_what_is_left_on_the_drivers_object(server_case: Case) -> None:
    """Adapters, handlers, thresholds and factories of psycopg; converters, character sets and attributes of PyMySQL."""
    storage = server_case.storage
    heard: list[Any] = []
    with server_case.container.config.override({"pool_max_size": 1}):
        with storage as connection:
            driver = getattr(connection, "behind", connection)
            if storage.provider == "postgresql":
                driver.adapters.register_loader("numeric", psycopg.types.numeric.FloatLoader)
                psycopg.types.json.set_json_loads(lambda text: "hijacked", driver)
                driver.add_notice_handler(heard.append)
                driver.add_notify_handler(heard.append)
                driver.prepare_threshold, driver.prepared_max = None, 1
                driver.server_cursor_factory = None
            else:
                driver.decoders[246] = float
                driver.encoders[str] = lambda value, mapping: "'hijacked'"
                driver.autocommit_mode = None
                driver.cursorclass = None
            driver.tenant = "a"
        with storage as connection:
            driver = getattr(connection, "behind", connection)
            assert not hasattr(driver, "tenant")
            [(number,)] = run(connection, "SELECT CAST(1.5 AS DECIMAL(4, 2))")
            assert type(number).__name__ == "Decimal"
            if storage.provider == "postgresql":
                assert run(connection, "SELECT '{}'::jsonb") == [({},)]
                run(connection, "DO $$ BEGIN RAISE NOTICE 'of the next borrower'; END $$")
                assert heard == []
                assert (driver.prepare_threshold, driver.prepared_max) == (5, 100)
                assert driver.server_cursor_factory is not None


def test_a_character_set_is_not_left_behind(server_case: Case) -> None:
    if server_case.storage.provider == "postgresql":
        return
    look = "SELECT @@character_set_client, @@collation_connection"
    with server_case.container.config.override({"pool_max_size": 1}):
        before = server_case.storage.execute(look)
        with server_case.storage as connection:
            (getattr(connection, "set_character_set", None) or connection.set_charset)("latin1")
        assert server_case.storage.execute(look) == before
        assert server_case.storage.execute("SELECT %s", ("→ 😀",)) == [("→ 😀",)]


def test_several_statements_in_one_are_refused_on_both_handles(server_case: Case) -> None:
    """What comes after the first one would change the session unseen."""
    if server_case.storage.provider == "postgresql":
        return
    with pytest.raises(StorageError):
        server_case.storage.execute("SELECT 1; SET @left_behind = 7")
