"""TiDB (and whatever else speaks MySQL's protocol) for asyncio, through aiomysql, which is PyMySQL's protocol."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from typing import Any

import aiomysql  # type: ignore[import-untyped]
import pymysql
from pymysql.constants import CLIENT, COMMAND
from pymysql.converters import escape_item
from pymysql.protocol import MysqlPacket

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import StorageTimeout, StorageUnavailable
from p8fs_cluster.providers.storage.engines import Parameters
from p8fs_cluster.providers.storage.observability import tell_slow
from p8fs_cluster.providers.storage.server import AsyncServer
from p8fs_cluster.providers.storage.sockets import addresses, is_peer_alive, pending_data_check
from p8fs_cluster.providers.storage.tidb.engine import TiDB, opportunistic_tls
from p8fs_cluster.providers.storage.tidb.session import (
    SILENT,
    Session,
    TimedOut,
    beginning,
    failed,
    tells_shutdown,
    text_of,
)
from p8fs_cluster.providers.storage.tidb.statements import RESET_CONNECTION, without_values

__all__ = ["AsyncTiDB"]


class _Cursor(aiomysql.Cursor):  # type: ignore[misc]
    """As PyMySQL's own, it does not ask for the server's warnings after each statement."""

    async def _show_warnings(self, conn: Any) -> None:
        pass


class _Connection(Session, aiomysql.Connection):  # type: ignore[misc]
    """A pooled connection. All its waits end; one whose task was cancelled in the middle of an answer is ended."""

    given_up = False
    """Whether its borrower closed it."""
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
            packet = await self._packet_in_time(packet_type)
        except TimeoutError as exc:
            self.end()
            raise TimedOut(self.messages.too_late(of_block=self.deadline is not None)) from exc
        except pymysql.MySQLError as exc:
            self.in_step, self.given_up = True, False  # if it is closed now, the driver has done so
            if tells_shutdown(exc):
                self.end()
            self.doubt(exc)
            raise
        self.in_step = True
        return packet

    async def _packet_in_time(self, packet_type: Any) -> Any:
        seconds = self.limit if self.deadline is None else self.deadline - time.monotonic()
        if self._has_packet():
            return await super()._read_packet(packet_type)
        async with asyncio.timeout(None if seconds is None or math.isinf(seconds) else seconds):
            return await super()._read_packet(packet_type)

    async def _read_query_result(self, unbuffered: bool = False) -> None:
        self.reading = True
        try:
            await super()._read_query_result(unbuffered)
        except pymysql.MySQLError:
            self.reading = False
            raise
        self.reading = False

    def _has_packet(self) -> bool:
        """Whether a whole one has come, so that nothing is waited for: a timeout takes longer than to read it."""
        arrived = self._reader._buffer if self._reader else b""
        return len(arrived) >= 4 + int.from_bytes(arrived[:3], "little") if len(arrived) >= 4 else False

    async def connect_first(self, seconds: float) -> None:
        """Connect to the first address of the host that answers, as the synchronous connection does."""
        candidates = [self.name] if self._unix_socket else await asyncio.to_thread(addresses, self.name)
        self.connect_timeout = seconds / len(candidates)
        while candidates:
            self._host = candidates.pop(0)
            self.deadline = time.monotonic() + self.connect_timeout
            try:
                await self._connect()
                break
            except pymysql.OperationalError as exc:
                if not candidates or exc.args[0] not in SILENT:
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

    async def _execute_command(self, command: int, sql: Any) -> None:
        if self.deadline is not None and self.deadline <= time.monotonic():
            self.end()
            raise TimedOut(self.messages.too_late(of_block=True))  # before anything is sent
        self.keep_step()
        if self.is_in_doubt(command, sql):
            await super()._execute_command(COMMAND.COM_PING, b"")
            await self._read_ok_packet()
            self.decide()
        self.sending(command, sql)
        await super()._execute_command(command, sql)

    async def query(self, sql: Any, unbuffered: bool = False) -> int:
        started = time.monotonic()
        try:
            affected: int = await super().query(sql, unbuffered)
            return affected
        finally:
            if self.slow is not None:
                tell_slow("tidb", without_values(sql), time.monotonic() - started, self.slow)

    async def renew(self) -> None:
        """Give the session back the state of its beginning."""
        await self._execute_command(RESET_CONNECTION, b"")
        await self._read_ok_packet()
        await self.begin_session()
        await self.select_db(self.db)
        self.dirty = False

    async def begin_session(self) -> None:
        """Send what each session begins with."""
        await self._execute_command(COMMAND.COM_QUERY, self.beginning)
        await self._read_ok_packet()

    def fileno(self) -> int:
        """Return the descriptor of the socket, -1 when there is none."""
        socket = self._writer.get_extra_info("socket") if self._writer else None
        return socket.fileno() if socket else -1

    @property
    def is_lost(self) -> bool:
        return bool(self.closed) and not self.given_up

    @property
    def unfinished(self) -> bool:
        return self.used

    def is_closed_by_server(self) -> bool:
        return bool(self._reader.at_eof() or (self.has_pending_data() and not is_peer_alive(self.fileno())))

    def is_fit(self) -> bool:
        return not self.closed and not self._reader.at_eof() and not self.has_pending_data()

    def works(self) -> bool:
        return not self.closed and not self._reader.at_eof() and is_peer_alive(self.fileno())

    def close(self) -> None:
        self.given_up = True
        super().close()

    def end(self) -> None:
        if self._writer and not self._loop.is_closed():
            self._writer.transport.abort()
        elif self._writer and getattr(self._writer.transport, "_sock", None):  # uvloop has closed its own with the loop
            self._writer.transport._closing = True
            self._writer.transport._sock.close()
            self._writer.transport._sock = None  # its finalizer warns, and the loop that could close it is gone
        self._writer, self._reader = None, None


class AsyncTiDB(AsyncServer[_Connection]):
    """The pool of one event loop. Parameters, faults and what resets a session are those of `TiDB`."""

    error = pymysql.MySQLError

    def __init__(self, settings: P8FSConfig) -> None:
        self._twin = TiDB(settings)
        super().__init__(settings, self._twin)

    async def execute(self, connection: _Connection, sql: str, parameters: Parameters) -> list[Any]:
        try:
            async with connection.cursor(_Cursor) as cursor:
                await cursor.execute(sql, parameters)
                return list(await cursor.fetchall()) if cursor.description else []
        except StorageTimeout:
            raise
        except (pymysql.MySQLError, TypeError, ValueError, KeyError) as exc:  # the latter: of the text and parameters
            raise failed(exc, connection.size) from exc

    async def ping(self, connection: _Connection) -> None:
        try:
            await connection.ping(reconnect=False)
        except pymysql.MySQLError as exc:
            raise StorageUnavailable(self._twin.messages.no_answer()) from exc

    async def _connect(self) -> _Connection:
        parameters = self._twin.parameters()
        connection = _Connection(
            host=parameters.get("host", "localhost"),
            port=parameters.get("port", 4000),
            unix_socket=parameters.get("unix_socket"),
            user=parameters["user"],
            password=parameters["password"].decode("latin-1"),  # as which aiomysql sends it
            db=parameters["database"],
            program_name=parameters["program_name"],
            autocommit=None,
            client_flag=parameters["client_flag"],
            charset="utf8mb4",
            cursorclass=_Cursor,
            ssl=parameters.get("ssl") or opportunistic_tls(),
        )
        connection.client_flag &= ~CLIENT.MULTI_STATEMENTS  # PyMySQL has them off: they hide what they do
        connection.name = connection._host
        connection.messages, connection.limit = self._twin.messages, self._settings.query_timeout
        connection.slow, connection.beginning = self._settings.slow_query, beginning(self._settings)
        await connection.connect_first(self._settings.pool_timeout)
        await connection.begin_session()
        connection.begin_life(pending_data_check(connection.fileno()))
        return connection

    async def _commit(self, connection: _Connection) -> None:
        try:
            await connection.commit()
        except pymysql.MySQLError as fault:
            self._twin.messages.raise_for_commit(fault, text_of(fault), lost=bool(connection.closed))

    async def _renew(self, connection: _Connection) -> None:
        if connection.reading or not connection.in_step:
            connection.end()
            return
        connection.restore_driver()
        if connection.used:
            if connection.dirty or self._settings.pool_reset == "always":
                await connection.renew()
            await connection.autocommit(False)
