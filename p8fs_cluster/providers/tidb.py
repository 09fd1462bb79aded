"""TiDB (and whatever else speaks MySQL's protocol) through PyMySQL in a pool of SQLAlchemy."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from p8fs_cluster.config.dsn import unbracketed
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import StorageError, StorageUnavailable
from p8fs_cluster.providers.engine import Parameters
from p8fs_cluster.providers.faults import Faults
from p8fs_cluster.providers.sockets import is_quiet, shut_after
from p8fs_cluster.providers.turns import Turns

__all__ = ["TiDB"]

_FAULTS: Mapping[int, tuple[tuple[str, ...], str]] = {
    1044: (("tidb_user", "tidb_database"), "grant the user access to the database"),
    1045: (("tidb_user", "tidb_password"), "check user and password"),
    1049: (("tidb_database",), "check its name, or create it"),
    1698: (("tidb_user", "tidb_password"), "check user and password"),
}
"""The server's error number → the settings at fault and the way out."""


class _Connection(Connection):
    """A pooled connection that SQLAlchemy may hold: its `close()` then gives it back."""

    give_back: Callable[[], None] | None = None
    proxied: PoolProxiedConnection | None = None
    _sock: Any
    _closed: bool
    _read_timeout: float | None

    def connect(self, sock: Any = None) -> None:
        """Bound the handshake too: a server that accepts and then hangs would hold PyMySQL for ever."""
        read_timeout, self._read_timeout = self._read_timeout, self.connect_timeout
        try:
            super().connect(sock)
        finally:
            self._read_timeout = read_timeout

    def close(self) -> None:
        give_back, self.give_back = self.give_back, None
        if give_back:
            give_back()
        elif self.open:
            super().close()

    @property
    def is_lost(self) -> bool:
        """Whether it ended otherwise than by `close()`."""
        return not self.open and not self._closed

    def fileno(self) -> int:
        """Return the descriptor of the socket, -1 when there is none."""
        return self._sock.fileno() if self._sock else -1

    def _create_ssl_ctx(self, sslp: Any) -> ssl.SSLContext:
        """Share one context: PyMySQL makes one for every connection, which takes longer than all the rest of it."""
        return sslp if isinstance(sslp, ssl.SSLContext) else _opportunistic_tls()


