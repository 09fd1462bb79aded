"""PostgreSQL through psycopg 3 and psycopg_pool."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, ClassVar

import psycopg
import psycopg.rows
import psycopg_pool

from p8fs_cluster.config.dsn import unbracketed
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import StorageError, StorageUnavailable
from p8fs_cluster.providers.engine import Parameters
from p8fs_cluster.providers.faults import Faults
from p8fs_cluster.providers.sockets import is_quiet, shut_after

__all__ = ["PostgreSQL"]

_FAULTS = (
    ("password authentication failed", ("pg_user", "pg_password"), "check user and password"),
    ("no password supplied", ("pg_password",), "set the password"),
    ('role "', ("pg_user",), "check the user, or create it"),
    ('database "', ("pg_database",), "check its name, or create it"),
    ("does not support SSL", ("pg_sslmode",), "start the server with TLS, or allow plain connections"),
    ("certificate", ("pg_sslmode", "pg_sslrootcert"), "check the TLS settings"),
    ("SSL connection", ("pg_sslmode", "pg_sslrootcert"), "check the TLS settings"),
)
"""What the server's or libpq's message says → the settings at fault and the way out."""


class _Connection(psycopg.Connection[Any]):
    """A pooled connection that SQLAlchemy may hold: its `close()` then gives it back."""

    give_back: Callable[[], None] | None = None

    def close(self) -> None:
        give_back, self.give_back = self.give_back, None
        if give_back:
            give_back()
        else:
            super().close()

    def add_notice_handler(self, callback: Callable[[Any], None]) -> None:
        """Add it once: SQLAlchemy adds its own at every checkout."""
        if callback not in self._notice_handlers:
            super().add_notice_handler(callback)


class PostgreSQL:
    """A pool of psycopg connections.

    >>> PostgreSQL(P8FSConfig(pg_password="s3cret"))
    <postgresql at postgres@localhost:5438/app>
    """

    provider: ClassVar[str] = "postgresql"
    sqlalchemy_url: ClassVar[str | None] = "postgresql+psycopg://"
    transactional: ClassVar[bool] = True

    def __init__(self, settings: P8FSConfig) -> None:
        self._settings = settings
        self._timeout = settings.pool_timeout
        self._faults = Faults(self.provider, "pg", settings)
        self._last_failure: BaseException | None = None

    @staticmethod
    def key(settings: P8FSConfig) -> Hashable:
        return (
            settings.pg_host,
            settings.pg_port,
            settings.pg_database,
            settings.pg_user,
            settings.pg_password,
            settings.pg_sslmode,
            settings.pg_sslrootcert,
            settings.pool_max_size,
            settings.pool_timeout,
            settings.pool_max_lifetime,
            settings.service_name,
        )

    def open(self) -> None:
        """Connect once, so that a fault shows at once and as itself, then start the pool."""
        self._probe()
        self._pool = psycopg_pool.ConnectionPool(
            kwargs=self._parameters(),
            connection_class=self._connection_class(),
            min_size=0,
            max_size=self._settings.pool_max_size,
            timeout=self._timeout,
            max_lifetime=self._settings.pool_max_lifetime,
            name=f"p8fs-{self._settings.service_name}",
            open=False,
        )
        self._pool.open()

    def close(self) -> None:
        self._pool.close()

    def acquire(self) -> _Connection:
        deadline = time.monotonic() + self._timeout
        while True:
            connection = self._from_pool(deadline - time.monotonic())
            if not connection.closed and is_quiet(connection.fileno()):
                return connection
            connection.close()  # the server closed it while it was idle
            self._pool.putconn(connection)

    def release(self, connection: _Connection, exc: BaseException | None) -> None:
        try:
            if connection.broken and exc is None:
                raise StorageError("postgresql: the connection was lost in the block, whose writes are not committed")
            if not connection.closed:
                connection.commit() if exc is None else connection.rollback()
                _as_new(connection)
        except psycopg.Error as fault:
            if exc is None:
                raise StorageError(f"postgresql: the transaction could not be committed: {_text(fault)}") from fault
        finally:
            self._pool.putconn(connection)

    def execute(self, connection: psycopg.Connection[Any], sql: str, parameters: Parameters) -> list[Any]:
        try:
            connection.autocommit = True  # one statement is a transaction: BEGIN and COMMIT would be two round trips
            cursor = connection.cursor(row_factory=psycopg.rows.tuple_row).execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []
        except (psycopg.Error, TypeError, ValueError, KeyError) as exc:  # the latter: of the text and its parameters
            raise StorageError(f"postgresql: the statement failed: {_text(exc)}") from exc
        finally:
            if connection.info.transaction_status is psycopg.pq.TransactionStatus.ACTIVE:
                connection.close()  # a COPY was begun
            elif not connection.closed:
                connection.rollback()  # nothing, unless the statement was BEGIN
                connection.autocommit = False

    def ping(self, connection: psycopg.Connection[Any]) -> None:
        try:
            with shut_after(self._timeout, connection.fileno()):
                connection.execute("SELECT 1")
                connection.commit()
        except psycopg.Error as exc:
            raise StorageUnavailable(self._faults.no_answer()) from exc

    def stats(self) -> dict[str, int]:
        pool = self._pool.get_stats()
        return {
            "size": pool["pool_size"],
            "idle": pool["pool_available"],
            "waiting": pool["requests_waiting"],
            "max_size": pool["pool_max"],
        }

    def _from_pool(self, timeout: float) -> _Connection:
        try:
            return self._pool.getconn(timeout=max(timeout, 0.001))
        except psycopg_pool.PoolTimeout as exc:
            if self._last_failure is not None:
                raise StorageUnavailable(self._unreachable(self._last_failure)) from self._last_failure
            raise StorageUnavailable(self._faults.exhausted()) from exc
        except psycopg_pool.PoolClosed as exc:
            raise StorageUnavailable(self._faults.no_connection("the pool was closed meanwhile")) from exc

    def _connection_class(self) -> type[_Connection]:
        engine = self

        class Connection(_Connection):
            @classmethod
            def connect(cls, *args: Any, **kwargs: Any) -> Connection:
                try:
                    connection = super().connect(*args, **kwargs)
                except psycopg.Error as exc:
                    engine._last_failure = exc
                    raise
                engine._last_failure = None
                return connection

        return Connection

    def _probe(self) -> None:
        """Connect in a thread, because libpq's own timeout is in whole seconds, at least two, and one per address."""
        outcome: list[BaseException | None] = []
        thread = threading.Thread(target=lambda: outcome.append(self._try_to_connect()), daemon=True)
        thread.start()
        thread.join(self._timeout)
        if not outcome:
            raise StorageUnavailable(self._faults.no_answer())
        if outcome[0] is not None:
            raise StorageUnavailable(self._unreachable(outcome[0])) from outcome[0]

    def _try_to_connect(self) -> BaseException | None:
        try:
            psycopg.connect(**self._parameters()).close()
        except Exception as exc:
            return exc
        return None

    def _parameters(self) -> dict[str, Any]:
        settings = self._settings
        parameters: dict[str, Any] = {
            "host": unbracketed(settings.pg_host),
            "port": settings.pg_port,
            "dbname": settings.pg_database,
            "user": settings.pg_user,
            "password": settings.pg_password.get_secret_value(),
            "sslmode": settings.pg_sslmode,
            "connect_timeout": max(2, round(self._timeout)),
            "application_name": settings.service_name,
        }
        if settings.pg_sslrootcert:
            parameters["sslrootcert"] = str(settings.pg_sslrootcert)
        return parameters

    def _unreachable(self, exc: BaseException) -> str:
        text = _text(exc)
        for words, names, way_out in _FAULTS:
            if words in text:
                return self._faults.at_fault(text, way_out, *names)
        return self._faults.no_connection(text)

    def __repr__(self) -> str:
        return f"<{self._faults}>"


def _as_new(connection: _Connection) -> None:
    """Undo what the borrower set on the connection: no round trip, and nothing where nothing was set."""
    connection.row_factory = psycopg.rows.tuple_row
    if connection.autocommit:
        connection.autocommit = False
    for name in ("read_only", "deferrable", "isolation_level"):
        if getattr(connection, name) is not None:
            setattr(connection, name, None)


def _text(exc: BaseException) -> str:
    """The first line; libpq's others guess at causes, or tell of each address that was tried."""
    return " ".join(str(exc).partition("\n")[0].split()) or type(exc).__name__
