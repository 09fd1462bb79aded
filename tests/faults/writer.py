"""Writes numbers and says each when it is written, until it is killed: python -m tests.faults.writer RUN handle|bare"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable

import psycopg
import pymysql
from rocksdict import Options, Rdict

from p8fs_cluster import Storage, container
from p8fs_cluster.config.settings import P8FSConfig

TABLE = "acknowledged"
INSERT = f"INSERT INTO {TABLE} VALUES (%s)"


def through(storage: Storage) -> Callable[[int], object]:
    """Return what writes a number through the handle."""

    def put(number: int) -> None:
        with storage as database:
            database[str(number).encode()] = b"x"

    return put if storage.provider == "rocksdb" else lambda number: storage.execute(INSERT, (number,))


def bare(settings: P8FSConfig) -> Callable[[int], object]:
    """Return what writes a number with the driver alone."""
    if settings.storage_provider == "rocksdb":
        database = Rdict(str(settings.rocksdb_path), Options(raw_mode=True))
        return lambda number: database.put(str(number).encode(), b"x")
    if settings.storage_provider == "postgresql":
        postgresql = psycopg.connect(settings.pg_connection_string, autocommit=True)
        return lambda number: postgresql.execute(INSERT, (number,))
    mysql = pymysql.connect(
        host=settings.tidb_host,
        port=settings.tidb_port,
        user=settings.tidb_user,
        password=settings.tidb_password.get_secret_value(),
        database=settings.tidb_database,
        autocommit=True,
    )
    return lambda number: mysql.cursor().execute(INSERT, (number,))


def main(run: int, side: str) -> None:
    """Say a number a line; they are this run's own."""
    if container.config().storage_provider != "rocksdb":
        container.storage().execute(f"CREATE TABLE IF NOT EXISTS {TABLE} (n BIGINT PRIMARY KEY)")
    write = through(container.storage()) if side == "handle" else bare(container.config())
    for number in itertools.count(run * 1_000_000):
        write(number)
        print(number, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
