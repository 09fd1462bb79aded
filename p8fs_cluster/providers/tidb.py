"""TiDB (and whatever else speaks MySQL's protocol) through PyMySQL in a pool of SQLAlchemy."""

from __future__ import annotations

import io
import math
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pymysql
from pymysql.connections import Connection
from pymysql.constants import CLIENT, COMMAND
from pymysql.cursors import Cursor
from pymysql.protocol import MysqlPacket
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from p8fs_cluster.config.dsn import unbracketed
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import NotCommitted, PoolExhausted, StorageError, StorageTimeout, StorageUnavailable
from p8fs_cluster.providers.circuit import Circuit
from p8fs_cluster.providers.engine import Parameters, Span
from p8fs_cluster.providers.faults import Faults
from p8fs_cluster.providers.slow import tell_slow
from p8fs_cluster.providers.sockets import LimitedReader, is_whole, limit_waits, quiet_check, shut_down
from p8fs_cluster.providers.tidb_session import (
    QUESTIONS,
    RETRIED,
    Session,
    TimedOut,
    beginning,
    failed,
    inspected,
    tells_shutdown,
    text_of,
)
from p8fs_cluster.providers.tidb_statements import RESET_CONNECTION, without_values
from p8fs_cluster.providers.turns import Turns

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

_GIVEN_BACK = 0.02
"""Seconds between two looks whether somebody has given back a connection, when the server takes no more."""

if TYPE_CHECKING:

    class _PyMySQL(Connection):
        """What its stubs leave out."""

        connect_timeout: float
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
    proxied: PoolProxiedConnection | None = None
    _limited = False
    """Whether the system sees to the limit."""

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
        """Bound the handshake too: a server that accepts and then hangs would hold PyMySQL for ever."""
        self.deadline = time.monotonic() + self.connect_timeout
        try:
            super().connect(sock)
            self.begin_session()
        finally:
            self.deadline = None
        self._limit_by_system()

    def _limit_by_system(self) -> None:
        """Let the system end waits that have no deadline: Python's own timeouts cost two calls more for each of them,
        and let go of the interpreter's lock as often, which took a third of the throughput of 8 threads."""
        self._rfile.close()
        self._rfile = io.BufferedReader(LimitedReader(self._sock, self._is_late))
        plain = not isinstance(self._sock, ssl.SSLSocket)
        self._limited = plain and self.limit is not None and limit_waits(self._sock, self.limit)

    def _is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

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
        return bool(self.peek()) and not is_whole(self.fileno())

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
        self.soiled = False

    def begin_session(self) -> None:
        """Send what each session begins with."""
        self._execute_command(COMMAND.COM_QUERY, self.beginning)
        self._read_ok_packet()

    def _execute_command(self, command: int, sql: Any) -> None:
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
        return TimedOut(self.faults.too_late(of_block=self.deadline is not None))

    def _create_ssl_ctx(self, sslp: Any) -> ssl.SSLContext:
        """Share one context: PyMySQL makes one for every connection, which takes longer than all the rest of it."""
        return sslp if isinstance(sslp, ssl.SSLContext) else opportunistic_tls()


