"""PostgreSQL through psycopg 3."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, ClassVar, Self

import psycopg
import psycopg.rows

from p8fs_cluster.config.dsn import unbracketed
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import StorageError, StorageTimeout, StorageUnavailable
from p8fs_cluster.providers.storage.engines import Parameters, Span
from p8fs_cluster.providers.storage.messages import Messages
from p8fs_cluster.providers.storage.observability import tell_slow
from p8fs_cluster.providers.storage.outcome import Outcome
from p8fs_cluster.providers.storage.postgresql.session import RESET, Session, is_of_a_cached_plan, text_of, told
from p8fs_cluster.providers.storage.server import Server
from p8fs_cluster.providers.storage.sockets import addresses, pending_data_check

__all__ = ["PostgreSQL"]

log = logging.getLogger("p8fs_cluster.storage")

_FAULTS = (
    ("password authentication failed", ("pg_user", "pg_password"), "check user and password"),
    ("no password supplied", ("pg_password",), "set the password"),
    ('role "', ("pg_user",), "check the user, or create it"),
    ('database "', ("pg_database",), "check its name, or create it"),
    ("does not support SSL", ("pg_sslmode",), "start the server with TLS, or allow plain connections"),
    ("certificate", ("pg_sslmode", "pg_sslrootcert", "pg_sslcert"), "check the TLS settings"),
    ("private key", ("pg_sslcert", "pg_sslkey"), "check the TLS settings"),
    ("definition of service", ("pg_host",), "unset PGSERVICE, which is none of our settings"),
    ("unsupported startup parameter", ("pg_pgbouncer", "pg_statement_timeout"), "a PgBouncer is in between: say so"),
    ("server is ", ("pg_host", "pg_target_session_attrs"), "name a host that will do, or ask for less"),
    ("SSL connection", ("pg_sslmode", "pg_sslrootcert"), "check the TLS settings"),
)
"""What the server's or libpq's message says → the settings at fault and the way out."""


@cache
def _tell_once(names: tuple[str, ...]) -> None:
    """Log which variables steer sessions, once: the settings are asked for at each connect."""
    log.warning("libpq gives every session what %s says, and no setting overrules that: unset it", ", ".join(names))


_UNSET = ("hostaddr", "options", "requirepeer", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslcrldir")
"""Options of libpq that have no default, and for which an empty text stands for none."""


def _not_from_the_environment() -> dict[str, Any]:
    """Return libpq's own defaults for what variables such as PGOPTIONS or PGHOSTADDR would set beside our settings.

    What a service of PGSERVICE sets is overruled as well. Three variables make settings of the session and can't be.
    """
    if steering := tuple(name for name in ("PGTZ", "PGDATESTYLE", "PGGEQO") if name in os.environ):
        _tell_once(steering)
    named = {}
    for option in psycopg.pq.Conninfo.get_defaults():
        keyword, variable = option.keyword.decode(), (option.envvar or b"").decode()
        by_service = "PGSERVICE" in os.environ and (option.compiled is not None or keyword in _UNSET)
        if keyword not in ("service", "servicefile") and (variable in os.environ or by_service):
            named[keyword] = (option.compiled or b"").decode()
    return named


class _Cursor(psycopg.Cursor[Any]):
    """The cursor of every borrower who names no other: it says which statements leave the session alone."""

    __slots__ = ()

    def execute(self, query: Any, params: Any = None, *, prepare: Any = None, binary: Any = None) -> Self:
        connection: _Connection = self._conn  # type: ignore[assignment]
        connection.vouch(query)
        had_failed = connection.has_failed
        started = time.monotonic() if connection.slow else 0.0
        is_first = not connection.pgconn.transaction_status
        try:
            super().execute(query, params, prepare=prepare, binary=binary)
        except psycopg.errors.FeatureNotSupported as exc:
            if not (is_first and is_of_a_cached_plan(exc)):
                raise
            connection.rollback()  # nothing was done before, nor by the statement
            super().execute(query, params, prepare=False, binary=binary)
        finally:
            connection.vouched_for()
            if connection.slow:
                tell_slow("postgresql", query, time.monotonic() - started, connection.slow)
        if had_failed and connection.was_undone(query):
            raise connection.undone()
        return self

    def executemany(self, query: Any, *args: Any, **kwargs: Any) -> None:
        connection: _Connection = self._conn  # type: ignore[assignment]
        connection.vouch(query)
        try:
            super().executemany(query, *args, **kwargs)
        finally:
            connection.vouched_for()


class _Connection(Session, psycopg.Connection[Any]):
    """A pooled connection that SQLAlchemy may hold: its `close()` then gives it back. All its waits end."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        seconds = self.seconds_for(gen)
        try:
            return super().wait(gen, interval, seconds)
        except psycopg.errors._WaitTimeout as exc:
            raise self.too_late() from exc
        except psycopg.Error as exc:
            self.note(exc)
            raise

    def commit(self) -> None:
        """Commit, if that is what the server would do.

        :raises NotCommitted: the transaction has failed, was left between two phases, or its session is gone.
        """
        if refusal := self.refusal():
            raise refusal
        super().commit()

    @contextmanager
    def transaction(self, *args: Any, **kwargs: Any) -> Iterator[psycopg.Transaction]:
        """Give a block that is a transaction, or a savepoint within one; see psycopg.

        :raises NotCommitted: a statement had failed in it, and the block caught its error.
        """
        with super().transaction(*args, **kwargs) as transaction:
            yield transaction
            if self.has_failed and not transaction.force_rollback:
                raise self.undone()

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


