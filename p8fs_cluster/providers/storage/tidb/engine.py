"""TiDB (and whatever else speaks MySQL's protocol) through PyMySQL."""

from __future__ import annotations

import io
import math
import socket
import ssl
import time
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pymysql
from pymysql.connections import Connection
from pymysql.constants import CLIENT, COMMAND, CR
from pymysql.cursors import Cursor
from pymysql.protocol import MysqlPacket

from p8fs_cluster.config.dsn import unbracketed
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import StorageError, StorageTimeout, StorageUnavailable
from p8fs_cluster.providers.storage.engines import Parameters, Span
from p8fs_cluster.providers.storage.messages import Messages
from p8fs_cluster.providers.storage.observability import tell_slow
from p8fs_cluster.providers.storage.server import Server
from p8fs_cluster.providers.storage.sockets import (
    LimitedReader,
    addresses,
    is_peer_alive,
    limit_waits,
    pending_data_check,
)
from p8fs_cluster.providers.storage.tidb.session import (
    QUESTIONS,
    RETRIED,
    SILENT,
    Session,
    TimedOut,
    beginning,
    failed,
    inspected,
    tells_shutdown,
    text_of,
)
from p8fs_cluster.providers.storage.tidb.statements import RESET_CONNECTION, without_values

__all__ = ["TiDB", "opportunistic_tls"]

_FAULTS: Mapping[int, tuple[tuple[str, ...], str]] = {
    1044: (("tidb_user", "tidb_database"), "grant the user access to the database"),
    1045: (("tidb_user", "tidb_password"), "check user and password (caching_sha2_password needs TLS on TiDB)"),
    1049: (("tidb_database",), "check its name, or create it"),
    1698: (("tidb_user", "tidb_password"), "check user and password"),
    2059: (("tidb_user",), "let the user have mysql_native_password, or caching_sha2_password with TLS"),
    2026: (("tidb_ssl_ca", "tidb_host"), "check the TLS settings"),
}
"""The server's or the drivers' error number → the settings at fault and the way out."""


_LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")

_FOREVER = 2e6
"""Seconds, as many as a socket takes, where there is no deadline and the system's limit must not end the wait."""

if TYPE_CHECKING:

    class _PyMySQL(Connection):
        """What its stubs leave out."""

        connect_timeout: float
        unix_socket: str | None
        host: str
        port: int
        _sock: Any
        _rfile: Any
        _closed: bool

        def _force_close(self) -> None: ...
        def _read_ok_packet(self) -> None: ...
        def _read_packet(self, packet_type: Any = ...) -> Any: ...
        def _read_query_result(self, unbuffered: bool = ...) -> int: ...
        def _write_bytes(self, data: Any) -> None: ...
        def _execute_command(self, command: int, sql: Any) -> None: ...

else:
    _PyMySQL = Connection


