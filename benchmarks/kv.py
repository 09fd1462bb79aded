"""The key-value store against bare drivers and peers, in one run, on real stores.

    python -m benchmarks.kv [--rounds N]

Each round times all contenders in turn. Printed are the medians in microseconds for one use, and the medians of the
rounds' ratios. The bare statements are the best that one writes by hand: one round trip, on a pool whose connections
commit each statement, with the comparison of the expiry in it.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import itertools
import shelve
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from timeit import Timer
from typing import Any

import psycopg_pool
from rocksdict import Options, Rdict, WriteBatch

from benchmarks.bare import pymysql_pool
from benchmarks.rounds import aim, measure, ratio
from p8fs_cluster import Container
from p8fs_cluster.kv import PyKeyValue
from tests import servers

Use = Callable[[], Any]
Uses = dict[str, Use]

KEYS = 1000
VALUE = b"v" * 100
SECONDS = 0.1
AWAITED = 100
"""Calls on asyncio that are timed at once."""
BATCH = {f"many:{number:06}".encode(): VALUE for number in range(1000)}


def each_key() -> Callable[[], bytes]:
    """Return what gives the keys in turn."""
    return itertools.cycle([f"key:{number:06}".encode() for number in range(KEYS)]).__next__


def ours(container: Container, sessions: ExitStack) -> Uses:
    """Return the uses of our store, filled."""
    kv, key = container.kv().namespace("bench"), each_key()
    kv.put_many({key(): VALUE for _ in range(KEYS)})
    held = sessions.enter_context(kv.session())
    return {
        "get": lambda: kv.get(key()),
        "get in a session": lambda: held.get(key()),
        "put": lambda: kv.put(key(), VALUE),
        "put_many": lambda: kv.put_many(BATCH),
        "scan": lambda: list(kv.scan("key:")),
    }


@contextmanager
def rocksdb() -> Iterator[tuple[Uses, Uses]]:
    """Give our uses, and those of rocksdict alone."""
    with tempfile.TemporaryDirectory() as folder:
        options, key = Options(raw_mode=True), each_key()
        options.create_if_missing(True)
        settings = {"storage_provider": "rocksdb", "rocksdb_path": f"{folder}/ours"}
        with Container(config=settings) as container, closing(Rdict(f"{folder}/bare", options)) as bare:
            for _ in range(KEYS):
                bare[key()] = VALUE

            def batch() -> None:
                writes = WriteBatch(raw_mode=True)
                for name, value in BATCH.items():
                    writes.put(name, value)
                bare.write(writes)

            def scan() -> list[Any]:
                pairs = bare.items(from_key=b"key:")
                return list(itertools.takewhile(lambda pair: pair[0].startswith(b"key:"), pairs))

            with ExitStack() as sessions:
                yield (
                    ours(container, sessions),
                    {
                        "get": lambda: bare.get(key()),
                        "get in a session": lambda: bare.get(key()),
                        "scan": scan,  # before the puts, whose old versions it has to skip, on one side more
                        "put": lambda: bare.put(key(), VALUE),
                        "put_many": batch,
                    },
                )


@contextmanager
def postgresql() -> Iterator[tuple[Uses, Uses]]:
    """Give our uses, and those of psycopg on psycopg_pool."""
    with (
        servers.postgresql() as server,
        Container(config={**server.settings, "kv_create": True}) as container,
        ExitStack() as sessions,
    ):
        mine = ours(container, sessions)
        dsn = container.config().pg_connection_string
        now = "(extract(epoch from clock_timestamp()) * 1000000)::bigint"
        with psycopg_pool.ConnectionPool(dsn, kwargs={"autocommit": True}, min_size=1, open=True) as pool:

            def run(sql: str, *parameters: Any) -> Any:
                with pool.connection() as connection:
                    cursor = connection.execute(sql, parameters)
                    return cursor.fetchall() if cursor.description else None

            yield mine, by_hand(run, now, "ON CONFLICT (k) DO UPDATE SET v = excluded.v, version = excluded.version, "
                                "expires_at = excluded.expires_at")  # fmt: skip


@contextmanager
def mysql(kind: str) -> Iterator[tuple[Uses, Uses]]:
    """Give our uses, and those of PyMySQL on SQLAlchemy's pool."""
    with (
        getattr(servers, kind)() as server,
        Container(config={**server.settings, "kv_create": True}) as container,
        ExitStack() as sessions,
    ):
        mine = ours(container, sessions)
        pool = pymysql_pool(container.config(), autocommit=True, reset_on_return=None)

        def run(sql: str, *parameters: Any) -> Any:
            with closing(pool.connect()) as connection, connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                return cursor.fetchall()

        yield mine, by_hand(run, "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))",
                            "ON DUPLICATE KEY UPDATE v = VALUES(v), version = VALUES(version), "
                            "expires_at = VALUES(expires_at)")  # fmt: skip


def by_hand(run: Callable[..., Any], now: str, upsert: str) -> Uses:
    """Return the uses of statements written by hand, in the table of our store."""
    key = each_key()
    get = f"SELECT v FROM p8fs_kv WHERE k = %s AND (expires_at IS NULL OR expires_at > {now})"
    put = f"INSERT INTO p8fs_kv (k, v, version, expires_at) VALUES (%s, %s, 1, NULL) {upsert}"
    return {
        "get": lambda: run(get, b"bench\0" + key()),
        "put": lambda: run(put, b"bench\0" + key(), VALUE),
    }


