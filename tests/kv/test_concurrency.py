"""Many threads at once: no update is lost, one gets a code that serves once, nothing deadlocks."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from p8fs_cluster import Container
from tests.kv.conftest import Case, opened
from tests.servers import MYSQL, Server, pgbouncer

THREADS = 6


@pytest.fixture
def kv(thread_case: Case) -> Any:
    kv = thread_case.container.kv().namespace("race")
    kv.get("first")  # the table is made once
    return kv


def at_once(work: Callable[[int], Any]) -> list[Any]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, range(THREADS)))


def test_no_increment_is_lost(kv: Any) -> None:
    versions = at_once(lambda _: [kv.increment("n").version for _ in range(20)])
    assert kv.get("n") == b"%d" % (20 * THREADS)
    assert len({version for each in versions for version in each}) == 20 * THREADS


def test_of_those_who_want_an_absent_key_one_gets_it(kv: Any) -> None:
    for number in range(10):
        won = at_once(lambda thread, key=f"k{number}": kv.put_if_absent(key, b"%d" % thread))
        [winner] = [thread for thread, version in enumerate(won) if version]
        assert kv.get(f"k{number}") == b"%d" % winner
        key = f"c{number}"
        done = at_once(lambda thread, key=key: kv.atomic().check(key, None).put(key, b"%d" % thread).commit())
        assert sum(versions is not None for versions in done) == 1


def test_a_code_serves_once(kv: Any) -> None:
    for number in range(10):
        kv.put(f"code {number}", b"ada", ttl=60)
        assert sorted(at_once(lambda _, key=f"code {number}": kv.take(key) or b"")) == [b""] * (THREADS - 1) + [b"ada"]
        kv.json.put("shown", "bob")
        assert sorted(at_once(lambda _: kv.json.take("shown") or "")) == [""] * (THREADS - 1) + ["bob"]


def test_compare_and_set_loses_nothing(kv: Any) -> None:
    kv.put("n", b"0")

    def add(_: int) -> None:
        for _ in range(8):
            while True:
                entry = kv.entry("n")
                if kv.compare_and_set("n", entry.version, b"%d" % (int(entry.value) + 1)):
                    break

    at_once(add)
    assert kv.get("n") == b"%d" % (8 * THREADS)


def test_transfers_keep_the_sum(kv: Any) -> None:
    names = [f"account {number}" for number in range(4)]
    kv.put_many(dict.fromkeys(names, b"100"))

    def transfer(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(8):
            source, target = chance.sample(names, 2)

            def work(tx: Any, source: str = source, target: str = target) -> None:
                before = int(tx.get(source)), int(tx.get(target))
                tx.put(source, b"%d" % (before[0] - 1))
                tx.put(target, b"%d" % (before[1] + 1))

            kv.run_in_transaction(work, retry=200)

    at_once(transfer)
    assert sum(int(value) for value in kv.get_many(names).values()) == 400


def test_many_keys_in_any_order_deadlock_nobody_and_show_whole(kv: Any) -> None:
    names = [f"many {number}" for number in range(20)]
    kv.put_many(dict.fromkeys(names, b"first"))

    def write(thread: int) -> set[frozenset[bytes]]:
        chance = random.Random(thread)
        seen = set()
        for number in range(10):
            kv.put_many(dict.fromkeys(chance.sample(names, 20), b"%d %d" % (thread, number)), ttl=60)
            seen.add(frozenset(kv.get_many(names).values()))
        return seen

    assert all(len(values) == 1 for seen in at_once(write) for values in seen), "half of a put_many was seen"
    at_once(lambda thread: kv.delete_many(random.Random(thread).sample(names, 20)))
    assert kv.count() == 0


def test_a_swept_key_that_is_written_again_stays(kv: Any, thread_case: Case) -> None:
    for number in range(20):
        kv.put(f"{number}", b"old", ttl=100)
        thread_case.end("race", f"{number}")
    written = at_once(
        lambda thread: [kv.put(f"{n}", b"new") for n in range(20)] if thread else [kv.sweep(5) for _ in range(8)]
    )
    assert written and kv.sweep() == 0
    assert [value for _, value in kv.scan()] == [b"new"] * 20


@pytest.fixture
def serializable(postgresql_server: Server) -> Iterator[Any]:
    """A database whose transactions are serializable, so that one statement may be in conflict."""
    settings = {**postgresql_server.settings, "kv_create": True}
    with Container(config=settings) as container:
        database = container.config().pg_database
        container.storage().execute(f"ALTER DATABASE {database} SET {_ISOLATION} = 'serializable'")
    try:
        with Container(config=settings) as container:
            assert container.storage().execute("SHOW transaction_isolation") == [("serializable",)]
            kv = container.kv().namespace("race")
            kv.clear()
            yield kv
    finally:
        with Container(config=settings) as container:
            container.storage().execute(f"ALTER DATABASE {database} RESET {_ISOLATION}")


_ISOLATION = "default_transaction_isolation"


def test_no_increment_is_lost_where_transactions_are_serializable(serializable: Any) -> None:
    at_once(lambda _: [serializable.increment("n") for _ in range(8)])
    assert serializable.get("n") == b"%d" % (8 * THREADS)
    at_once(lambda _: [_add(serializable, "m") for _ in range(3)])
    assert serializable.get("m") == b"%d" % (3 * THREADS)


@pytest.mark.parametrize("sql_case", MYSQL, indirect=True)
def test_no_update_is_lost_in_optimistic_mode(sql_case: Case) -> None:
    with opened(sql_case.kind, False, {**sql_case.settings, "tidb_txn_mode": "optimistic"}) as case:
        kv = case.kv
        at_once(lambda _: [kv.increment("n") for _ in range(8)])
        assert kv.get("n") == b"%d" % (8 * THREADS)
        at_once(lambda _: [_add(kv, "m") for _ in range(3)])
        assert kv.get("m") == b"%d" % (3 * THREADS)


def _add(kv: Any, key: str) -> None:
    kv.run_in_transaction(lambda tx: tx.put(key, b"%d" % (int(tx.get(key) or 0) + 1)), retry=200)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_behind_a_pgbouncer_in_transaction_mode(postgresql_server: Server, asynchronous: bool) -> None:
    with pgbouncer(postgresql_server) as bouncer:
        settings = {**bouncer.settings, "pg_pgbouncer": True, "kv_create": True}
        with opened("postgresql", asynchronous, settings) as case:
            kv = case.kv.namespace("race")
            kv.clear()
            at_once(lambda _: [kv.increment("n") for _ in range(8)])
            assert kv.get("n") == b"%d" % (8 * THREADS)
            at_once(lambda _: [_add(kv, "m") for _ in range(3)])
            assert kv.get("m") == b"%d" % (3 * THREADS)
            kv.put_many({"a": b"\xff" * 1000, "b": b""}, ttl=60)
            assert kv.take("a") == b"\xff" * 1000 and list(kv.scan(keys_only=True)) == [b"b", b"m", b"n"]
