"""Rows that somebody else has locked for a moment: what waits for them is done when they are free, and not given up."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from p8fs_cluster.coordination.ledger import run_guarded
from p8fs_cluster.exceptions import CoordinationError
from p8fs_cluster.providers.storage.leases import Busy
from tests.coordination.conftest import Case
from tests.coordination.twins import as_coroutine
from tests.processes import until


@contextlib.contextmanager
def locked(case: Case, table: str, purpose: str = "calls") -> Iterator[Callable[[Callable[[], Any]], list[Any]]]:
    """Lock all rows of a table; what is given runs meanwhile, until it has met the lock, and ends after it."""
    store = case.container.coordination().coordinator().connected(purpose).store
    met, results = threading.Event(), []
    plain = {name: getattr(store, name) for name in ("execute", "update", "transact")}

    def watched(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return plain[name](*args, **kwargs)
            except Busy:
                met.set()
                raise

        return call

    for name in plain:
        setattr(store, name, watched(name))
    threads: list[threading.Thread] = []

    def run(work: Callable[[], Any]) -> list[Any]:
        def kept() -> None:
            try:
                results.append(work())
            except BaseException as exc:
                results.append(exc)

        threads.append(threading.Thread(target=kept))
        threads[0].start()
        assert met.wait(60), "it has met the lock"
        assert not results, "it waits"
        return results

    with case.container.storage().connection() as connection:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {table} FOR UPDATE")
            cursor.fetchall()
        yield run
    threads[0].join()


def test_a_view_of_the_nodes_waits_for_who_looks_at_the_same_time(sql_case: Case) -> None:
    me = sql_case.cluster.join(ttl=sql_case.timing["ttl"])
    sql_case.cluster.nodes()
    with locked(sql_case, "p8fs_node_views") as run:
        results = run(sql_case.cluster.nodes)
    [view] = results
    assert [node.id for node in view] == [me]
    assert not view.stale


def test_a_release_waits_for_who_has_the_row(sql_case: Case) -> None:
    lock = sql_case.cluster.lock("invoices", ttl=60)
    assert lock.acquire()
    with locked(sql_case, "p8fs_leases") as run:
        results = run(lock.release)
    assert results == [None]
    assert sql_case.other().lock("invoices", ttl=60).acquire(timeout=0)


def test_what_was_done_once_is_recorded_though_its_row_is_locked(sql_case: Case) -> None:
    from p8fs_cluster.coordination.holding import Holding
    from p8fs_cluster.coordination.terms import Timing

    holding = Holding(sql_case.container.coordination().coordinator(), "once:migrate", Timing.of(60))
    assert holding.attempt(5) is None
    sql = "INSERT INTO p8fs_once (name, done_at, fence, owner) VALUES ('once:migrate', 0, 1, '')"
    with locked(sql_case, "p8fs_leases") as run:
        results = run(lambda: run_guarded(holding, [(sql, ())]))
    assert results == [None]
    assert _done(sql_case) is False, "it is done"
    holding.release(5)


def _done(case: Case) -> bool:
    done: bool = case.cluster.once("migrate", as_coroutine(lambda: None) if case.loop else lambda: None)
    return done


def test_an_extension_waits_for_who_has_the_row(sql_case: Case) -> None:
    lock = sql_case.cluster.lock("invoices", ttl=60)
    assert lock.acquire()
    with locked(sql_case, "p8fs_leases", "renewals") as run:
        results = run(lock.extend)
    assert results == [None]
    lock.release()


def test_a_tick_is_tried_again_while_the_store_cannot_be_asked(moved_case: Case) -> None:
    from p8fs_cluster.exceptions import StorageUnavailable

    calls: list[int] = []
    coordinator = moved_case.container.coordination().coordinator()
    moved_case.cluster.join()
    store = coordinator.connected("calls").store
    plain, failed = store.transact, threading.Event()

    def failing(*args: Any) -> Any:
        if failed.is_set():
            return plain(*args)
        failed.set()
        raise StorageUnavailable("down for a moment")

    fn = as_coroutine(lambda: calls.append(1)) if moved_case.loop else lambda: calls.append(1)
    assert moved_case.clock is not None
    with moved_case.cluster.schedule("nightly", "0 * * * *", fn) as schedule:
        until(lambda: coordinator.deadlines._due, "it is planned")
        store.transact = failing

        def pass_time() -> bool:
            assert moved_case.clock is not None
            if not calls:
                moved_case.clock.move(1 if failed.is_set() else 25)
            return bool(calls)

        until(pass_time, "it is run")
        assert failed.is_set()
        assert len(schedule.runs()) == 1


def test_an_isolated_override_that_threads_do_not_see_is_refused(sql_case: Case) -> None:
    prefix = "pg" if sql_case.kind == "postgresql" else "tidb"
    config = sql_case.container.config
    cluster = sql_case.container.cluster()
    with config.override({f"{prefix}_database": "elsewhere"}, isolated=True):
        lock = cluster.lock("invoices", **sql_case.timing)
        with pytest.raises(CoordinationError, match="isolated=True"):
            lock.acquire(timeout=0)
    with config.override({"api_port": 9000}, isolated=True):
        assert lock.acquire(timeout=0), "it concerns the store in nothing"
        lock.release()