class TiDB:
    """A pool of PyMySQL connections.

    >>> TiDB(P8FSConfig(tidb_password="s3cret"))
    <tidb at root@localhost:4000/test>
    """

    provider: ClassVar[str] = "tidb"
    sqlalchemy_url: ClassVar[str | None] = "mysql+pymysql://"
    transactional: ClassVar[bool] = True

    def __init__(self, settings: P8FSConfig) -> None:
        self._settings = settings
        self._timeout = settings.pool_timeout
        self._faults = Faults(self.provider, "tidb", settings)
        self._turns = Turns(settings.pool_max_size)

    @staticmethod
    def key(settings: P8FSConfig) -> Hashable:
        return (
            settings.tidb_host,
            settings.tidb_port,
            settings.tidb_database,
            settings.tidb_user,
            settings.tidb_password,
            settings.tidb_ssl_ca,
            settings.pool_max_size,
            settings.pool_timeout,
            settings.pool_max_lifetime,
            settings.service_name,
        )

    def open(self) -> None:
        """Make the pool and connect once, so that a fault shows at once."""
        parameters = self._parameters()
        self._pool = QueuePool(
            lambda: _Connection(**parameters),  # type: ignore[arg-type]
            pool_size=self._settings.pool_max_size,
            max_overflow=0,
            timeout=self._timeout,
            recycle=round(self._settings.pool_max_lifetime),
            reset_on_return=None,  # `release` has committed or rolled back by then
            use_lifo=True,
        )
        self._from_pool().close()

    def close(self) -> None:
        self._pool.dispose()

    def acquire(self) -> _Connection:
        if not self._turns.take(self._timeout):
            raise StorageUnavailable(self._faults.exhausted())
        try:
            return self._sound()
        except BaseException:
            self._turns.give_back()
            raise

    def release(self, connection: _Connection, exc: BaseException | None) -> None:
        proxied, connection.proxied = connection.proxied, None
        try:
            if connection.is_lost and exc is None:
                raise StorageError("tidb: the connection was lost in the block, whose writes are not committed")
            if connection.open:
                connection.commit() if exc is None else connection.rollback()
                connection.autocommit(False)  # a round trip only when the borrower had switched it on
                connection.cursorclass = Cursor
        except pymysql.MySQLError as fault:
            if exc is None:
                raise StorageError(f"tidb: the transaction could not be committed: {_text(fault)}") from fault
        finally:
            if proxied and connection.open:
                proxied.close()
            elif proxied:
                proxied.invalidate()
            self._turns.give_back()

    def execute(self, connection: _Connection, sql: str, parameters: Parameters) -> list[Any]:
        try:
            with connection.cursor(Cursor) as cursor:
                cursor.execute(sql, parameters)
                return list(cursor.fetchall()) if cursor.description else []
        except (pymysql.MySQLError, TypeError, ValueError, KeyError) as exc:  # the latter: of the text and parameters
            raise StorageError(f"tidb: the statement failed: {_text(exc)}") from exc

    def ping(self, connection: _Connection) -> None:
        try:
            with shut_after(self._timeout, connection.fileno()):
                connection.ping(reconnect=False)
        except pymysql.MySQLError as exc:
            raise StorageUnavailable(self._faults.no_answer()) from exc

    def stats(self) -> dict[str, int]:
        idle, borrowed = self._pool.checkedin(), self._pool.checkedout()
        return {
            "size": idle + borrowed,
            "idle": idle,
            "waiting": self._turns.waiting,
            "max_size": self._settings.pool_max_size,
        }

    def _sound(self) -> _Connection:
        while True:
            proxied = self._from_pool()
            connection: _Connection = proxied.driver_connection  # type: ignore[assignment]
            if connection.open and is_quiet(connection.fileno()):
                connection.proxied = proxied
                return connection
            proxied.invalidate()  # the server closed it while it was idle

    def _from_pool(self) -> PoolProxiedConnection:
        try:
            return self._pool.connect()
        except Exception as exc:
            raise StorageUnavailable(self._unreachable(exc)) from exc

    def _parameters(self) -> dict[str, Any]:
        settings = self._settings
        parameters: dict[str, Any] = {
            "user": settings.tidb_user,
            "password": settings.tidb_password.get_secret_value().encode(),  # a str would be sent as Latin-1
            "database": settings.tidb_database,
            "connect_timeout": self._timeout,
            "program_name": settings.service_name,
        }
        if settings.tidb_host.startswith("/"):
            parameters["unix_socket"] = settings.tidb_host
        else:
            parameters |= {"host": unbracketed(settings.tidb_host), "port": settings.tidb_port}
        if settings.tidb_ssl_ca:
            parameters["ssl"] = self._verified_tls(settings.tidb_ssl_ca)
        return parameters

    def _verified_tls(self, authorities: Path) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=authorities)
        except OSError as exc:
            fault = f"{authorities} holds no usable certificates ({exc})"
            raise StorageUnavailable(self._faults.at_fault(fault, "name another file", "tidb_ssl_ca")) from exc

    def _unreachable(self, exc: Exception) -> str:
        names, way_out = _FAULTS.get(exc.args[0] if exc.args else 0, ((), ""))
        if names:
            return self._faults.at_fault(_text(exc), way_out, *names)
        return self._faults.no_connection(_text(exc))

    def __repr__(self) -> str:
        return f"<{self._faults}>"


@cache
def _opportunistic_tls() -> ssl.SSLContext:
    """TLS when the server offers it, unverified: what PyMySQL does when nothing is said. `tidb_ssl_ca` verifies."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _text(exc: BaseException) -> str:
    return " ".join(str(argument) for argument in exc.args) or type(exc).__name__
