"""The engine for asyncio: each call of the driver runs in a thread."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import StorageError
from p8fs_cluster.providers.storage.async_server import AsyncServer
from p8fs_cluster.providers.storage.engines import Parameters
from tests.engines.sqlite.connection import SQLiteMessages, connect
from tests.engines.sqlite.engine import SQLite

__all__ = ["AsyncSQLite"]


class AsyncCursor:
    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    async def __aenter__(self) -> AsyncCursor:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    @property
    def description(self) -> Any:
        return self._cursor.description

    async def execute(self, sql: str, parameters: Any = None) -> AsyncCursor:
        await asyncio.to_thread(self._cursor.execute, sql, parameters)
        return self

    async def executemany(self, sql: str, parameters: Any) -> AsyncCursor:
        await asyncio.to_thread(self._cursor.executemany, sql, parameters)
        return self

    async def fetchone(self) -> Any:
        return await asyncio.to_thread(self._cursor.fetchone)

    async def fetchall(self) -> Any:
        return await asyncio.to_thread(self._cursor.fetchall)

    async def close(self) -> None:
        await asyncio.to_thread(self._cursor.close)


class AsyncConnection:
    """What is not listed is as the connection for threads has it."""

    def __init__(self, connection: Any) -> None:
        self.__dict__["behind"] = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self.behind, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.behind, name, value)

    def cursor(self) -> AsyncCursor:
        return AsyncCursor(self.behind.cursor())

    async def commit(self) -> None:
        await asyncio.to_thread(self.behind.commit)

    async def rollback(self) -> None:
        await asyncio.to_thread(self.behind.rollback)


class AsyncSQLite(AsyncServer[Any]):
    error = sqlite3.Error
    retry_pause = staticmethod(SQLite.retry_pause)

    def __init__(self, settings: P8FSConfig) -> None:
        super().__init__(settings, SQLiteMessages(settings))

    async def execute(self, connection: Any, sql: str, parameters: Parameters) -> list[Any]:
        try:
            async with connection.cursor() as cursor:
                await cursor.execute(sql, parameters)
                return list(await cursor.fetchall())
        except sqlite3.Error as exc:
            raise StorageError(f"sqlite: the statement failed: {exc}") from exc

    async def ping(self, connection: Any) -> None:
        await self.execute(connection, "SELECT 1", None)

    async def _connect(self, seconds: float) -> Any:
        return AsyncConnection(await asyncio.to_thread(connect, self._settings, self.messages, seconds))

    async def _commit(self, connection: Any) -> None:
        try:
            await connection.commit()
        except sqlite3.Error as exc:
            self.messages.raise_for_commit(exc, str(exc), lost=False)

    async def _renew(self, connection: Any) -> None:
        connection.row_factory = None
