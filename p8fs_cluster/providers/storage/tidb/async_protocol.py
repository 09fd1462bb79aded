"""The work around the commands of MySQL's protocol for asyncio, whatever carries them.

`protocol.py` is made of this file by `scripts/threads.py`.
"""

from __future__ import annotations

import time
from typing import Any

import pymysql
from pymysql.constants import COMMAND

from p8fs_cluster.providers.storage.observability import tell_slow
from p8fs_cluster.providers.storage.tidb.async_compat import AsyncDriverConnection
from p8fs_cluster.providers.storage.tidb.session import Session
from p8fs_cluster.providers.storage.tidb.statements import RESET_CONNECTION, without_values

__all__ = ["AsyncProtocol"]


class AsyncProtocol(Session, AsyncDriverConnection):
    """A connection of the driver that knows what became of its session."""

    db: Any

    async def query(self, sql: Any, unbuffered: bool = False) -> int:
        """Run one statement, and return the number of rows that it has changed."""
        started = time.monotonic() if self.slow else 0.0
        try:
            affected: int = await super().query(sql, unbuffered)
        finally:
            if self.slow:
                tell_slow("tidb", without_values(sql), time.monotonic() - started, self.slow)
        return affected

    async def renew(self) -> None:
        """Give the session back the state of its beginning."""
        await self._execute_command(RESET_CONNECTION, b"")
        await self._read_ok_packet()
        self.commits_itself = False
        await self.begin_session()
        await self.select_db(self.db)
        self.dirty = False

    async def begin_session(self) -> None:
        """Send what each session begins with."""
        await self._execute_command(COMMAND.COM_QUERY, self.beginning)
        await self._read_ok_packet()

    async def autocommit(self, value: bool) -> None:
        """Let the session commit each statement, or not."""
        if self.is_otherwise(COMMAND.COM_QUERY):
            await self._begin_otherwise()
        await super().autocommit(value)

    async def _begin_otherwise(self) -> None:
        await self._beside(COMMAND.COM_QUERY, f"SET autocommit = {self.alone:d}")
        self.commits_itself = self.alone

    async def _beside(self, command: int, sql: Any) -> None:
        """Run a command of our own before the borrower's one; who is interrupted in it leaves an answer unread."""
        self.in_step = False
        await super()._execute_command(command, sql)
        await self._read_ok_packet()

    async def _execute_command(self, command: int, sql: Any) -> None:
        self.keep_step()
        if self.is_otherwise(command):
            await self._begin_otherwise()
        if self.is_in_doubt(command, sql):
            await self._beside(COMMAND.COM_PING, b"")
            self.decide()
        self.sending(command, sql)
        await super()._execute_command(command, sql)

    async def _read_query_result(self, unbuffered: bool = False) -> int:
        self.reading = True
        try:
            affected: int = await super()._read_query_result(unbuffered)
        except pymysql.MySQLError:
            self.reading = False
            raise
        self.reading = False
        return affected
