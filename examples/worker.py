"""Workers that do the jobs of a table, each in a transaction of its own. They outlive a restart of the database.

P8FS_PG_PORT=5432 python -m examples.worker --workers 3
P8FS_PG_PORT=5432 python -m examples.worker --workers 3 --asyncio

A job is a row; `INSERT INTO worker_jobs (id) VALUES (1)` adds one. Ctrl-C or SIGTERM ends them, the jobs at hand done.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Iterator
from typing import Any

from p8fs_cluster import Container, Provide, Scoped, Storage, inject
from p8fs_cluster.frameworks.worker import run
from p8fs_cluster.providers.storage.async_handle import AsyncStorage

TABLE = "CREATE TABLE IF NOT EXISTS worker_jobs (id integer PRIMARY KEY, times integer NOT NULL DEFAULT 0)"
TAKE = "SELECT id FROM worker_jobs WHERE times = 0 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"
DONE = "UPDATE worker_jobs SET times = times + 1 WHERE id = %s"


def open_connection(storage: Storage) -> Iterator[Any]:
    """Lend a connection, whose transaction is committed when the job ends, and rolled back after an error."""
    with storage.connection() as connection:
        yield connection


async def open_async_connection(storage: AsyncStorage) -> AsyncIterator[Any]:
    """Do the same on an event loop."""
    async with storage.connection() as connection:
        yield connection


class Application(Container):
    """The storage, and a connection for each job."""

    connection = Scoped(open_connection, Container.storage).within("job")
    async_connection = Scoped(open_async_connection, Container.async_storage).within("job")


@inject
def work(connection: Any = Provide[Application.connection]) -> None:
    """Do the next job, if there is one. Other workers pass over it meanwhile; if we fail, one of them does it."""
    with connection.cursor() as cursor:
        cursor.execute(TAKE)
        for (job,) in cursor.fetchall():
            cursor.execute(DONE, (job,))  # in place of what a job is about


@inject
async def work_async(connection: Any = Provide[Application.async_connection]) -> None:
    """Do the same on an event loop."""
    async with connection.cursor() as cursor:
        await cursor.execute(TAKE)
        for (job,) in await cursor.fetchall():
            await cursor.execute(DONE, (job,))


def main() -> None:
    """Make the table, and work until a signal comes."""
    parser = argparse.ArgumentParser(description="Do the jobs of a table.")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--asyncio", action="store_true", help="one event loop in place of threads")
    arguments = parser.parse_args()
    container = Application()
    with container:
        container.storage().execute(TABLE)
    print("waits for jobs", flush=True)
    run(work_async if arguments.asyncio else work, container, workers=arguments.workers, every=0.05)


if __name__ == "__main__":
    main()
