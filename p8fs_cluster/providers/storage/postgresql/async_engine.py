"""PostgreSQL for asyncio, through psycopg 3.

`engine.py` is made of this file by `scripts/threads.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import psycopg
import psycopg.rows

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import StorageTimeout, StorageUnavailable
from p8fs_cluster.providers.storage.async_server import AsyncServer
from p8fs_cluster.providers.storage.engines import Parameters
from p8fs_cluster.providers.storage.postgresql import compat
from p8fs_cluster.providers.storage.postgresql.async_connection import (
    AsyncConnection,
    AsyncCursor,
    AsyncServerCursor,
    async_connect,
)
from p8fs_cluster.providers.storage.postgresql.messages import PostgreSQLMessages
from p8fs_cluster.providers.storage.postgresql.session import described, is_of_a_cached_plan, text_of
from p8fs_cluster.providers.storage.postgresql.statements import RESET

__all__ = ["AsyncPostgreSQL"]


class AsyncPostgreSQL(AsyncServer[AsyncConnection]):
    """A pool of psycopg's connections.

    >>> AsyncPostgreSQL(P8FSConfig(pg_password="s3cret"))
    <postgresql at postgres@localhost:5438/app>
    """

    questions: ClassVar[tuple[str, ...]] = ("SELECT VERSION()",)
    error = psycopg.Error

    def __init__(self, settings: P8FSConfig) -> None:
        super().__init__(settings, PostgreSQLMessages(settings))

    async def execute(self, connection: AsyncConnection, sql: str, parameters: Parameters) -> list[Any]:
        try:
            compat.commit_each(connection, True)  # one statement is a transaction: no BEGIN, and no COMMIT
            cursor = connection.cursor(row_factory=psycopg.rows.tuple_row)
            await cursor.execute(sql, parameters)
            return await cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else []
        except StorageTimeout:
            raise
        except (psycopg.Error, TypeError, ValueError, KeyError) as exc:  # the latter: of the text and its parameters
            lost = connection.is_lost and getattr(exc, "sqlstate", None) is None
            raise self.messages.of_statement(sql, described(exc), lost) from exc
        finally:
            if connection.is_active:
                connection.end()  # a COPY was begun
            elif not connection.closed:
                if connection.unfinished:
                    await connection.rollback()  # the statement was BEGIN
                compat.commit_each(connection, False)

    async def ping(self, connection: AsyncConnection) -> None:
        try:
            await connection.execute("SELECT 1")
            await connection.commit()
        except psycopg.Error as exc:
            raise StorageUnavailable(self.messages.no_answer()) from exc

    @staticmethod
    def retry_pause(exc: BaseException) -> float | None:
        """Serialization failures, deadlocks and changed tables, of which the server says that nothing was done."""
        return 0.01 if getattr(exc, "sqlstate", None) in ("40001", "40P01") or is_of_a_cached_plan(exc) else None

    @staticmethod
    def inspected(answers: Sequence[Sequence[tuple[Any, ...]]]) -> str:
        [[(version,)]] = answers
        return " ".join(version.split()[:2])

    async def _connect(self, seconds: float) -> AsyncConnection:
        return await async_connect(self._settings, self.messages, seconds)

    async def _commit(self, connection: AsyncConnection) -> None:
        try:
            await connection.commit()
        except psycopg.Error as fault:
            self.messages.raise_for_commit(fault, text_of(fault), lost=connection.closed)

    async def _renew(self, connection: AsyncConnection) -> None:
        connection.restore_driver(AsyncCursor, AsyncServerCursor)
        if connection.autocommit:
            await connection.set_autocommit(False)
        if connection.beyond_reset:
            connection.end()
        elif connection.needs_reset(self._settings):
            await connection.set_isolation_level(None)
            await connection.set_read_only(None)
            await connection.set_deferrable(None)
            await connection.set_autocommit(True)
            await connection.execute(RESET)
            await connection.set_autocommit(False)
            connection.dirty = connection.beyond_reset = False
