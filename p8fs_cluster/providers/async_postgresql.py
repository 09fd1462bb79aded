"""PostgreSQL for asyncio, through psycopg's asynchronous connections."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Self

import psycopg
import psycopg.rows
from psycopg import waiting

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import StorageError, StorageTimeout, StorageUnavailable
from p8fs_cluster.providers.async_pool import AsyncServer
from p8fs_cluster.providers.engine import Parameters
from p8fs_cluster.providers.postgresql import PostgreSQL
from p8fs_cluster.providers.postgresql_session import RESET, Session, text_of
from p8fs_cluster.providers.slow import tell_slow
from p8fs_cluster.providers.sockets import quiet_check

__all__ = ["AsyncPostgreSQL"]


class _Cursor(psycopg.AsyncCursor[Any]):
    """The cursor of every borrower who names no other: it says which statements leave the session alone."""

    __slots__ = ()

    async def execute(self, query: Any, *args: Any, **kwargs: Any) -> Self:
        connection: _Connection = self._conn  # type: ignore[assignment]
        connection.vouch(query)
        started = time.monotonic() if connection.slow else 0.0
        try:
            return await super().execute(query, *args, **kwargs)
        finally:
            connection.vouched = False
            if connection.slow:
                tell_slow("postgresql", query, time.monotonic() - started, connection.slow)

    async def executemany(self, query: Any, *args: Any, **kwargs: Any) -> None:
        connection: _Connection = self._conn  # type: ignore[assignment]
        connection.vouch(query)
        try:
            await super().executemany(query, *args, **kwargs)
        finally:
            connection.vouched = False


class _Connection(Session, psycopg.AsyncConnection[Any]):
    """A pooled connection. All its waits end; one whose task was cancelled in the middle of an answer is ended."""

    born: float

    async def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        seconds = self.seconds_for(gen) if timeout is None else timeout
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, interval=interval, timeout=seconds)
        except psycopg.errors._WaitTimeout as exc:
            if timeout is not None:
                raise
            raise self.too_late() from exc
        except (asyncio.CancelledError, KeyboardInterrupt):
            if self.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                self.pgconn.finish()  # psycopg would cancel the query, and wait up to 10 s for a server that hangs
            raise

    @property
    def is_lost(self) -> bool:
        return self.broken

    @property
    def unfinished(self) -> bool:
        return bool(self.pgconn.transaction_status)

    def is_fit(self) -> bool:
        return not self.closed and not self.peek()

    def end(self) -> None:
        self._closed = True  # so that its finalizer does not warn
        self.pgconn.finish()


class AsyncPostgreSQL(AsyncServer[_Connection]):
    """The pool of one event loop. Parameters, faults and the reset of sessions are those of `PostgreSQL`."""

    error = psycopg.Error

    def __init__(self, settings: P8FSConfig) -> None:
        self._twin = PostgreSQL(settings)
        super().__init__(settings, self._twin)

    async def execute(self, connection: _Connection, sql: str, parameters: Parameters) -> list[Any]:
        try:
            await connection.set_autocommit(True)
            cursor = await connection.cursor(row_factory=psycopg.rows.tuple_row).execute(sql, parameters)
            return await cursor.fetchall() if cursor.description else []
        except StorageTimeout:
            raise
        except (psycopg.Error, TypeError, ValueError, KeyError) as exc:  # the latter: of the text and its parameters
            raise StorageError(f"postgresql: the statement failed: {text_of(exc)}") from exc
        finally:
            if connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                connection.end()  # a COPY was begun

    async def ping(self, connection: _Connection) -> None:
        try:
            await connection.execute("SELECT 1")
            await connection.commit()
        except psycopg.Error as exc:
            raise StorageUnavailable(self._twin.faults.no_answer()) from exc

    async def _connect(self) -> _Connection:
        connection = await _Connection.connect(**self._twin.parameters(), cursor_factory=_Cursor)
        connection.faults, connection.limit = self._twin.faults, self._settings.query_timeout
        connection.slow, connection.peek = self._settings.slow_query, quiet_check(connection.fileno())
        return connection

    async def _commit(self, connection: _Connection) -> None:
        try:
            await connection.commit()
        except psycopg.Error as fault:
            self._twin.faults.raise_for_commit(fault, text_of(fault), lost=connection.closed)

    async def _renew(self, connection: _Connection) -> None:
        """Undo what the borrower did to the session; what can't be undone is thrown away."""
        connection.row_factory = psycopg.rows.tuple_row
        connection.cursor_factory = _Cursor
        if connection.autocommit:
            await connection.set_autocommit(False)
        if connection.spoilt:
            connection.end()
        elif connection.needs_reset(self._settings):
            await self._reset(connection)

    async def _reset(self, connection: _Connection) -> None:
        try:
            for undo in (connection.set_isolation_level, connection.set_read_only, connection.set_deferrable):
                await undo(None)
            await connection.set_autocommit(True)
            await connection.execute(RESET)
            await connection.set_autocommit(False)
            connection.soiled = connection.spoilt = False
        except psycopg.Error:
            connection.end()
