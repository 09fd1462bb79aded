"""Writes numbers, and says each when it is written, until it is killed: python -m tests.faults.writer RUN"""

from __future__ import annotations

import itertools
import sys

from p8fs_cluster import container

TABLE = "acknowledged"


def main(run: int) -> None:
    """Say a number a line; they are this run's own."""
    storage = container.storage()
    if storage.provider != "rocksdb":
        storage.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} (n BIGINT PRIMARY KEY)")
    for number in itertools.count(run * 1_000_000):
        if storage.provider == "rocksdb":
            with storage as database:
                database[str(number).encode()] = b"x"
        else:
            storage.execute(f"INSERT INTO {TABLE} VALUES (%s)", (number,))
        print(number, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
