"""PostgreSQL for asyncio, through psycopg's asynchronous connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import psycopg
import psycopg.rows
from psycopg import waiting

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import StorageError, StorageTimeout, StorageUnavailable
from p8fs_cluster.providers.storage.engines import Parameters
from p8fs_cluster.providers.storage.observability import tell_slow
from p8fs_cluster.providers.storage.postgresql.engine import PostgreSQL
from p8fs_cluster.providers.storage.postgresql.session import RESET, Session, is_of_a_cached_plan, text_of, told
from p8fs_cluster.providers.storage.server import AsyncServer
from p8fs_cluster.providers.storage.sockets import pending_data_check

__all__ = ["AsyncPostgreSQL"]


class _Cursor(psycopg.AsyncCursor[Any]):
    """The cursor of every borrower who names no other: it says which statements leave the session alone."""

    __slots__ = ()

    async def execute(self, query: Any, *args: Any, **kwargs: Any) -> Self:
        connection: _Connection = self._conn  # type: ignore[assignment]
        connection.vouch(query)
        had_failed = connection.has_failed
        started = time.monotonic() if connection.slow else 0.0
        is_first = not connection.pgconn.transaction_status
        try:
            await super().execute(query, *args, **kwargs)
        except psycopg.errors.FeatureNotSupported as exc:
            if not (is_first and is_of_a_cached_plan(exc)):
                raise
            await connection.rollback()  # nothing was done before, nor by the statement
            await super().execute(query, *args, **{**kwargs, "prepare": False})
        finally:
            connection.vouched_for()
            if connection.slow:
                tell_slow("postgresql", query, time.monotonic() - started, connection.slow)
        if had_failed and connection.was_undone(query):
            raise connection.undone()
        return self

    async def executemany(self, query: Any, *args: Any, **kwargs: Any) -> None:
        connection: _Connection = self._conn  # type: ignore[assignment]
        connection.vouch(query)
        try:
            await super().executemany(query, *args, **kwargs)
        finally:
            connection.vouched_for()


class _Connection(Session, psycopg.AsyncConnection[Any]):
    """A pooled connection. All its waits end; one whose task was cancelled in the middle of an answer is ended."""

    async def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        seconds = self.seconds_for(gen) if timeout is None else timeout
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, interval=interval, timeout=seconds)
        except psycopg.errors._WaitTimeout as exc:
            if timeout is not None:
                raise
            raise self.too_late() from exc
        except psycopg.Error as exc:
            self.note(exc)
            raise
        except (asyncio.CancelledError, KeyboardInterrupt):
            if self.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                self.pgconn.finish()  # psycopg would cancel the query, and wait up to 10 s for a server that hangs
            raise

    async def commit(self) -> None:
        """Commit, as the synchronous connection does."""
        if refusal := self.refusal():
            raise refusal
        await super().commit()

    @asynccontextmanager
    async def transaction(self, *args: Any, **kwargs: Any) -> AsyncIterator[psycopg.AsyncTransaction]:
        """Give a block that is a transaction, as the synchronous connection does."""
        async with super().transaction(*args, **kwargs) as transaction:
            yield transaction
            if self.has_failed and not transaction.force_rollback:
                raise self.undone()


class AsyncPostgreSQL(AsyncServer[_Connection]):
    """The pool of one event loop. Parameters, faults and the reset of sessions are those of `PostgreSQL`."""

    error = psycopg.Error

    def __init__(self, settings: P8FSConfig) -> None:
        self._twin = PostgreSQL(settings)
        super().__init__(settings, self._twin)

    async def execute(self, connection: _Connection, sql: str, parameters: Parameters) -> list[Any]:
        try:
            await connection.set_autocommit(True)
            cursor = connection.cursor(row_factory=psycopg.rows.tuple_row)
            await cursor.execute(sql, parameters)
            return await cursor.fetchall() if cursor.description else []
        except StorageTimeout:
            raise
        except (psycopg.Error, TypeError, ValueError, KeyError) as exc:  # the latter: of the text and its parameters
            raise StorageError(f"postgresql: the statement failed: {told(exc)}") from exc
        finally:
            if connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                connection.end()  # a COPY was begun

    async def ping(self, connection: _Connection) -> None:
        try:
            await connection.execute("SELECT 1")
            await connection.commit()
        except psycopg.Error as exc:
            raise StorageUnavailable(self._twin.messages.no_answer()) from exc

    async def _connect(self) -> _Connection:
        parameters = await asyncio.to_thread(self._twin.parameters)  # it looks names up
        connection = await _Connection.connect(**parameters, cursor_factory=_Cursor)
        connection.messages = self._twin.messages
        connection.begin_life(self._settings, pending_data_check(connection.fileno()))
        return connection

    async def _commit(self, connection: _Connection) -> None:
        try:
            await connection.commit()
        except psycopg.Error as fault:
            self._twin.messages.raise_for_commit(fault, text_of(fault), lost=connection.closed)

    async def _renew(self, connection: _Connection) -> None:
        connection.restore_driver(_Cursor, psycopg.AsyncServerCursor)
        if connection.autocommit:
            await connection.set_autocommit(False)
        if connection.beyond_reset:
            connection.end()
        elif connection.needs_reset(self._settings):
            for undo in (connection.set_isolation_level, connection.set_read_only, connection.set_deferrable):
                await undo(None)
            await connection.set_autocommit(True)
            await connection.execute(RESET)
            await connection.set_autocommit(False)
            connection.dirty = connection.beyond_reset = False
