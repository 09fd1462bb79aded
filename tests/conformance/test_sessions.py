"""What a borrower does to a session never reaches the next one; clean sessions are not reset."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.cases import Case

LEFT_BEHIND = {
    "postgresql": {
        "a setting": (["SET statement_timeout = 12345"], "SHOW statement_timeout", [("0",)]),
        "a setting by a function": (
            ["SELECT set_config('work_mem', '12345kB', false)"],
            "SELECT current_setting('work_mem') = '12345kB'",
            [(False,)],
        ),
        "a lock": (["SELECT pg_advisory_lock(7)"], "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory'", [(0,)]),
        "a temporary table": (["CREATE TEMPORARY TABLE left_behind (n INT)"], "SELECT to_regclass('left_behind')", [(None,)]),
        "a second statement": (["SELECT 1; SET work_mem = '12345kB'"], "SELECT current_setting('work_mem') = '12345kB'", [(False,)]),
        "a role": (["SET ROLE pg_monitor"], "SELECT current_user = session_user", [(True,)]),
        "a subscription": (["LISTEN somewhere", "COMMIT"], "SELECT COUNT(*) FROM pg_listening_channels()", [(0,)]),
        "a comment before": (["/* now */ SET statement_timeout = 12345"], "SHOW statement_timeout", [("0",)]),
    },
    "tidb": {
        "a setting": (["SET SESSION group_concat_max_len = 12345"], "SELECT @@session.group_concat_max_len = 12345", [(0,)]),
        "a variable": (["SET @left_behind = 7"], "SELECT @left_behind", [(None,)]),
        "a variable in a query": (["SELECT @left_behind := 7"], "SELECT @left_behind", [(None,)]),
        "a lock": (["SELECT GET_LOCK('left_behind', 1)"], "SELECT IS_USED_LOCK('left_behind')", [(None,)]),
        "a database": (["USE mysql"], "SELECT DATABASE()", [("test",)]),
        "names": (["SET NAMES latin1"], "SELECT @@character_set_client", [("utf8mb4",)]),
        "autocommit": (["SET autocommit = 1"], "SELECT @@autocommit", [(0,)]),
    },
}  # fmt: skip
CASES = [(provider, name) for provider, cases in LEFT_BEHIND.items() for name in cases]


def run(connection: Any, statement: str) -> Any:
    cursor = connection.cursor()
    cursor.execute(statement)
    return list(cursor.fetchall()) if cursor.description else []


@pytest.mark.parametrize("fails", [False, True], ids=["", "in a block that fails"])
@pytest.mark.parametrize("name", sorted({name for _, name in CASES}))
def test_nothing_is_left_behind(sql_case: Case, name: str, fails: bool) -> None:
    cases = LEFT_BEHIND[sql_case.storage.provider]
    statements, look, clean = cases.get(name, ([], "SELECT 1", [(1,)]))
    with sql_case.container.config.override({"pool_max_size": 1}):
        try:
            with sql_case.storage as first:
                for statement in statements:
                    run(first, statement)
                assert not statements or run(first, look) != clean, "the case changes what is looked at"
                if fails:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        with sql_case.storage as second:
            assert second is first, "it is the same connection"
            assert run(second, look) == clean


def test_a_clean_session_is_not_reset(sql_case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reset is a round trip, and takes the prepared statements along."""
    sql_case.storage.execute("DROP TABLE IF EXISTS clean")
    sql_case.storage.execute("CREATE TABLE clean (name VARCHAR(40))")
    with sql_case.container.config.override({"pool_max_size": 1}):
        with sql_case.storage as connection:
            cursor = connection.cursor()
            cursor.execute("INSERT INTO clean VALUES (%s)", ("SET me@home; temporary := get_lock('",))
            cursor.execute("UPDATE clean SET name = %s", ("x",))
            cursor.executemany("INSERT INTO clean VALUES (%s)", [("a",), ("b",)])
            cursor.execute("SELECT * FROM clean")
            assert len(cursor.fetchall()) == 3
            assert not connection.soiled
        sql_case.storage.execute("SELECT 1")
        with sql_case.storage as connection:
            assert not connection.soiled


def test_always_reset(sql_case: Case) -> None:
    hidden = {
        "postgresql": (
            "CREATE OR REPLACE FUNCTION hidden() RETURNS text LANGUAGE sql AS "
            "$$ SELECT set_config('work_mem', '12345kB', false) $$",
            "SELECT current_setting('work_mem') = '12345kB'",
        ),
        "tidb": ("CREATE OR REPLACE FUNCTION hidden() RETURNS INT BEGIN SET @left_behind = 7; RETURN 1; END",
                 "SELECT @left_behind = 7"),
    }[sql_case.storage.provider]  # fmt: skip
    with sql_case.container.config.override({"pool_max_size": 1, "pool_reset": "always"}):
        sql_case.storage.execute(hidden[0])
        with sql_case.storage as connection:
            run(connection, "SELECT hidden()")
            assert run(connection, hidden[1]) in ([(True,)], [(1,)])
        assert sql_case.storage.execute(hidden[1]) in ([(False,)], [(None,)])


def test_sqlalchemys_sessions_are_reset_too(sql_case: Case) -> None:
    set_it, look = {
        "postgresql": ("SET statement_timeout = 12345", "SHOW statement_timeout"),
        "tidb": ("SET @left_behind = 7", "SELECT @left_behind"),
    }[sql_case.storage.provider]
    with sql_case.container.config.override({"pool_max_size": 1}):
        engine = sql_case.container.engine()
        with engine.connect() as connection:
            connection.exec_driver_sql(set_it)
        assert sql_case.storage.execute(look) in ([("0",)], [(None,)])