class PostgreSQL(Server[_Connection]):
    """A pool of psycopg connections.

    >>> PostgreSQL(P8FSConfig(pg_password="s3cret"))
    <postgresql at postgres@localhost:5438/app>
    """

    provider: ClassVar[str] = "postgresql"
    sqlalchemy_url: ClassVar[str | None] = "postgresql+psycopg://"
    transactional: ClassVar[bool] = True
    questions: ClassVar[tuple[str, ...]] = ("SELECT VERSION()",)
    error = psycopg.Error

    def __init__(self, settings: P8FSConfig) -> None:
        super().__init__(settings, Messages(self.provider, "pg", settings))

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
            settings.pg_sslcert,
            settings.pg_sslkey,
            settings.pg_target_session_attrs,
            settings.pg_statement_timeout,
            settings.pg_pgbouncer,
            settings.pod_name,
            settings.pool_max_size,
            settings.pool_timeout,
            settings.pool_max_lifetime,
            settings.pool_reset,
            settings.query_timeout,
            settings.slow_query,
            settings.service_name,
        )

    def execute(self, connection: psycopg.Connection[Any], sql: str, parameters: Parameters) -> list[Any]:
        try:
            connection.autocommit = True  # one statement is a transaction: BEGIN and COMMIT would be two round trips
            cursor = connection.cursor(row_factory=psycopg.rows.tuple_row)
            cursor.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []
        except StorageTimeout:
            raise
        except (psycopg.Error, TypeError, ValueError, KeyError) as exc:  # the latter: of the text and its parameters
            raise StorageError(f"postgresql: the statement failed: {told(exc)}") from exc
        finally:
            if connection.info.transaction_status is psycopg.pq.TransactionStatus.ACTIVE:
                connection.close()  # a COPY was begun
            elif not connection.closed:
                connection.rollback()  # nothing, unless the statement was BEGIN
                connection.autocommit = False

    def scan(self, connection: _Connection, span: Span, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
        raise StorageError("postgresql has no keys to scan: ask it by SQL")

    def ping(self, connection: psycopg.Connection[Any]) -> None:
        try:
            connection.execute("SELECT 1")
            connection.commit()
        except psycopg.Error as exc:
            raise StorageUnavailable(self.messages.no_answer()) from exc

    @staticmethod
    def retry_pause(exc: BaseException) -> float | None:
        """Serialization failures, deadlocks and changed tables, of which the server says that nothing was done."""
        return 0.01 if getattr(exc, "sqlstate", None) in ("40001", "40P01") or is_of_a_cached_plan(exc) else None

    @staticmethod
    def inspected(answers: Sequence[Sequence[tuple[Any, ...]]]) -> str:
        [[(version,)]] = answers
        return " ".join(version.split()[:2])

    def _connect(self, seconds: float) -> _Connection:
        """Connect in a thread, because libpq's own timeout is in whole seconds, at least two, and one per address."""
        outcome: Outcome[_Connection] = Outcome()
        outcome.begin(self._connect_for, outcome)
        try:
            return outcome.result(seconds)
        except TimeoutError:
            if outcome.claim():  # what comes now, the thread closes
                raise
            return outcome.result()  # it has come between the timeout and now
        except BaseException:
            if not outcome.claim():
                outcome.result().close()
            raise

    def _connect_for(self, outcome: Outcome[_Connection]) -> None:
        try:
            connection = _Connection.connect(**self.parameters(), cursor_factory=_Cursor)
            connection.messages = self.messages
            connection.begin_life(self._settings, pending_data_check(connection.fileno()))
        except Exception as exc:
            outcome.raised(exc)
            return
        if outcome.claim():
            outcome.returned(connection)
        else:
            connection.close()

    def _commit(self, connection: _Connection) -> None:
        try:
            connection.commit()
        except psycopg.Error as fault:
            self.messages.raise_for_commit(fault, text_of(fault), lost=connection.closed)

    def _renew(self, connection: _Connection) -> None:
        connection.restore_driver(_Cursor, psycopg.ServerCursor)
        if connection.autocommit:
            connection.autocommit = False
        if connection.beyond_reset:
            connection.end()
        elif connection.needs_reset(self._settings):
            connection.isolation_level = connection.read_only = connection.deferrable = None
            connection.autocommit = True
            connection.execute(RESET)
            connection.autocommit = False
            connection.dirty = connection.beyond_reset = False

    def parameters(self) -> dict[str, Any]:
        """Return what psycopg connects with; `connect_timeout` is for each address, and 2 is libpq's least."""
        settings = self._settings
        hosts = [unbracketed(host) for host in settings.pg_host.split(",")]
        unanswered = 1000 * (settings.query_timeout or 0)
        parameters: dict[str, Any] = {
            "host": ",".join(hosts),
            "port": settings.pg_port,
            "dbname": settings.pg_database,
            "user": settings.pg_user,
            "password": settings.pg_password.get_secret_value(),
            "sslmode": settings.pg_sslmode,
            "target_session_attrs": settings.pg_target_session_attrs,
            "connect_timeout": max(2, int(self._timeout / sum(len(addresses(host)) for host in hosts))),
            "application_name": "@".join(filter(None, (settings.service_name, settings.pod_name))),
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": round(unanswered),
        }
        for name in ("sslrootcert", "sslcert", "sslkey"):
            if path := getattr(settings, f"pg_{name}"):
                parameters[name] = str(path)
        if settings.pg_pgbouncer:
            parameters["prepare_threshold"] = None
        elif settings.pg_statement_timeout:
            parameters["options"] = f"-c statement_timeout={1000 * settings.pg_statement_timeout:.0f}"
        return {**_not_from_the_environment(), **parameters}

    def unavailable(self, exc: BaseException | None) -> StorageUnavailable:
        """Return the error that tells why there is no connection, and what settings lead there."""
        text = text_of(exc) if exc else "no connection"
        for words, names, way_out in _FAULTS:
            if words in text:
                return StorageUnavailable(self.messages.at_fault(text, way_out, *names))
        return StorageUnavailable(self.messages.no_connection(text))
