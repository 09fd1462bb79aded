"""PostgreSQL's connections for asyncio: how they wait, and how they are made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import waiting

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.providers.storage.messages import Messages
from p8fs_cluster.providers.storage.passwords import refused
from p8fs_cluster.providers.storage.postgresql import compat
from p8fs_cluster.providers.storage.postgresql.cursor import SessionCursor
from p8fs_cluster.providers.storage.postgresql.parameters import is_refusal, parameters
from p8fs_cluster.providers.storage.postgresql.session import Session
from p8fs_cluster.providers.storage.sockets import pending_data_check

__all__ = ["AsyncConnection", "AsyncCursor", "AsyncServerCursor", "async_connect"]

AsyncServerCursor = psycopg.AsyncServerCursor


class AsyncCursor(SessionCursor, psycopg.AsyncCursor[Any]):
    """The cursor of every borrower who names no other."""

    __slots__ = ()


class AsyncConnection(Session, psycopg.AsyncConnection[Any]):
    """A pooled connection. All its waits end; one whose task was cancelled in the middle of an answer is ended."""

    async def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        seconds = self.seconds_for(gen) if timeout is None else timeout
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, interval=interval, timeout=seconds)
        except compat.WaitTimeout as exc:
            if timeout is not None:
                raise
            raise self.too_late() from exc
        except psycopg.Error as exc:
            self.note(exc)
            raise
        except (asyncio.CancelledError, KeyboardInterrupt):
            if self.is_active:
                self.pgconn.finish()  # psycopg would cancel the query, and wait up to 10 s for a server that hangs
            raise
        except BaseException:
            gen.close()  # as on threads
            raise

    @asynccontextmanager
    async def transaction(self, *args: Any, **kwargs: Any) -> AsyncIterator[psycopg.AsyncTransaction]:
        """Give a block that is a transaction, as the connection for threads does."""
        async with super().transaction(*args, **kwargs) as transaction:
            yield transaction
            if self.has_failed and not transaction.force_rollback:
                raise self.undone()


async def async_connect(settings: P8FSConfig, messages: Messages, seconds: float) -> AsyncConnection:
    """Connect; the caller sees to the time that it may take.

    :raises psycopg.Error: there is no connection.
    """
    del seconds
    given = await asyncio.to_thread(parameters, settings)  # it looks names up
    try:
        connection = await AsyncConnection.connect(**given, cursor_factory=AsyncCursor)
    except psycopg.Error as exc:
        if not (is_refusal(exc) and refused(settings, "pg_password")):
            raise
        given = await asyncio.to_thread(parameters, settings)
        connection = await AsyncConnection.connect(**given, cursor_factory=AsyncCursor)
    connection.bound(settings, messages)
    connection.begin_life(pending_data_check(connection.fileno()))
    return connection
