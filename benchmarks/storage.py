"""`with container.storage().connection()` against the bare pool of each engine, in one run, on real servers.

    python -m benchmarks.storage [--rounds N] [--rtt MILLISECONDS]

Each round times both, in turn, so that what else the machine does falls on both. Printed are the medians of the rounds
in microseconds per use, and the median of the rounds' ratios. A use is: borrow, one smallest query, commit, give back.
Where one thread calls, client and server share one processor: whether the system happens to wake the server on the same
one or on another makes a difference of two, more than what is measured. The 8 threads have all processors.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from timeit import Timer
from typing import Any

import aiomysql  # type: ignore[import-untyped]
import psycopg_pool
from rocksdict import Options, Rdict

from benchmarks.bare import pymysql_pool
from benchmarks.delay import delayed
from benchmarks.rounds import aim, measure, ratio
from p8fs_cluster import Container
from tests import servers

Use = Callable[[], Any]
THREADS = 8
SECONDS = 0.4
NEAR = {
    "postgresql  SELECT 1": 0.9,
    "postgresql  SELECT %s": 1.0,
    "postgresql  borrow": 1.5,
    "postgresql  8 threads": 1 / 0.95,
    "postgresql  async 1": 1.0,
    "postgresql  async %s": 1.0,
    "tidb        SELECT 1": 1.05,
    "tidb        borrow": 1.5,
    "tidb        8 threads": 1 / 0.95,
    "tidb        async 1": 1.1,
}
"""What the handle may need of the bare pool's time where the server is on this machine."""

FAR = dict.fromkeys(
    ("postgresql  SELECT 1", "postgresql  SELECT %s", "postgresql  async 1", "postgresql  async %s"), 0.72
)
"""The same where a round trip takes a millisecond: BEGIN goes with the first statement."""


def handle_sql(container: Container, text: str = "SELECT 1", parameters: Any = None) -> Use:
    """Return one use of the handle, as a service writes it."""
    storage = container.storage()

    def use() -> Any:
        with storage.connection() as connection, connection.cursor() as cursor:
            cursor.execute(text, parameters)
            return cursor.fetchall()

    return use


def handle_borrow(container: Container) -> Use:
    """Return a borrow without a query."""
    storage = container.storage()

    def use() -> None:
        with storage.connection():
            pass

    return use


@contextmanager
def postgresql(rtt: float = 0) -> Iterator[list[tuple[str, Use, Use]]]:
    """Give the uses on PostgreSQL; the bare pool is psycopg_pool's with its defaults."""
    with (
        servers.postgresql() as server,
        delayed(server.settings["pg_port"], rtt) as port,
        Container(config={**server.settings, "pg_port": port}) as container,
    ):
        settings = container.config()
        with psycopg_pool.ConnectionPool(settings.pg_connection_string, min_size=1, max_size=10, open=True) as pool:

            def bare(text: str, parameters: Any = None) -> Use:
                def use() -> Any:
                    with pool.connection() as connection, connection.cursor() as cursor:
                        cursor.execute(text, parameters)
                        return cursor.fetchall()

                return use

            def borrow() -> None:
                with pool.connection():
                    pass

            yield [
                ("postgresql  SELECT 1", handle_sql(container), bare("SELECT 1")),
                ("postgresql  SELECT %s", handle_sql(container, "SELECT %s", (1,)), bare("SELECT %s", (1,))),
                ("postgresql  borrow", handle_borrow(container), borrow),
            ]


@contextmanager
def tidb(rtt: float = 0) -> Iterator[list[tuple[str, Use, Use]]]:
    """Give the uses on TiDB's protocol; the bare pool is SQLAlchemy's QueuePool with its defaults over PyMySQL."""
    with (
        servers.mariadb() as server,
        delayed(server.settings["tidb_port"], rtt) as port,
        Container(config={**server.settings, "tidb_port": port}) as container,
    ):
        settings = container.config()
        pool = pymysql_pool(settings, pool_size=10)

        def query() -> Any:
            with closing(pool.connect()) as connection, connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                return cursor.fetchall()  # giving it back has rolled back: as many round trips as our commit

        def borrow() -> None:
            pool.connect().close()

        yield [
            ("tidb        SELECT 1", handle_sql(container), query),
            ("tidb        borrow", handle_borrow(container), borrow),
        ]
        pool.dispose()


