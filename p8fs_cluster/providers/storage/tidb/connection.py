"""Connections of MySQL's protocol for threads, through PyMySQL: how they wait, and how they are made."""

from __future__ import annotations

import io
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import pymysql
from pymysql.constants import CR, ER
from pymysql.protocol import MysqlPacket

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.providers.storage.messages import Messages
from p8fs_cluster.providers.storage.passwords import refused
from p8fs_cluster.providers.storage.sockets import (
    LimitedReader,
    addresses,
    is_peer_alive,
    limit_waits,
    pending_data_check,
)
from p8fs_cluster.providers.storage.tidb.compat import Cursor, ReadResult
from p8fs_cluster.providers.storage.tidb.parameters import opportunistic_tls, parameters
from p8fs_cluster.providers.storage.tidb.protocol import Protocol
from p8fs_cluster.providers.storage.tidb.session import SILENT, number_of

__all__ = ["Connection", "Cursor", "connect"]

_FOREVER = 2e6
"""Seconds, as many as a socket takes, where there is no deadline and the system's limit must not end the wait."""


class Connection(Protocol):
    """A pooled connection that SQLAlchemy may hold: its `close()` then gives it back. All its waits end."""

    give_back: Callable[[], None] | None = None
    _limited = False
    """True if the system sees to the limit."""
    _reader: LimitedReader

    def __init__(self, settings: P8FSConfig, messages: Messages, **given: Any) -> None:
        self.bound(settings, messages)
        super().__init__(**given)

    def lend(self, deadline: float | None) -> None:
        super().lend(deadline)
        self._reader.deadline = deadline
        if deadline is None:
            self._read_timeout = self._write_timeout = None if self._limited else self.limit

    def _wait_until_deadline(self) -> None:
        """Set what PyMySQL looks at before it waits.

        :raises TimedOut: the deadline has passed.
        """
        left = (self.deadline or 0) - time.monotonic()
        if left <= 0:
            self.drop()
            raise self.too_late()
        self._read_timeout = self._write_timeout = min(left, _FOREVER)

    def connect(self, sock: Any = None) -> None:
        """Connect to the first address of the host that answers; one that refuses or hangs leaves time for the next.

        The handshake is bounded too: a server that accepts and then hangs would hold PyMySQL for ever.
        """
        ends = time.monotonic() + self.connect_timeout
        candidates: list[Any] = [None] if self.unix_socket else addresses(self.host)
        while candidates:
            seconds = max(ends - time.monotonic(), 0.001) / len(candidates)
            address = candidates.pop(0)
            self.deadline = time.monotonic() + seconds
            self._read_timeout = self._write_timeout = seconds
            try:
                super().connect(sock if address is None else self._socket(address, seconds))
                self.begin_session()
                break
            except pymysql.OperationalError as exc:
                if not candidates or number_of(exc) not in SILENT:
                    raise
            finally:
                self.deadline = None
        self._limit_by_system()

    def _socket(self, address: str, seconds: float) -> socket.socket:
        try:
            connection = socket.create_connection((address, self.port), seconds)
        except OSError as exc:
            told = f"Can't connect to MySQL server on {self.host!r} ({exc})"
            raise pymysql.OperationalError(CR.CR_CONN_HOST_ERROR, told) from exc
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection

    def _limit_by_system(self) -> None:
        """Let the system end waits that have no deadline: Python's own timeouts cost two calls more for each of them,
        and let go of the interpreter's lock as often, which took a third of the throughput of 8 threads."""
        self._rfile.close()
        self._reader = LimitedReader(self._sock)
        self._rfile = io.BufferedReader(self._reader)
        plain = not isinstance(self._sock, ssl.SSLSocket)
        self._limited = plain and self.limit is not None and limit_waits(self._sock, self.limit)
        self._read_timeout = self._write_timeout = None if self._limited else self.limit

    def _read_packet(self, packet_type: Any = MysqlPacket) -> Any:
        self.in_step = False
        if self.deadline is not None:
            self._wait_until_deadline()
        try:
            packet = super()._read_packet(packet_type)
        except pymysql.MySQLError as exc:
            if isinstance(exc.__context__, TimeoutError):
                self.in_step = True
                raise self.too_late() from exc
            self.answered_with(exc)
            raise
        self.in_step = True
        return packet

    def _read_query_result(self, unbuffered: bool = False) -> int:
        affected = super()._read_query_result(unbuffered)
        if not unbuffered:
            self._result.__class__ = ReadResult
        return affected

    def _write_bytes(self, data: Any) -> None:
        if self.deadline is not None:
            self._wait_until_deadline()
        try:
            super()._write_bytes(data)
        except pymysql.OperationalError as exc:
            if isinstance(exc.__context__, (TimeoutError, BlockingIOError)):
                raise self.too_late() from exc
            raise

    def _create_ssl_ctx(self, sslp: Any) -> ssl.SSLContext:
        """Share one context: PyMySQL makes one for every connection, which takes longer than all the rest of it."""
        return sslp if isinstance(sslp, ssl.SSLContext) else opportunistic_tls()

    def fileno(self) -> int:
        """Return the descriptor of the socket, -1 when there is none."""
        return self._sock.fileno() if self._sock else -1

    @property
    def closed(self) -> bool:
        """Return whether it is not open."""
        return self._sock is None

    @property
    def is_lost(self) -> bool:
        """Return whether it ended otherwise than by `close()`."""
        return self._sock is None and not self._closed

    def is_closed_by_server(self) -> bool:
        return bool(self.has_pending_data()) and not is_peer_alive(self.fileno())

    def is_fit(self) -> bool:
        """Return whether an idle one can be lent, told without a round trip."""
        return self._sock is not None and not self.has_pending_data()

    def works(self) -> bool:
        """Return whether the server has not ended it."""
        fileno = self.fileno()
        return fileno >= 0 and is_peer_alive(fileno)

    def close(self) -> None:
        give_back, self.give_back = self.give_back, None
        if give_back:
            give_back()
        elif self.open:
            super().close()

    def drop(self) -> None:
        self._force_close()

    def end(self) -> None:
        """Close it at once, whatever it is doing."""
        self._closed = True
        self._force_close()


def connect(settings: P8FSConfig, messages: Messages, seconds: float, cls: type[Connection] = Connection) -> Connection:
    """Connect within so many seconds.

    :raises pymysql.MySQLError: there is no connection.
    """
    try:
        connection = cls(settings, messages, connect_timeout=seconds, **parameters(settings, messages))
    except pymysql.OperationalError as exc:
        if number_of(exc) != ER.ACCESS_DENIED_ERROR or not refused(settings, "tidb_password"):
            raise
        connection = cls(settings, messages, connect_timeout=seconds, **parameters(settings, messages))
    connection.begin_life(pending_data_check(connection.fileno()))
    return connection