class TiDB:
    """A pool of PyMySQL connections.

    >>> TiDB(P8FSConfig(tidb_password="s3cret"))
    <tidb at root@localhost:4000/test>
    """

    provider: ClassVar[str] = "tidb"
    sqlalchemy_url: ClassVar[str | None] = "mysql+pymysql://"
    transactional: ClassVar[bool] = True
    questions: ClassVar[tuple[str, ...]] = QUESTIONS
    inspected = staticmethod(inspected)

    def __init__(self, settings: P8FSConfig) -> None:
        self._settings = settings
        self._timeout = settings.pool_timeout
        self.faults = Faults(self.provider, "tidb", settings)
        self._turns = Turns(settings.pool_max_size)
        self._circuit = Circuit()
        self._stale_before = 0.0
        """Connections from before this moment are not lent any more."""
        self._asked = threading.local()
        self._made: weakref.WeakSet[_Connection] = weakref.WeakSet()

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

    def open(self) -> None:
        """Make the pool and connect once, so that a fault shows at once."""
        connection_class = self._connection_class()
        self.parameters()  # so that a fault of theirs shows as itself
        self._pool = QueuePool(
            lambda: self._connected(connection_class),  # type: ignore[arg-type]
            pool_size=self._settings.pool_max_size,
            max_overflow=0,
            timeout=self._timeout,
            recycle=round(self._settings.pool_max_lifetime),
            reset_on_return=None,  # `release` has committed or rolled back by then
            use_lifo=True,
        )
        self._from_pool(self._pool, time.monotonic() + self._timeout).close()

    def close(self) -> None:
        self._pool.dispose()

    def acquire(self, deadline: float | None) -> _Connection:
        now = time.monotonic()
        until = now + self._timeout
        if deadline is not None and deadline < until:
            until = deadline
        if not self._turns.take(until - now):
            if self._circuit.failure is not None:
                raise self.unavailable(self._circuit.failure) from self._circuit.failure
            raise PoolExhausted(self.faults.exhausted(until - now))
        try:
            connection = self._sound(self._pool, until)
        except BaseException:
            self._turns.give_back()
            raise
        connection.lend(deadline)
        return connection

    def release(self, connection: _Connection, exc: BaseException | None) -> None:
        try:
            if exc is None:
                self._commit(connection)
            else:
                self._undo(connection)
        except BaseException:
            self._undo(connection)
            raise
        finally:
            self._put_back(connection)

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
            raise StorageUnavailable(self.faults.no_answer()) from exc

    def cut(self, connection: _Connection) -> None:
        if (fileno := connection.fileno()) >= 0:
            shut_down(fileno)

    @staticmethod
    def retry_pause(exc: BaseException) -> float | None:
        """The codes that TiDB documents for it, a deadlock, and MariaDB's conflict of snapshots (1020)."""
        return RETRIED.get(exc.args[0]) if isinstance(exc, pymysql.MySQLError) and exc.args else None

    def stats(self) -> dict[str, int]:
        idle, borrowed = self._pool.checkedin(), self._pool.checkedout()
        return {
            "size": idle + borrowed,
            "idle": idle,
            "waiting": self._turns.waiting,
            "max_size": self._settings.pool_max_size,
        }

    def _sound(self, pool: QueuePool, until: float) -> _Connection:
        while True:
            proxied = self._from_pool(pool, until)
            connection: _Connection = proxied.driver_connection  # type: ignore[assignment]
            if connection.open and not connection.peek() and connection.born >= self._stale_before:
                connection.proxied = proxied
                return connection
            proxied.invalidate()  # the server closed it while it was idle, or it is from before a failover

    def _from_pool(self, pool: QueuePool, until: float) -> PoolProxiedConnection:
        """Return a connection. If the server takes no more, but others work, wait for one of these."""
        self._asked.until = until
        while True:
            try:
                return pool.connect()
            except Exception as exc:
                fault = self._circuit.failure or exc
                timed_out = isinstance(fault, StorageTimeout) or time.monotonic() >= until
                if timed_out or not any(map(_works, tuple(self._made))):
                    raise self.unavailable(fault) from fault
            time.sleep(_GIVEN_BACK)

    def _connected(self, connection_class: type[_Connection]) -> _Connection:
        """Connect for the pool, within the time of whoever asked it; in an outage one caller tries for all."""
        begun = time.monotonic()
        while pause := self._circuit.wait(begun):
            time.sleep(min(pause, max(self._asked.until - time.monotonic(), 0)))
        if pause is None:
            raise StorageUnavailable  # `_from_pool` tells why
        left = max(self._asked.until - time.monotonic(), 0.001)
        try:
            connection = connection_class(**self.parameters(), connect_timeout=left)
        except Exception as exc:
            self._circuit.fail(exc, begun)
            raise
        self._circuit.succeed()
        self._made.add(connection)
        connection.begin_life(quiet_check(connection.fileno()))
        return connection

    def _connection_class(self) -> type[_Connection]:
        engine = self

        class Connection(_Connection):
            faults = engine.faults
            beginning = beginning(engine._settings)
            limit = engine._settings.query_timeout
            slow = engine._settings.slow_query

        return Connection

    def _commit(self, connection: _Connection) -> None:
        if connection.is_lost:
            raise NotCommitted(self.faults.lost())
        if not connection.open or not connection.used:
            return
        try:
            connection.commit()
        except pymysql.MySQLError as fault:
            self.faults.raise_for_commit(fault, text_of(fault), lost=not connection.open)

    def _undo(self, connection: _Connection) -> None:
        """Roll back; a connection that can't is ended."""
        try:
            if connection.open and connection.used:
                connection.rollback()
        except pymysql.MySQLError:
            connection.end()

    def _put_back(self, connection: _Connection) -> None:
        """Take a connection back, its session and the driver's object as they were; what can't be so is ended."""
        proxied, connection.proxied = connection.proxied, None
        sound = False
        try:
            if connection.outdated:
                self._stale_before = time.monotonic()
                connection.end()
            if connection.open and connection.in_step and not connection.reading:
                self._renew(connection)
                connection.deadline = None
                sound = True
        except pymysql.MySQLError:
            pass
        finally:
            if not sound:
                connection.end()
            if proxied:
                proxied.close() if sound else proxied.invalidate()
            self._turns.give_back()

    def _renew(self, connection: _Connection) -> None:
        connection.restore_driver()
        if connection.used:
            if connection.soiled or self._settings.pool_reset == "always":
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
                self.faults.at_fault("production needs verified TLS", "name a file of CAs", *names)
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
            raise StorageUnavailable(self.faults.at_fault(fault, "name another file", "tidb_ssl_ca")) from exc

    def unavailable(self, exc: BaseException | None) -> StorageUnavailable:
        """Return the error that tells why there is no connection, and what settings lead there."""
        if isinstance(exc, StorageTimeout):
            return StorageUnavailable(self.faults.no_answer())
        text, number = (text_of(exc), exc.args[0] if exc.args else 0) if exc else ("no connection", 0)
        if refusal := _tls_refusal(exc):
            text, number = text_of(refusal), 2026
        names, way_out = _FAULTS.get(number, ((), ""))
        return StorageUnavailable(
            self.faults.at_fault(text, way_out, *names) if names else self.faults.no_connection(text)
        )

    def __repr__(self) -> str:
        return f"<{self.faults}>"


def _tls_refusal(exc: BaseException | None) -> ssl.SSLError | None:
    """Return what was wrong with the server's certificate; the drivers tell of it as of a server that is not there."""
    while exc is not None and not isinstance(exc, ssl.SSLError):
        exc = exc.__cause__ or exc.__context__
    return exc


def _works(connection: _Connection) -> bool:
    fileno = connection.fileno()
    return fileno >= 0 and is_whole(fileno)


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
