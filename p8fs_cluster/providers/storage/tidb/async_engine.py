"""TiDB, and whatever else speaks MySQL's protocol, for asyncio.

`engine.py` is made of this file by `scripts/threads.py`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pymysql

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import StorageTimeout, StorageUnavailable
from p8fs_cluster.providers.storage.async_server import AsyncServer
from p8fs_cluster.providers.storage.engines import Parameters
from p8fs_cluster.providers.storage.tidb.async_connection import AsyncConnection, AsyncCursor, async_connect
from p8fs_cluster.providers.storage.tidb.messages import TiDBMessages
from p8fs_cluster.providers.storage.tidb.session import (
    QUESTIONS,
    described,
    inspected,
    is_of_driver,
    retry_pause,
    text_of,
    was_cut_short,
)

__all__ = ["AsyncTiDB"]


class AsyncTiDB(AsyncServer[AsyncConnection]):
    """A pool of the driver's connections.

    >>> AsyncTiDB(P8FSConfig(tidb_password="s3cret"))
    <tidb at root@localhost:4000/test>
    """

    questions: ClassVar[tuple[str, ...]] = QUESTIONS
    inspected = staticmethod(inspected)
    retry_pause = staticmethod(retry_pause)
    error = pymysql.MySQLError

    def __init__(self, settings: P8FSConfig) -> None:
        super().__init__(settings, TiDBMessages(settings))

    async def execute(self, connection: AsyncConnection, sql: str, parameters: Parameters) -> list[Any]:
        connection.alone = True
        try:
            async with connection.cursor(AsyncCursor) as cursor:
                await cursor.execute(sql, parameters)
                return list(await cursor.fetchall()) if cursor.description else []
        except StorageTimeout:
            raise
        except (pymysql.MySQLError, TypeError, ValueError, KeyError) as exc:  # the latter: of the text and parameters
            lost = connection.is_lost and is_of_driver(exc) and not was_cut_short(exc)
            raise self.messages.of_statement(sql, described(exc, connection.size), lost) from exc

    async def ping(self, connection: AsyncConnection) -> None:
        try:
            await connection.ping(reconnect=False)
        except pymysql.MySQLError as exc:
            raise StorageUnavailable(self.messages.no_answer()) from exc

    async def _connect(self, seconds: float) -> AsyncConnection:
        return await async_connect(self._settings, self.messages, seconds)

    async def _commit(self, connection: AsyncConnection) -> None:
        try:
            await connection.commit()
        except pymysql.MySQLError as fault:
            self.messages.raise_for_commit(fault, text_of(fault), lost=bool(connection.closed))

    async def _renew(self, connection: AsyncConnection) -> None:
        if connection.reading or not connection.in_step:
            connection.end()
            return
        connection.restore_driver()
        if connection.used:
            if connection.dirty or self._settings.pool_reset == "always":
                await connection.renew()
            await connection.autocommit(connection.commits_itself)