class _Connection(Session, _PyMySQL):
    """A pooled connection that SQLAlchemy may hold: its `close()` then gives it back. All its waits end."""

    give_back: Callable[[], None] | None = None
    _limited = False
    """Whether the system sees to the limit."""

    def __init__(self, settings: P8FSConfig, messages: Messages, **parameters: Any) -> None:
        self.messages, self.beginning = messages, beginning(settings)
        self.limit, self.slow = settings.query_timeout, settings.slow_query
        super().__init__(**parameters)

    @property
    def _read_timeout(self) -> float | None:
        """What PyMySQL asks for before each wait."""
        if self.deadline is None:
            return None if self._limited else self.limit
        left = self.deadline - time.monotonic()
        if left <= 0:
            self._force_close()
            raise self._too_late()
        return min(left, _FOREVER) if self._limited or not math.isinf(left) else None

    @_read_timeout.setter
    def _read_timeout(self, seconds: float | None) -> None:
        """PyMySQL's own constructor sets it; the limit and the deadline rule."""

    _write_timeout = _read_timeout

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
            try:
                super().connect(sock if address is None else self._socket(address, seconds))
                self.begin_session()
                break
            except pymysql.OperationalError as exc:
                if not candidates or exc.args[0] not in SILENT:
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
        this = weakref.ref(self)  # a cycle would keep a connection that was dropped until the garbage is collected
        self._rfile = io.BufferedReader(LimitedReader(self._sock, lambda: _is_late(this())))
        plain = not isinstance(self._sock, ssl.SSLSocket)
        self._limited = plain and self.limit is not None and limit_waits(self._sock, self.limit)

    def query(self, sql: Any, unbuffered: bool = False) -> int:
        if self.slow is None:
            return super().query(sql, unbuffered)
        started = time.monotonic()
        try:
            return super().query(sql, unbuffered)
        finally:
            tell_slow("tidb", without_values(sql), time.monotonic() - started, self.slow)

    def close(self) -> None:
        give_back, self.give_back = self.give_back, None
        if give_back:
            give_back()
        elif self.open:
            super().close()

    def end(self) -> None:
        """Close it at once, whatever it is doing."""
        self._closed = True
        self._force_close()

    def is_closed_by_server(self) -> bool:
        return bool(self.has_pending_data()) and not is_peer_alive(self.fileno())

    @property
    def closed(self) -> bool:
        """Whether it is not open."""
        return not self.open

    @property
    def unfinished(self) -> bool:
        """Whether there may be something to commit."""
        return self.used

    def is_fit(self) -> bool:
        """Return whether an idle one can be lent, told without a round trip."""
        return bool(self.open) and not self.has_pending_data()

    def works(self) -> bool:
        """Return whether the server has not ended it."""
        fileno = self.fileno()
        return fileno >= 0 and is_peer_alive(fileno)

    @property
    def is_lost(self) -> bool:
        """Whether it ended otherwise than by `close()`."""
        return not self.open and not self._closed

    def fileno(self) -> int:
        """Return the descriptor of the socket, -1 when there is none."""
        return self._sock.fileno() if self._sock else -1

    def renew(self) -> None:
        """Give the session back the state of its beginning."""
        self._execute_command(RESET_CONNECTION, b"")
        self._read_ok_packet()
        self.begin_session()
        self.select_db(self.db)
        self.dirty = False

    def begin_session(self) -> None:
        """Send what each session begins with."""
        self._execute_command(COMMAND.COM_QUERY, self.beginning)
        self._read_ok_packet()

    def _execute_command(self, command: int, sql: Any) -> None:
        self.keep_step()
        if self.is_in_doubt(command, sql):
            super()._execute_command(COMMAND.COM_PING, b"")
            self._read_ok_packet()
            self.decide()
        self.sending(command, sql)
        super()._execute_command(command, sql)

    def _read_query_result(self, unbuffered: bool = False) -> int:
        self.reading = True
        try:
            affected: int = super()._read_query_result(unbuffered)
        except pymysql.MySQLError:
            self.reading = False
            raise
        self.reading = False
        return affected

    def _read_packet(self, packet_type: Any = MysqlPacket) -> Any:
        self.in_step = False
        try:
            packet = super()._read_packet(packet_type)
        except pymysql.MySQLError as exc:
            self.in_step = True
            if isinstance(exc.__context__, TimeoutError):
                raise self._too_late() from exc
            if tells_shutdown(exc):
                self._force_close()
            self.doubt(exc)
            raise
        self.in_step = True
        return packet

    def _write_bytes(self, data: Any) -> None:
        try:
            super()._write_bytes(data)
        except pymysql.OperationalError as exc:
            if isinstance(exc.__context__, (TimeoutError, BlockingIOError)):
                raise self._too_late() from exc
            raise

    def _too_late(self) -> TimedOut:
        return TimedOut(self.messages.too_late(of_block=self.deadline is not None))

    def _create_ssl_ctx(self, sslp: Any) -> ssl.SSLContext:
        """Share one context: PyMySQL makes one for every connection, which takes longer than all the rest of it."""
        return sslp if isinstance(sslp, ssl.SSLContext) else opportunistic_tls()


def _is_late(connection: _Connection | None) -> bool:
    deadline = connection.deadline if connection else None
    return deadline is not None and time.monotonic() > deadline


