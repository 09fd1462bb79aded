"""Writes of a transaction that fail if the lease is gone, on the SQL stores, on threads and asyncio."""

from __future__ import annotations

from typing import Any

import pytest

from p8fs_cluster.exceptions import CoordinationError, LeaseLost
from tests.coordination.conftest import Case, only
from tests.processes import until
from tests.servers import SQL


@pytest.fixture
def guarded(sql_case: Case) -> Case:
    sql_case.sql_of("DROP TABLE IF EXISTS guarded")
    sql_case.sql_of("CREATE TABLE guarded (number INT)")
    return sql_case


def _write(connection: Any, number: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO guarded VALUES (%s)", (number,))


def _written(case: Case) -> list[Any]:
    return case.sql_of("SELECT number FROM guarded")


def test_a_guarded_write_is_committed_while_the_lease_is_held(guarded: Case) -> None:
    with guarded.cluster.lock("invoices", **guarded.timing) as lock, guarded.storage().connection() as connection:
        lock.guard(connection)
        _write(connection, 1)
    assert _written(guarded) == [(1,)]


def test_a_leader_guards_as_well(guarded: Case) -> None:
    leader = guarded.cluster.leader("scheduler", **guarded.timing)
    assert leader.wait(60)
    with guarded.storage().connection() as connection:
        leader.guard(connection)
        _write(connection, 1)
    assert _written(guarded) == [(1,)]


@pytest.mark.parametrize(
    "gone",
    [
        "UPDATE p8fs_leases SET holder = 'somebody', fence = fence + 1",
        "UPDATE p8fs_leases SET fence = fence + 1",
        "UPDATE p8fs_leases SET holder = NULL",
        "DELETE FROM p8fs_leases",
    ],
)
def test_a_write_under_a_lease_that_is_gone_fails_and_is_undone(guarded: Case, gone: str) -> None:
    lock = guarded.cluster.lock("invoices", **guarded.timing)
    assert lock.acquire()
    guarded.container.coordination().coordinator().renewals.close(5)
    guarded.sql_of(gone)
    if lock.held:  # on a slow machine it may have found out by itself
        with pytest.raises(LeaseLost), guarded.storage().connection() as connection:
            _write(connection, 1)
            lock.guard(connection)
    assert _written(guarded) == []
    assert not lock.held, "what a guard has found is believed"


def test_nobody_gets_the_lease_before_the_guarded_transaction_ends(guarded: Case) -> None:
    """The lease ends meanwhile: what its holder has written before is still the last of its term."""
    lock, other = (cluster.lock("invoices", **guarded.timing) for cluster in (guarded.cluster, guarded.other()))
    assert lock.acquire()
    guarded.container.coordination().coordinator().renewals.close(5)
    guarded.sql_of("UPDATE p8fs_leases SET expires_at = 0")
    with guarded.storage().connection() as connection:
        lock.guard(connection)
        assert not other.acquire(timeout=0)
        _write(connection, 1)
    assert other.acquire(timeout=60)
    assert _written(guarded) == [(1,)]


@only("sql_case", "postgresql", "async postgresql")  # elsewhere the row is locked for renewals too
def test_renewals_go_on_while_a_transaction_is_guarded(guarded: Case) -> None:
    with guarded.cluster.lock("invoices", **guarded.timing) as lock:
        with guarded.storage().connection() as connection:
            lock.guard(connection)
            before = guarded.sql_of("SELECT expires_at FROM p8fs_leases")
            until(lambda: guarded.sql_of("SELECT expires_at FROM p8fs_leases") > before, "it was renewed")
        lock.extend()


def test_a_guard_wants_a_transaction(guarded: Case) -> None:
    with guarded.cluster.lock("invoices", **guarded.timing) as lock:
        with guarded.storage().connection() as connection:
            if guarded.kind == "postgresql":
                connection.autocommit = True
            else:
                connection.autocommit(True)
            with pytest.raises(CoordinationError, match="needs a transaction"):
                lock.guard(connection)
        with pytest.raises(CoordinationError, match="no borrowed connection"):
            lock.guard("postgresql://localhost")


@only("sql_case", *SQL)  # there is no asynchronous SQLAlchemy yet
def test_sqlalchemy_sessions_can_be_guarded(guarded: Case) -> None:
    from sqlalchemy import text

    with guarded.cluster.lock("invoices", **guarded.timing) as lock:
        with guarded.container.session() as session:
            lock.guard(session)
            session.execute(text("INSERT INTO guarded VALUES (3)"))
            session.commit()
        with guarded.container.engine().begin() as connection:
            lock.guard(connection)
    assert _written(guarded) == [(3,)]


@only("case", "memory", "rocksdb", "async memory", "async rocksdb")
def test_what_cannot_be_guarded_says_so(case: Case) -> None:
    with (
        case.cluster.lock("invoices", **case.timing) as lock,
        case.container.storage().connection() as connection,
        pytest.raises(CoordinationError, match=r"no transactions|no borrowed connection"),
    ):
        lock.guard(connection)
