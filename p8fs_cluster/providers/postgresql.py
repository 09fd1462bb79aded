"""PostgreSQL through psycopg 3 and psycopg_pool."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import cache
from typing import Any, ClassVar, Self

import psycopg
import psycopg.rows
import psycopg_pool

from p8fs_cluster.config.dsn import unbracketed
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import NotCommitted, PoolExhausted, StorageError, StorageTimeout, StorageUnavailable
from p8fs_cluster.providers.circuit import Circuit
from p8fs_cluster.providers.engine import Parameters, Span
from p8fs_cluster.providers.faults import Faults
from p8fs_cluster.providers.postgresql_session import RESET, Session, is_of_a_cached_plan, text_of, told
from p8fs_cluster.providers.slow import tell_slow
from p8fs_cluster.providers.sockets import addresses, quiet_check, shut_down

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

    home: ClassVar[psycopg_pool.ConnectionPool[_Connection]]
    spare: ClassVar[_Connection | None] = None

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

    @classmethod
    def fresh(cls, *args: Any, **kwargs: Any) -> _Connection:
        """Return a new connection."""
        raise NotImplementedError

    @classmethod
    def close_spare(cls) -> None:
        """Close the connection that no pool has taken."""
        spare, cls.spare = cls.spare, None
        if spare:
            spare.close()

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
    questions: ClassVar[tuple[str, ...]] = ("SELECT VERSION()",)

    def __init__(self, settings: P8FSConfig) -> None:
        self._settings = settings
        self._timeout = settings.pool_timeout
        self.faults = Faults(self.provider, "pg", settings)
        self._circuit = Circuit()
        self._stale_before = 0.0
        """Connections from before this moment are not lent any more."""
        self._lock = threading.Lock()
        self._pool: psycopg_pool.ConnectionPool[_Connection] | None = None
        self._made: weakref.WeakSet[_Connection] = weakref.WeakSet()

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

    def open(self) -> None:
        """Connect once, so that a fault shows at once and as itself, then start the pool."""
        self._restored(time.monotonic() + self._timeout)

    def close(self) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
        if pool:
            pool.close()
            pool.connection_class.close_spare()

    def acquire(self, deadline: float | None) -> _Connection:
        until = time.monotonic() + self._timeout
        if deadline is not None and deadline < until:
            until = deadline
        while True:
            pool = self._pool or self._restored(until)
            connection = self._from_pool(pool, until - time.monotonic())
            if connection is None:
                continue  # the server was lost meanwhile, and the pool given up
            if not connection.closed and not connection.peek() and connection.born >= self._stale_before:
                break
            connection.end()  # the server closed it while it was idle, or it is from before a failover
            pool.putconn(connection)
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
            raise StorageUnavailable(self.faults.no_answer()) from exc

    def cut(self, connection: _Connection) -> None:
        if not connection.closed:
            shut_down(connection.fileno())

    @staticmethod
    def retry_pause(exc: BaseException) -> float | None:
        """Serialization failures, deadlocks and changed tables, of which the server says that nothing was done."""
        return 0.01 if getattr(exc, "sqlstate", None) in ("40001", "40P01") or is_of_a_cached_plan(exc) else None

    @staticmethod
    def inspected(answers: Sequence[Sequence[tuple[Any, ...]]]) -> str:
        [[(version,)]] = answers
        return " ".join(version.split()[:2])

    def stats(self) -> dict[str, int]:
        pool = self._pool.get_stats() if self._pool else Counter()
        return {
            "size": pool["pool_size"],
            "idle": pool["pool_available"],
            "waiting": pool["requests_waiting"],
            "max_size": self._settings.pool_max_size,
        }

    def _from_pool(self, pool: psycopg_pool.ConnectionPool[_Connection], timeout: float) -> _Connection | None:
        try:
            return pool.getconn(timeout=max(timeout, 0.001))
        except psycopg_pool.PoolTimeout as exc:
            if self._circuit.failure is not None:
                raise self.unavailable(self._circuit.failure) from self._circuit.failure
            raise PoolExhausted(self.faults.exhausted(timeout)) from exc
        except psycopg_pool.PoolClosed as exc:
            if self._pool is not pool:
                return None
            raise StorageUnavailable(self.faults.no_connection("the pool was closed meanwhile")) from exc

    def _commit(self, connection: _Connection) -> None:
        if connection.is_lost:
            raise NotCommitted(self.faults.lost())
        if connection.closed or not connection.unfinished:
            return
        try:
            connection.commit()
        except psycopg.Error as fault:
            self.faults.raise_for_commit(fault, text_of(fault), lost=connection.closed)

    def _undo(self, connection: _Connection) -> None:
        """Roll back; a connection that can't is ended."""
        try:
            if not connection.closed and connection.pgconn.transaction_status:
                connection.rollback()
        except psycopg.Error:
            connection.end()

    def _put_back(self, connection: _Connection) -> None:
        """Take a connection back, its session and the driver's object as they were; what can't be so is ended."""
        sound = False
        try:
            if connection.outdated:
                self._stale_before = time.monotonic()
                connection.end()
            if not connection.closed:
                connection.restore_driver(_Cursor, psycopg.ServerCursor)
                self._renew(connection)
                connection.deadline = None
            sound = True
        except psycopg.Error:
            pass
        finally:
            if not sound:
                connection.end()
            connection.home.putconn(connection)

    def _renew(self, connection: _Connection) -> None:
        if connection.autocommit:
            connection.autocommit = False
        if connection.spoilt:
            connection.end()
        elif connection.needs_reset(self._settings):
            connection.isolation_level = connection.read_only = connection.deferrable = None
            connection.autocommit = True
            connection.execute(RESET)
            connection.autocommit = False
            connection.soiled = connection.spoilt = False

    def _restored(self, until: float) -> psycopg_pool.ConnectionPool[_Connection]:
        """Return the pool, made anew when the server can be reached: an old one would wait for long before it tries.

        One caller tries; the others wait for what comes of it.
        """
        begun = time.monotonic()
        while (pause := self._circuit.wait(begun)) != 0 and self._pool is None:
            if pause is None:
                raise self.unavailable(self._circuit.failure) from self._circuit.failure
            time.sleep(min(pause, max(until - time.monotonic(), 0)))
        connection_class = self._connection_class()
        if self._pool is None:
            connection_class.spare = self._connected(connection_class, until)
        with self._lock:
            if self._pool is None:
                self._pool = self._made_pool(connection_class)
                return self._pool
        connection_class.close_spare()
        return self._pool

    def _made_pool(self, connection_class: type[_Connection]) -> psycopg_pool.ConnectionPool[_Connection]:
        pool = connection_class.home = psycopg_pool.ConnectionPool(
            kwargs=self.parameters(),
            connection_class=connection_class,
            min_size=0,
            max_size=self._settings.pool_max_size,
            timeout=self._timeout,
            max_lifetime=self._settings.pool_max_lifetime,
            reconnect_timeout=0,  # trying again is the circuit's
            name=f"p8fs-{self._settings.service_name}",
            open=False,
        )
        pool.open()
        return pool

    def _connection_class(self) -> type[_Connection]:
        engine = self

        class Connection(_Connection):
            faults = engine.faults

            @classmethod
            def connect(cls, *args: Any, **kwargs: Any) -> Connection:
                """Connect for the pool; its first connection is the one that showed that the server is there."""
                spare, cls.spare = cls.spare, None
                if spare:
                    return spare  # type: ignore[return-value]
                begun = time.monotonic()
                try:
                    connection = cls.fresh(*args, **kwargs)
                except psycopg.Error as exc:
                    engine._give_up(cls.home, exc, begun)
                    raise
                engine._circuit.succeed()
                return connection

            @classmethod
            def fresh(cls, *args: Any, **kwargs: Any) -> Connection:
                connection = super().connect(*args, cursor_factory=_Cursor, **kwargs)
                connection.begin_life(engine._settings, quiet_check(connection.fileno()))
                engine._made.add(connection)
                return connection

        return Connection

    def _give_up(self, pool: psycopg_pool.ConnectionPool[_Connection], exc: psycopg.Error, begun: float) -> None:
        """Fail all who wait for a connection, unless some work: then the server only takes no more, and they wait."""
        self._circuit.fail(exc, begun)
        timed_out = isinstance(exc, psycopg.errors.ConnectionTimeout)
        if not timed_out and any(connection.works() for connection in tuple(self._made)):
            return
        with self._lock:
            if self._pool is not pool:
                return
            self._pool = None
        threading.Thread(target=pool.close, args=(0.1,), daemon=True).start()  # we are one of its own threads

    def _connected(self, connection_class: type[_Connection], until: float) -> _Connection:
        """Connect in a thread, because libpq's own timeout is in whole seconds, at least two, and one per address."""
        outcome: Future[_Connection] = Future()
        begun = time.monotonic()
        threading.Thread(target=self._connect, args=(connection_class, outcome), daemon=True).start()
        done, _ = wait((outcome,), max(until - begun, 0.001))
        late = not done and outcome.cancel()  # what comes now, the thread closes
        fault = StorageUnavailable(self.faults.no_answer()) if late else outcome.exception()
        if fault is not None:
            self._circuit.fail(fault, begun)
            raise self.unavailable(fault) from fault
        self._circuit.succeed()
        return outcome.result()

    def _connect(self, connection_class: type[_Connection], outcome: Future[_Connection]) -> None:
        try:
            connection = connection_class.fresh(**self.parameters())
        except Exception as exc:
            if outcome.set_running_or_notify_cancel():
                outcome.set_exception(exc)
            return
        if outcome.set_running_or_notify_cancel():
            outcome.set_result(connection)
        else:
            connection.close()

    def parameters(self) -> dict[str, Any]:
        """Return what psycopg connects with."""
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
            "connect_timeout": max(
                2, int(self._timeout / sum(map(addresses, hosts)))
            ),  # for each address; 2: libpq's least
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
        if isinstance(exc, StorageUnavailable):
            return StorageUnavailable(str(exc))
        text = text_of(exc) if exc else "no connection"
        for words, names, way_out in _FAULTS:
            if words in text:
                return StorageUnavailable(self.faults.at_fault(text, way_out, *names))
        return StorageUnavailable(self.faults.no_connection(text))

    def __repr__(self) -> str:
        return f"<{self.faults}>"