class TiDB(Server[_Connection]):
    """A pool of PyMySQL connections.

    >>> TiDB(P8FSConfig(tidb_password="s3cret"))
    <tidb at root@localhost:4000/test>
    """

    provider: ClassVar[str] = "tidb"
    sqlalchemy_url: ClassVar[str | None] = "mysql+pymysql://"
    transactional: ClassVar[bool] = True
    questions: ClassVar[tuple[str, ...]] = QUESTIONS
    inspected = staticmethod(inspected)
    error = pymysql.MySQLError

    def __init__(self, settings: P8FSConfig) -> None:
        super().__init__(settings, Messages(self.provider, "tidb", settings))

    @staticmethod
    def key(settings: P8FSConfig) -> Hashable:
        return (
            settings.tidb_host,
            settings.tidb_port,
            settings.tidb_database,
            settings.tidb_user,
            settings.tidb_password,
            settings.tidb_ssl_ca,
            settings.tidb_insecure,
            settings.tidb_txn_mode,
            settings.environment,
            settings.pool_max_size,
            settings.pool_timeout,
            settings.pool_max_lifetime,
            settings.pool_reset,
            settings.query_timeout,
            settings.slow_query,
            settings.service_name,
        )

    def execute(self, connection: _Connection, sql: str, parameters: Parameters) -> list[Any]:
        try:
            with connection.cursor(Cursor) as cursor:
                cursor.execute(sql, parameters)
                return list(cursor.fetchall()) if cursor.description else []
        except StorageTimeout:
            raise
        except (pymysql.MySQLError, TypeError, ValueError, KeyError) as exc:  # the latter: of the text and parameters
            raise failed(exc, connection.size) from exc

    def scan(self, connection: _Connection, span: Span, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
        raise StorageError("tidb has no keys to scan: ask it by SQL")

    def ping(self, connection: _Connection) -> None:
        try:
            connection.ping(reconnect=False)
        except pymysql.MySQLError as exc:
            raise StorageUnavailable(self.messages.no_answer()) from exc

    @staticmethod
    def retry_pause(exc: BaseException) -> float | None:
        """The codes that TiDB documents for it, a deadlock, and MariaDB's conflict of snapshots (1020)."""
        return RETRIED.get(exc.args[0]) if isinstance(exc, pymysql.MySQLError) and exc.args else None

    def _connect(self, seconds: float) -> _Connection:
        connection = _Connection(self._settings, self.messages, connect_timeout=seconds, **self.parameters())
        connection.begin_life(pending_data_check(connection.fileno()))
        return connection

    def _commit(self, connection: _Connection) -> None:
        try:
            connection.commit()
        except pymysql.MySQLError as fault:
            self.messages.raise_for_commit(fault, text_of(fault), lost=not connection.open)

    def _renew(self, connection: _Connection) -> None:
        if connection.reading or not connection.in_step:
            connection.end()
            return
        connection.restore_driver()
        if connection.used:
            if connection.dirty or self._settings.pool_reset == "always":
                connection.renew()
            connection.autocommit(False)

    def parameters(self) -> dict[str, Any]:
        """Return what PyMySQL connects with."""
        settings = self._settings
        parameters: dict[str, Any] = {
            "user": settings.tidb_user,
            "password": settings.tidb_password.get_secret_value().encode(),  # a str would be sent as Latin-1
            "database": settings.tidb_database,
            "program_name": settings.service_name,
            "autocommit": None,  # `begin_session` turns it off
            "client_flag": CLIENT.FOUND_ROWS,  # SQLAlchemy counts on it: an UPDATE's rows are those it has found
        }
        if settings.tidb_host.startswith("/"):
            parameters["unix_socket"] = settings.tidb_host
        else:
            parameters |= {"host": unbracketed(settings.tidb_host), "port": settings.tidb_port}
        elsewhere = not settings.tidb_host.startswith("/") and settings.tidb_host not in _LOOPBACK
        if settings.is_production and elsewhere and not (settings.tidb_ssl_ca or settings.tidb_insecure):
            names = ("tidb_ssl_ca", "tidb_insecure", "environment")
            raise StorageUnavailable(
                self.messages.at_fault("production needs verified TLS", "name a file of CAs", *names)
            )
        if settings.tidb_ssl_ca:
            parameters["ssl"] = self._verified_tls(settings.tidb_ssl_ca)
        return parameters

    def _verified_tls(self, authorities: Path) -> ssl.SSLContext:
        try:
            changed = authorities.stat()
            return _trusting(authorities, (changed.st_mtime_ns, changed.st_size, changed.st_ino))
        except OSError as exc:
            fault = f"{authorities} holds no usable certificates ({exc})"
            raise StorageUnavailable(self.messages.at_fault(fault, "name another file", "tidb_ssl_ca")) from exc

    def unavailable(self, exc: BaseException | None) -> StorageUnavailable:
        """Return the error that tells why there is no connection, and what settings lead there."""
        if isinstance(exc, StorageTimeout):
            return StorageUnavailable(self.messages.no_answer())
        text, number = (text_of(exc), exc.args[0] if exc.args else 0) if exc else ("no connection", 0)
        if refusal := _tls_refusal(exc):
            text, number = text_of(refusal), 2026
        names, way_out = _FAULTS.get(number, ((), ""))
        return StorageUnavailable(
            self.messages.at_fault(text, way_out, *names) if names else self.messages.no_connection(text)
        )


def _tls_refusal(exc: BaseException | None) -> ssl.SSLError | None:
    """Return what was wrong with the server's certificate; the drivers tell of it as of a server that is not there."""
    while exc is not None and not isinstance(exc, ssl.SSLError):
        exc = exc.__cause__ or exc.__context__
    return exc


@lru_cache(8)
def _trusting(authorities: Path, version: object) -> ssl.SSLContext:
    """Return a context that trusts a file's authorities, made anew when the file has changed: it takes 20 ms."""
    del version
    return ssl.create_default_context(cafile=authorities)


@cache
def opportunistic_tls() -> ssl.SSLContext:
    """TLS when the server offers it, unverified: what PyMySQL does when nothing is said. `tidb_ssl_ca` verifies."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
