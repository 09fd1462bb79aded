"""The tables of coordination: made where that is allowed, refused where they are not there, upgraded step by step."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from p8fs_cluster import Container
from p8fs_cluster.coordination import tables
from p8fs_cluster.exceptions import LeaseLost, StorageError, TablesMissing
from tests.coordination.conftest import TABLES, Case, drop
from tests.processes import until


@pytest.fixture(autouse=True)
def no_tables(request: pytest.FixtureRequest) -> None:
    if "sql_case" in request.fixturenames:
        drop(request.getfixturevalue("sql_case").settings)


def test_without_leave_the_tables_are_asked_for(sql_case: Case) -> None:
    lock = sql_case.without_create().lock("invoices", **sql_case.timing)
    with pytest.raises(TablesMissing, match="p8fs-cluster cluster init"):
        lock.acquire(timeout=0)
    assert sql_case.cluster.lock("invoices", **sql_case.timing).acquire(timeout=0)
    assert not lock.acquire(timeout=0), "now they are there"


@pytest.mark.parametrize(
    ("environment", "create", "may"),
    [("development", None, True), ("production", None, False), ("production", True, True), ("dev", False, False)],
)
def test_development_may_make_them(postgresql_server: Any, environment: str, create: bool | None, may: bool) -> None:
    settings = {**postgresql_server.settings, "environment": environment, "cluster_create": create}
    with Container(config=settings) as container:
        drop(settings)
        lock = container.cluster().lock("invoices")
        if may:
            assert lock.acquire(timeout=0)
        else:
            with pytest.raises(TablesMissing):
                lock.acquire(timeout=0)


def test_a_table_deleted_by_hand_is_a_lost_lease_and_comes_back(sql_case: Case) -> None:
    lock = sql_case.cluster.lock("invoices", **sql_case.timing)
    assert lock.acquire()
    token = lock.token
    for table in TABLES:
        sql_case.sql_of(f"DROP TABLE {table}")
    with pytest.raises(LeaseLost, match="table was deleted"):
        lock.extend()
    assert lock.acquire(timeout=5)
    assert lock.token > token
    lock.release()


def test_many_make_them_at_once(sql_case: Case) -> None:
    clusters = [sql_case.other() for _ in range(6)]
    faults: list[BaseException] = []

    def take(number: int) -> None:
        try:
            assert clusters[number].lock(f"lock {number}", **sql_case.timing).acquire(timeout=0)
        except BaseException as exc:
            faults.append(exc)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def _next_step(statement: str) -> tuple[tables.Step, ...]:
    return (*tables.STEPS, tables.Step(tables.STEPS[-1].version + 1, (statement,)))


def test_an_upgrade_keeps_leases_and_older_nodes_go_on(sql_case: Case) -> None:
    lock = sql_case.cluster.lock("invoices", **sql_case.timing)
    assert lock.acquire()
    store = sql_case.container.coordination().coordinator().connected("calls").store
    later = _next_step("CREATE TABLE IF NOT EXISTS p8fs_later (name $key NOT NULL PRIMARY KEY)")
    try:
        assert tables.create(store, 5, later) == [later[-1].version]
        assert tables.create(store, 5, later) == []
        lock.extend()
        assert not sql_case.other().lock("invoices", **sql_case.timing).acquire(timeout=0), "it is the same lease"
        assert sql_case.without_create().lock("reports", **sql_case.timing).acquire(timeout=0)
    finally:
        sql_case.sql_of("DROP TABLE p8fs_later")
    lock.release()


def test_an_upgrade_that_fails_in_the_middle_goes_on_from_there(sql_case: Case) -> None:
    assert sql_case.cluster.lock("invoices", **sql_case.timing).acquire()
    store = sql_case.container.coordination().coordinator().connected("calls").store
    with pytest.raises(StorageError):
        tables.create(store, 5, _next_step("CREATE TABLE p8fs_later (name nonsense)"))
    assert tables.version_of(store, 5) == tables.STEPS[-1].version
    assert tables.create(store, 5) == []


def test_a_timeline_that_may_not_be_read_is_told_once(postgresql_server: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings = {**postgresql_server.settings, "cluster_create": True}
    with Container(config=settings) as container:
        storage = container.storage()
        drop(settings)
        storage.execute("DROP ROLE IF EXISTS plain")
        storage.execute("CREATE ROLE plain LOGIN PASSWORD 'pl4in'")
        storage.execute("GRANT ALL ON SCHEMA public TO plain")
        storage.execute("REVOKE EXECUTE ON FUNCTION pg_current_wal_lsn() FROM PUBLIC")
        try:
            with Container(config={**settings, "pg_user": "plain", "pg_password": "pl4in"}) as plain:
                for _ in range(2):
                    with plain.cluster().lock("invoices") as lock:
                        assert lock.token.timeline == 0
                assert caplog.text.count("tells no timeline") == 1
        finally:
            storage.execute("GRANT EXECUTE ON FUNCTION pg_current_wal_lsn() TO PUBLIC")
            storage.execute("DROP OWNED BY plain")
            storage.execute("DROP ROLE plain")


def test_a_password_that_changes_costs_no_lease(postgresql_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is made anew with the new settings, and the lease is a row."""
    for name, value in {**postgresql_server.settings, "cluster_create": True}.items():
        monkeypatch.setenv(f"P8FS_{name.upper()}", str(value))
    with Container() as container:
        lock = container.cluster().lock("invoices", ttl=15)
        assert lock.acquire()
        lock.extend()
        fence = lock.fence
        coordinator = container.coordination().coordinator()
        direct = coordinator.connected("renewals").store._direct
        first = direct.engine()
        monkeypatch.setenv("P8FS_SERVICE_NAME", "renamed")  # which opens new connections, as a new password does
        container.config.reload()
        lock.extend()
        assert direct.engine() is not first
        until(lambda: lock.held, "it is held")
        assert lock.fence == fence
        lock.release()
