"""`with container.storage()` against the bare pool of each engine, in one run, on real servers.

    python -m benchmarks.storage [--rounds N]

Each round times both, in turn, so that what else the machine does falls on both. Printed are the medians of the rounds
in microseconds per use, and the median of the rounds' ratios. A use is: borrow, one smallest query, commit, give back.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from timeit import Timer
from typing import Any

import psycopg_pool
import pymysql
from rocksdict import Options, Rdict
from sqlalchemy.pool import QueuePool

from benchmarks.rounds import measure, ratio
from p8fs_cluster import Container
from tests import servers

Use = Callable[[], Any]


def handle_sql(container: Container) -> Use:
    """Return one use of the handle, as a service writes it."""
    storage = container.storage()

    def use() -> Any:
        with storage as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            return cursor.fetchall()

    return use


def handle_borrow(container: Container) -> Use:
    """Return a borrow without a query."""
    storage = container.storage()

    def use() -> None:
        with storage:
            pass

    return use


@contextmanager
def postgresql() -> Iterator[list[tuple[str, Use, Use]]]:
    """Give the uses on PostgreSQL; the bare pool is psycopg_pool's with its defaults."""
    with servers.postgresql() as server, Container(config=server.settings) as container:
        settings = container.config()
        with psycopg_pool.ConnectionPool(settings.pg_connection_string, min_size=1, max_size=10, open=True) as pool:

            def query() -> Any:
                with pool.connection() as connection, connection.cursor() as cursor:
                    cursor.execute("SELECT 1")
                    return cursor.fetchall()

            def borrow() -> None:
                with pool.connection():
                    pass

            yield [
                ("postgresql  SELECT 1", handle_sql(container), query),
                ("postgresql  borrow", handle_borrow(container), borrow),
            ]


@contextmanager
def tidb() -> Iterator[list[tuple[str, Use, Use]]]:
    """Give the uses on TiDB's protocol; the bare pool is SQLAlchemy's QueuePool with its defaults over PyMySQL."""
    with servers.tidb() as server, Container(config=server.settings) as container:
        settings = container.config()
        pool = QueuePool(
            lambda: pymysql.connect(
                host=settings.tidb_host,
                port=settings.tidb_port,
                user=settings.tidb_user,
                password=settings.tidb_password.get_secret_value(),
                database=settings.tidb_database,
            ),
            pool_size=10,
        )

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
def rocksdb() -> Iterator[list[tuple[str, Use, Use]]]:
    """Give the uses on RocksDB; bare is the open Rdict itself."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"storage_provider": "rocksdb", "rocksdb_path": Path(folder) / "ours"}
        with Container(config=settings) as container:
            storage = container.storage()
            bare = Rdict(str(Path(folder) / "bare"), Options(raw_mode=True))
            bare[b"key"] = b"value"
            with storage as database:
                database[b"key"] = b"value"

            def get() -> Any:
                with storage as database:
                    return database.get(b"key")

            def put() -> None:
                with storage as database:
                    database[b"key"] = b"value"

            def bare_put() -> None:
                bare[b"key"] = b"value"

            yield [("rocksdb     get", get, lambda: bare.get(b"key")), ("rocksdb     put", put, bare_put)]
            bare.close()


def compare(name: str, ours: Use, bare: Use, rounds: int) -> None:
    """Print one line."""
    figures = measure({"handle": Timer(ours).timeit, "bare": Timer(bare).timeit}, rounds, seconds=0.1)
    ours_us, bare_us = (statistics.median(seconds) * 1e6 for seconds in figures.values())
    more = ours_us - bare_us
    print(f"{name:24}{ours_us:10.2f} µs{bare_us:10.2f} µs{ratio(figures, 'handle', 'bare'):8.3f}{more:+10.2f} µs")


def main() -> None:
    """Measure every engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=41)
    rounds = parser.parse_args().rounds
    print(f"{'':24}{'handle':>13}{'bare':>13}{'ratio':>8}{'more':>13}")
    for engine in (postgresql, tidb, rocksdb):
        with engine() as uses:
            for name, ours, bare in uses:
                compare(name, ours, bare, rounds)


if __name__ == "__main__":
    main()