@contextmanager
def peers() -> Iterator[dict[str, Uses]]:
    """Give the uses of other stores on this machine, each as its documentation has it."""
    import diskcache
    import sqlitedict

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cache = stack.enter_context(closing(diskcache.Cache(folder / "cache")))
        table = stack.enter_context(closing(sqlitedict.SqliteDict(folder / "sqlitedict", autocommit=True)))
        shelf = stack.enter_context(shelve.open(f"{folder}/shelf"))  # noqa: S301
        yield {
            "diskcache": _mapped(cache),
            "sqlitedict": _mapped(table),
            "shelve": _mapped(shelf),
        }


def _mapped(mapping: Any) -> Uses:
    names = itertools.cycle([f"key:{number:06}" for number in range(KEYS)]).__next__
    for _ in range(KEYS):
        mapping[names()] = VALUE
    return {"get": lambda: mapping[names()], "put": lambda: mapping.__setitem__(names(), VALUE)}


@contextmanager
def by_protocol() -> Iterator[tuple[Uses, Uses]]:
    """Give the uses of our store on RocksDB, and those of py-key-value-aio's on a disk, both by its protocol."""
    from key_value.aio.stores.disk import DiskStore

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = {"storage_provider": "rocksdb", "rocksdb_path": folder / "ours"}
        container = stack.enter_context(Container(config=settings))
        loop = stack.enter_context(closing(asyncio.new_event_loop()))
        theirs = DiskStore(directory=folder / "theirs")
        stack.callback(lambda: loop.run_until_complete(theirs.close()))
        yield _awaited(loop, PyKeyValue(container.async_kv().namespace("bench"))), _awaited(loop, theirs)


def _awaited(loop: asyncio.AbstractEventLoop, store: Any) -> Uses:
    key, value = itertools.cycle([f"key:{number:06}" for number in range(KEYS)]).__next__, {"v": "v" * 100}

    async def several(use: Callable[[], Any]) -> None:
        for _ in range(AWAITED):
            await use()

    uses = {"put": lambda: store.put(key(), value), "get": lambda: store.get(key())}
    loop.run_until_complete(several(uses["put"]))
    return {name: lambda use=use: loop.run_until_complete(several(use)) for name, use in uses.items()}  # type: ignore[misc]


def compared(name: str, one: Use, other: Use, rounds: int) -> float:
    """Print both, and return the ratio of their throughputs."""
    figures = measure({"ours": Timer(one).timeit, "other": Timer(other).timeit}, rounds, SECONDS)
    throughput = ratio(figures, "other", "ours")
    mine, theirs = (statistics.median(figures[each]) * 1e6 for each in ("ours", "other"))
    print(f"{name:28}{mine:12.2f} µs{theirs:12.2f} µs{throughput:8.2f}")
    return throughput


AIMS = {
    "rocksdb get": 0.4, "rocksdb get in a session": 0.6, "rocksdb put": 0.6, "rocksdb put_many": 0.8,
    "rocksdb scan": 0.8,
    "postgresql get": 0.9, "postgresql put": 0.9, "mariadb get": 0.9, "mariadb put": 0.9, "tidb get": 0.9,
    "tidb put": 0.9,
}  # fmt: skip
"""The least throughput, of that of the bare driver."""


def main() -> None:
    """Measure each store there is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kv")
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    print(f"{'':28}{'ours':>15}{'other':>15}{'ratio':>8}")
    found: dict[str, float] = {}
    for kind in ("rocksdb", *servers.SQL):
        opened = {"rocksdb": rocksdb, "postgresql": postgresql}.get(kind) or functools.partial(mysql, kind)
        with opened() as (mine, bare):
            for name, use in bare.items():
                found[f"{kind} {name}"] = compared(f"{kind} {name}", mine[name], use, rounds)
            if kind != "rocksdb":
                began = time.perf_counter()
                for _ in range(1000):
                    mine["put"]()
                singly = time.perf_counter() - began
                several = min(Timer(mine["put_many"]).repeat(5, 1))
                found[f"{kind} 1,000 puts"] = singly / several
                print(f"{kind + ' 1,000 puts, put_many':28}{singly * 1e3:12.1f} ms{several * 1e3:12.1f} ms"
                      f"{singly / several:8.1f}")  # fmt: skip
    with rocksdb() as (mine, _), peers() as others:
        for peer, uses in others.items():
            for name, use in uses.items():
                found[f"{peer} {name}"] = compared(f"{name}, beside {peer}", mine[name], use, rounds)
    with by_protocol() as (mine, theirs):
        for name, use in theirs.items():
            what = f"{AWAITED} {name}s, beside py-key-value-aio"
            found[what] = compared(what, mine[name], use, rounds)
    print()
    for name, figure in found.items():
        least = AIMS.get(name, 10 if "1,000 puts" in name else 1)
        aim(f"{name}, at least {least:g}: its inverse", 1 / figure, 1 / least)


if __name__ == "__main__":
    main()
