"""Connections of MySQL's protocol for asyncio, through aiomysql: how they wait, and how they are made."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
import weakref
from collections.abc import Awaitable
from typing import Any, TypeVar

import pymysql
from pymysql.constants import CLIENT, CR, ER
from pymysql.converters import escape_item
from pymysql.protocol import MysqlPacket

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.providers.storage.messages import Messages
from p8fs_cluster.providers.storage.passwords import is_asked_for, refused
from p8fs_cluster.providers.storage.sockets import addresses, is_peer_alive, pending_data_check
from p8fs_cluster.providers.storage.tidb import async_compat
from p8fs_cluster.providers.storage.tidb.async_compat import AsyncCursor
from p8fs_cluster.providers.storage.tidb.async_protocol import AsyncProtocol
from p8fs_cluster.providers.storage.tidb.parameters import opportunistic_tls, parameters
from p8fs_cluster.providers.storage.tidb.session import LARGE, SILENT, number_of

__all__ = ["AsyncConnection", "AsyncCursor", "async_connect"]

T = TypeVar("T")


class AsyncConnection(AsyncProtocol):
    """A pooled connection. All its waits end; one whose task was cancelled in the middle of an answer is ended."""

    waits_until = math.inf
    """The time at which the awaited answer is overdue, by the clock of the loop."""
    is_overdue = False
    timer: asyncio.TimerHandle | None = None
    given_up = False
    """True if its borrower closed it."""
    name: str
    """Of the host."""
    client_flag: int
    _ssl_context: ssl.SSLContext | None
    _reader: Any
    _writer: Any

    def escape(self, obj: Any) -> str:
        """Return a value as a statement's text has it: aiomysql's own calls what PyMySQL 1.2.3 dropped."""
        if isinstance(obj, bytes | bytearray):
            return f"X'{obj.hex()}'"
        if type(obj) in (tuple, list, set, frozenset):
            return f"({','.join(map(self.escape, obj))})"
        if isinstance(obj, str):
            return f"'{self.escape_string(obj)}'"
        escaped: str = escape_item(obj, self._charset, mapping=self.encoders)
        return escaped

    async def _read_packet(self, packet_type: Any = MysqlPacket) -> Any:
        self.in_step = False
        try:
            packet = async_compat.arrived_packet(self, packet_type) or await self._in_time(
                super()._read_packet(packet_type)
            )
        except pymysql.MySQLError as exc:
            if self.is_overdue:
                self.drop()
                raise self.too_late() from exc
            self.given_up = False  # if it is closed now, the driver has done so
            self.answered_with(exc)
            raise
        self.in_step = True
        return packet

    async def _execute_command(self, command: int, sql: Any) -> None:
        """Send a command; a large one is on its way when this returns, so that one the server cut short is known."""
        await super()._execute_command(command, sql)
        if self.size <= LARGE:
            return
        try:
            await self._in_time(self._writer.drain())
        except OSError as exc:
            self.drop()
            if self.is_overdue:
                raise self.too_late() from exc
            raise pymysql.OperationalError(CR.CR_SERVER_GONE_ERROR, f"the server is gone ({exc})") from exc

    async def _in_time(self, wait: Awaitable[T]) -> T:
        """Await something. One timer sees to all waits of a connection: one for each would take a tenth of a use."""
        seconds = self.limit if self.deadline is None else self.deadline - time.monotonic()
        if seconds is not None and not math.isinf(seconds):
            self.waits_until = self._loop.time() + seconds
            if self.timer is None or self.timer.when() > self.waits_until:
                self._look_at(self.waits_until)
        try:
            return await wait
        finally:
            self.waits_until = math.inf

    def _look_at(self, moment: float) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self._loop.call_at(moment, _look, weakref.ref(self))

    async def connect_first(self, seconds: float) -> None:
        """Connect to the first address of the host that answers, as the connection for threads does."""
        candidates = [self.name] if self._unix_socket else await asyncio.to_thread(addresses, self.name)
        self.connect_timeout = seconds / len(candidates)
        while candidates:
            self._host = candidates.pop(0)
            self.deadline = time.monotonic() + self.connect_timeout
            try:
                await self._connect()
                break
            except pymysql.OperationalError as exc:
                if not candidates or number_of(exc) not in SILENT:
                    raise
            finally:
                self.deadline = None

    async def _request_authentication(self) -> None:
        """Agree on TLS before a password is sent: aiomysql would do without, if the server says it has none."""
        self._host = self.name  # which its certificate is for
        if not self.server_capabilities & CLIENT.SSL:
            if self._ssl_context and self._ssl_context.verify_mode != ssl.CERT_NONE:
                raise pymysql.OperationalError(2026, "TLS is required, and the server has none")
            self._ssl_context, self.client_flag = None, self.client_flag & ~CLIENT.SSL
        await super()._request_authentication()

    def fileno(self) -> int:
        """Return the descriptor of the socket, -1 when there is none."""
        socket = self._writer.get_extra_info("socket") if self._writer else None
        return socket.fileno() if socket else -1

    @property
    def is_lost(self) -> bool:
        return bool(self.closed) and not self.given_up

    def is_closed_by_server(self) -> bool:
        return async_compat.is_at_end(self) or bool(self.has_pending_data() and not is_peer_alive(self.fileno()))

    def is_fit(self) -> bool:
        return not self.closed and not async_compat.is_at_end(self) and not self.has_pending_data()

    def works(self) -> bool:
        return not self.closed and not async_compat.is_at_end(self) and is_peer_alive(self.fileno())

    def close(self) -> None:
        self.given_up = True
        super().close()

    def drop(self) -> None:
        async_compat.abort(self)

    def end(self) -> None:
        self.drop()


def _look(reference: weakref.ref[AsyncConnection]) -> None:
    """End the wait of a connection that is overdue, or look again when it will be."""
    connection = reference()
    if connection is None:
        return
    connection.timer = None
    if connection.waits_until <= connection._loop.time():
        connection.is_overdue = True
        async_compat.end_wait(connection)
    elif not math.isinf(connection.waits_until):
        connection._look_at(connection.waits_until)


async def async_connect(settings: P8FSConfig, messages: Messages, seconds: float) -> AsyncConnection:
    """Connect within so many seconds.

    :raises pymysql.MySQLError: there is no connection.
    """
    try:
        connection = await _connected(settings, messages, seconds)
    except pymysql.OperationalError as exc:
        if number_of(exc) != ER.ACCESS_DENIED_ERROR or not refused(settings, "tidb_password"):
            raise
        connection = await _connected(settings, messages, seconds)
    await connection.begin_session()
    connection.begin_life(pending_data_check(connection.fileno()))
    return connection


async def _connected(settings: P8FSConfig, messages: Messages, seconds: float) -> AsyncConnection:
    asked = is_asked_for(settings, "tidb_password")
    given = await asyncio.to_thread(parameters, settings, messages) if asked else parameters(settings, messages)
    connection = AsyncConnection(
        host=given.get("host", "localhost"),
        port=given.get("port", 4000),
        unix_socket=given.get("unix_socket"),
        user=given["user"],
        password=given["password"].decode("latin-1"),  # as which aiomysql sends it
        db=given["database"],
        program_name=given["program_name"],
        autocommit=None,
        client_flag=given["client_flag"],
        charset="utf8mb4",
        cursorclass=AsyncCursor,
        ssl=given.get("ssl") or opportunistic_tls(),
    )
    connection.client_flag &= ~CLIENT.MULTI_STATEMENTS  # PyMySQL has them off: they hide what they do
    connection.name = connection._host
    connection.bound(settings, messages)
    await connection.connect_first(seconds)
    return connection