@contextmanager
def rocksdb(rtt: float = 0) -> Iterator[list[tuple[str, Use, Use]]]:
    """Give the uses on RocksDB; bare is the open Rdict itself."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"storage_provider": "rocksdb", "rocksdb_path": Path(folder) / "ours"}
        with Container(config=settings) as container:
            storage = container.storage()
            bare = Rdict(str(Path(folder) / "bare"), Options(raw_mode=True))
            bare[b"key"] = b"value"
            with storage.connection() as database:
                database[b"key"] = b"value"

            def get() -> Any:
                with storage.connection() as database:
                    return database.get(b"key")

            def put() -> None:
                with storage.connection() as database:
                    database[b"key"] = b"value"

            def bare_put() -> None:
                bare[b"key"] = b"value"

            def bare_get() -> Any:
                return bare.get(b"key")

            yield [("rocksdb     get", get, bare_get), ("rocksdb     put", put, bare_put)]
            bare.close()


def in_threads(use: Use) -> float:
    """Return how many uses a second 8 threads make."""
    over, made = threading.Event(), [0] * THREADS

    def caller(number: int) -> None:
        while not over.is_set():
            use()
            made[number] += 1

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    started = time.monotonic()
    time.sleep(SECONDS)
    taken = time.monotonic() - started
    over.set()
    for thread in threads:
        thread.join()
    return sum(made) / taken


def compare_threads(name: str, ours: Use, bare: Use, rounds: int) -> float:
    """Print the throughput of 8 threads; return the median ratio, more is better."""
    figures = [(in_threads(ours), in_threads(bare)) for _ in range(max(rounds // 4, 3))]
    handle, pool = (statistics.median(column) for column in zip(*figures, strict=True))
    median = statistics.median(mine / theirs for mine, theirs in figures)
    print(f"{name:24}{handle:9.0f} /s {pool:9.0f} /s {median:8.3f}")
    return median


async def asynchronous(rounds: int, rtt: float) -> dict[str, float]:
    """Print the queries for asyncio, through the handle and through the driver's own pool; return the ratios."""
    ratios = {}
    with servers.postgresql() as server, delayed(server.settings["pg_port"], rtt) as port:
        async with Container(config={**server.settings, "pg_port": port}) as container:
            dsn = container.config().pg_connection_string
            async with psycopg_pool.AsyncConnectionPool(dsn, min_size=1, max_size=10, open=False) as pool:

                def bare_postgresql(text: str, parameters: Any) -> Callable[[], Any]:
                    async def use() -> Any:
                        async with pool.connection() as connection, connection.cursor() as cursor:
                            await cursor.execute(text, parameters)
                            return await cursor.fetchall()

                    return use

                for text, parameters in (("SELECT 1", None), ("SELECT %s", (1,))):
                    name = f"postgresql  async {text[7:]}"
                    bare = bare_postgresql(text, parameters)
                    ratios[name] = await compare_async(name, awaited(container, text, parameters), bare, rounds)
    with servers.mariadb() as server, delayed(server.settings["tidb_port"], rtt) as port:
        async with Container(config={**server.settings, "tidb_port": port}) as container:
            settings = container.config()
            pool = await aiomysql.create_pool(
                host=settings.tidb_host,
                port=settings.tidb_port,
                user=settings.tidb_user,
                password=settings.tidb_password.get_secret_value(),
                db=settings.tidb_database,
            )

            async def bare_tidb() -> Any:
                async with pool.acquire() as connection, connection.cursor() as cursor:
                    await cursor.execute("SELECT 1")
                    rows = await cursor.fetchall()
                    await connection.commit()
                    return rows

            name = "tidb        async 1"
            ratios[name] = await compare_async(name, awaited(container, "SELECT 1"), bare_tidb, rounds)
            pool.close()
            await pool.wait_closed()
    return ratios


def awaited(container: Container, text: str, parameters: Any = None) -> Callable[[], Any]:
    """Return one use of the handle for asyncio."""
    storage = container.async_storage()

    async def use() -> Any:
        async with storage.connection() as connection, connection.cursor() as cursor:
            await cursor.execute(text, parameters)
            return await cursor.fetchall()

    return use


async def compare_async(name: str, ours: Callable[[], Any], bare: Callable[[], Any], rounds: int) -> float:
    """Print one line; return the ratio."""
    figures: list[tuple[float, float]] = []
    for number in range(rounds + 1):  # the first warms up
        seconds = {}
        for use in (ours, bare) if number % 2 else (bare, ours):
            started = time.monotonic()
            for _ in range(200):
                await use()
            seconds[use] = (time.monotonic() - started) / 200 * 1e6
        figures.append((seconds[ours], seconds[bare]))
    handle, pool = (statistics.median(column) for column in zip(*figures[1:], strict=True))
    median = statistics.median(mine / theirs for mine, theirs in figures[1:])
    print(f"{name:24}{handle:10.2f} µs{pool:10.2f} µs{median:8.3f}{handle - pool:+10.2f} µs")
    return median


@contextmanager
def one_processor() -> Iterator[None]:
    """Keep this thread, and servers that it starts, on one processor."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def compare(name: str, ours: Use, bare: Use, rounds: int) -> tuple[float, float]:
    """Print one line; return the ratio, and the microseconds that the handle needs more."""
    figures = measure({"handle": Timer(ours).timeit, "bare": Timer(bare).timeit}, rounds, seconds=0.1)
    ours_us, bare_us = (statistics.median(seconds) * 1e6 for seconds in figures.values())
    more, median = ours_us - bare_us, ratio(figures, "handle", "bare")
    print(f"{name:24}{ours_us:10.2f} µs{bare_us:10.2f} µs{median:8.3f}{more:+10.2f} µs")
    return median, more


def main() -> None:
    """Measure every engine, and say which aims are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--rtt", type=float, default=0, help="milliseconds that a round trip takes more, by a proxy")
    given = parser.parse_args()
    print(f"{'':24}{'handle':>13}{'bare':>13}{'ratio':>8}{'more':>13}")
    figures: dict[str, tuple[float, float]] = {}
    for engine in (postgresql, tidb) if given.rtt else (postgresql, tidb, rocksdb):
        with one_processor(), engine(given.rtt) as uses:
            for name, ours, bare in uses:
                figures[name] = compare(name, ours, bare, given.rounds)
    for engine in () if given.rtt else (postgresql, tidb):
        with engine() as uses:
            name, ours, bare = uses[0]
            threads = name.replace("SELECT 1", "8 threads")
            figures[threads] = 1 / compare_threads(threads, ours, bare, given.rounds), 0
    with one_processor():
        ratios = asyncio.run(asynchronous(given.rounds, given.rtt))
    print()
    for name, (median, more) in figures.items():
        if name.startswith("rocksdb"):
            aim(f"{name}, µs more", more, 1)
        elif limit := (FAR if given.rtt else NEAR).get(name):
            aim(f"{name}, ratio", median, limit)
    for name, median in ratios.items():
        if limit := (FAR if given.rtt else NEAR).get(name):
            aim(f"{name}, ratio", median, limit)


if __name__ == "__main__":
    main()
