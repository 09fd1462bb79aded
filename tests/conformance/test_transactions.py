"""Whole transactions: run again after conflicts, never after anything else."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pymysql
import pytest

from p8fs_cluster.exceptions import CommitUnknown, StorageError
from tests.conformance.cases import Case

CONFLICTS = {
    "postgresql": [psycopg.errors.SerializationFailure("40001"), psycopg.errors.DeadlockDetected("40P01")],
    "tidb": [pymysql.OperationalError(code, "try again") for code in (1213, 8002, 8022, 8028, 9007, 9001, 9005)],
}
OTHERS = {
    "postgresql": [psycopg.errors.UniqueViolation("23505"), psycopg.OperationalError("lost")],
    "tidb": [pymysql.OperationalError(code, "no") for code in (1062, 2006, 2013)],
}


def failing(errors: list[Exception], case: Case) -> Any:
    """Return work that writes, fails with each error in turn, and then succeeds; and what counts its attempts."""
    left, attempts = list(errors), []

    def work(connection: Any) -> str:
        attempts.append(connection)
        case.access.put(connection, f"attempt {len(attempts)}", "x")
        if left:
            raise left.pop(0)
        return "done"

    return work, attempts


def test_conflicts_run_it_all_again(server_case: Case) -> None:
    for error in CONFLICTS[server_case.storage.provider]:
        work, attempts = failing([error, error], server_case)
        assert server_case.storage.run_in_transaction(work) == "done"
        assert len(attempts) == 3
        assert [server_case.get(f"attempt {number}") for number in (1, 2, 3)] == [None, None, "x"]
        server_case.storage.execute("DELETE FROM conformance")


def test_an_error_raised_from_a_conflict_counts(server_case: Case) -> None:
    error = RuntimeError("of the caller")
    error.__cause__ = CONFLICTS[server_case.storage.provider][0]
    work, attempts = failing([error], server_case)
    assert server_case.storage.run_in_transaction(work) == "done"
    assert len(attempts) == 2


def test_nothing_else_is_tried_again(server_case: Case) -> None:
    for error in (*OTHERS[server_case.storage.provider], ValueError("x"), CommitUnknown("x")):
        work, attempts = failing([error], server_case)
        with pytest.raises(type(error)):
            server_case.storage.run_in_transaction(work)
        assert len(attempts) == 1
        assert server_case.get("attempt 1") is None


def test_the_last_conflict_is_raised(server_case: Case) -> None:
    error = CONFLICTS[server_case.storage.provider][0]
    work, attempts = failing([error] * 9, server_case)
    with pytest.raises(type(error)):
        server_case.storage.run_in_transaction(work, retry=2)
    assert len(attempts) == 3


def test_real_conflicts_lose_nothing(server_case: Case) -> None:
    """Threads that add up a number: on PostgreSQL serializable, on MySQL by rows locked in turn."""
    storage = server_case.storage
    storage.execute("DROP TABLE IF EXISTS counters")
    storage.execute("CREATE TABLE counters (name VARCHAR(10) PRIMARY KEY, n INT NOT NULL)")
    storage.execute("INSERT INTO counters VALUES ('a', 0), ('b', 0)")

    def add(names: tuple[str, str]) -> None:
        def work(connection: Any) -> None:
            if storage.provider == "postgresql":
                connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
            cursor = connection.cursor()
            for name in names:
                cursor.execute("SELECT n FROM counters WHERE name = %s FOR UPDATE", (name,))
                number = cursor.fetchall()[0][0]
                cursor.execute("UPDATE counters SET n = %s WHERE name = %s", (number + 1, name))

        for _ in range(20):
            storage.run_in_transaction(work, retry=50)

    threads = [threading.Thread(target=add, args=(names,)) for names in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert storage.execute("SELECT n FROM counters ORDER BY name") == [(40,), (40,)]


def test_what_has_no_transactions_says_so(case: Case) -> None:
    if case.transactional:
        assert case.storage.run_in_transaction(lambda connection: case.access.get(connection, "none")) is None
        return
    with pytest.raises(StorageError, match="no transactions"):
        case.storage.run_in_transaction(lambda connection: case.access.put(connection, "key", "x"))
    assert case.get("key") is None
