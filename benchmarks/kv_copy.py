"""`kv copy` from RocksDB into servers, beside what one writes by hand for the same pairs, in one run.

    python -m benchmarks.kv_copy [--pairs N] [--rounds N] [--only postgresql|mariadb|tidb] [--kills N]

By hand it is psycopg's COPY, row by row in its binary format, and INSERTs of 1,000 rows by PyMySQL's `executemany`, in
one transaction each, into the table of our store; both read the same RocksDB. `--kills` ends the copy by kill -9 at so
many random moments, resumes it, and verifies it at the end.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pymysql
from rocksdict import AccessType, Options, Rdict

from benchmarks.rounds import aim
from p8fs_cluster import Container
from tests import servers

VALUE = b"v" * 100
LEAST = 0.6
"""The throughput of what is written by hand that ours has at least."""


def fill(path: str, pairs: int) -> None:
    """Write pairs to a RocksDB, of which every fourth expires."""
    with Container(config={"storage_provider": "rocksdb", "rocksdb_path": path}) as container:
        kv = container.kv().namespace("bench")
        for begin in range(0, pairs, 1000):
            keys = {f"{number:012}": VALUE for number in range(begin, min(begin + 1000, pairs))}
            kv.put_many(keys, ttl=1_000_000 if begin % 4000 == 0 else None)


def rows(path: str) -> Iterator[tuple[bytes, bytes, int, int | None]]:
    """Yield the rows of the table, read from the RocksDB by hand."""
    options = Options(raw_mode=True)
    with tempfile.TemporaryDirectory() as notes, closing(Rdict(path, options, access_type=_beside(notes))) as database:
        family = database.get_column_family("p8fs_kv")
        for key, stored in family.items(from_key=b"\0"):
            if key[:1] != b"\0":
                break
            end, version = int.from_bytes(stored[1:9], "big"), int.from_bytes(stored[9:17], "big")
            yield key[1:], stored[17:], version, end or None
        del family


def _beside(notes: str) -> AccessType:
    return AccessType.secondary(notes)


def by_copy(path: str, container: Container) -> None:
    """Write all rows by one COPY."""
    dsn = container.config().pg_connection_string
    sql = "COPY p8fs_kv (k, v, version, expires_at) FROM STDIN (FORMAT BINARY)"
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor, cursor.copy(sql) as copy:
        copy.set_types(["bytea", "bytea", "int8", "int8"])
        for row in rows(path):
            copy.write_row(row)


def by_inserts(path: str, container: Container) -> None:
    """Write all rows by INSERTs of 1,000."""
    settings = container.config()
    connection = pymysql.connect(
        host=settings.tidb_host, port=settings.tidb_port, user=settings.tidb_user, database=settings.tidb_database,
        password=settings.tidb_password.get_secret_value(),
    )  # fmt: skip
    with connection, connection.cursor() as cursor:
        batch = []
        for row in rows(path):
            batch.append(row)
            if len(batch) == 1000:
                cursor.executemany("INSERT INTO p8fs_kv (k, v, version, expires_at) VALUES (%s, %s, %s, %s)", batch)
                batch = []
        if batch:
            cursor.executemany("INSERT INTO p8fs_kv (k, v, version, expires_at) VALUES (%s, %s, %s, %s)", batch)
        connection.commit()


def command(path: str, provider: str, *more: str) -> list[str]:
    """Return the command that copies."""
    return [sys.executable, "-m", "p8fs_cluster", "kv", "copy", "--from", f"rocksdb:{path}", "--to", provider, *more]


def copied(path: str, container: Container) -> None:
    """Write all pairs as the command does, in this process, without its imports."""
    from p8fs_cluster.kv.copy_marker import begun
    from p8fs_cluster.kv.copy_sides import Side
    from p8fs_cluster.kv.copying import copied

    source = Container(config={"storage_provider": "rocksdb", "rocksdb_path": path, "rocksdb_mode": "secondary"})
    with source:
        ours, theirs = Side.of(source.config, source.storage), Side.of(container.config, container.storage)
        copied(ours, theirs, begun(ours, theirs, resume=False), lambda _: None)


def timed(work: Callable[[], None]) -> float:
    """Return the seconds that something takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def emptied(container: Container, kind: str) -> None:
    """Let the table be empty, as at the beginning."""
    container.storage().execute("TRUNCATE TABLE p8fs_kv")
    if kind == "postgresql":
        with psycopg.connect(container.config().pg_connection_string, autocommit=True) as connection:
            connection.execute("VACUUM p8fs_kv")
            connection.execute("CHECKPOINT")


def compared(kind: str, path: str, pairs: int, rounds: int) -> float:
    """Print the times of both, and return the ratio of their throughputs."""
    by_hand = by_copy if kind == "postgresql" else by_inserts
    with getattr(servers, kind)() as server, Container(config={**server.settings, "kv_create": True}) as container:
        container.kv().exists("a")
        times: dict[str, list[float]] = {"ours": [], "by hand": []}
        for turn in range(rounds):
            contenders = [("ours", copied), ("by hand", by_hand)]
            for name, work in contenders[:: 1 if turn % 2 else -1]:
                emptied(container, kind)
                times[name].append(timed(lambda work=work: work(path, container)))  # type: ignore[misc]
                assert container.kv().namespace("bench").count() == pairs
    ratio = statistics.median(b / a for a, b in zip(times["ours"], times["by hand"], strict=True))
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        print(f"{kind:12}{name:10}{middle:8.2f} s{pairs / middle:12,.0f} pairs/s")
    return ratio


def killed(kind: str, path: str, pairs: int, kills: int) -> None:
    """Kill a copy at random moments, and let the last one verify it.

    :raises AssertionError: something was lost, or is there twice.
    """
    with getattr(servers, kind)() as server, Container(config={**server.settings, "kv_create": True}) as container:
        environment = {**os.environ, **{f"P8FS_{name.upper()}": str(value) for name, value in server.settings.items()}}
        environment["P8FS_KV_CREATE"] = "true"
        provider = str(server.settings["storage_provider"])
        container.kv().exists("a")
        keys, done = container.kv().namespace("bench"), list[int]()
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        for least in sorted(random.sample(range(pairs), kills)):
            process = subprocess.Popen(command(path, provider, "--resume"), env=environment, **quiet)
            while process.poll() is None and keys.count() < least:
                time.sleep(0.05)
            time.sleep(random.uniform(0, 0.3))  # noqa: S311
            process.send_signal(signal.SIGKILL)
            process.wait()
            done.append(keys.count())
        ending = command(path, provider, "--resume", "--verify")
        last = subprocess.run(ending, env=environment, capture_output=True, text=True)
        assert last.returncode == 0, last.stdout + last.stderr
        assert container.kv().namespace("bench").count() == pairs
        print(f"{kind}: killed with {', '.join(f'{count:,}' for count in done)} keys there; then:\n{last.stdout}")


def main() -> None:
    """Measure each server there is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kv_copy")
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=servers.SQL)
    parser.add_argument("--kills", type=int, default=0)
    given = parser.parse_args()
    kinds = [kind for kind in servers.SQL if given.only in (None, kind)]
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/source"
        fill(path, given.pairs)
        if given.kills:
            for kind in kinds:
                killed(kind, path, given.pairs, given.kills)
            return
        found = {kind: compared(kind, path, given.pairs, given.rounds) for kind in kinds}
    print()
    for kind, ratio in found.items():
        print(f"{kind}: {ratio:.2f} of what is written by hand")
        aim(f"copy into {kind}, at least {LEAST:g}: its inverse", 1 / ratio, 1 / LEAST)


if __name__ == "__main__":
    main()
