"""Lease rows on TiDB, and on whatever else speaks MySQL's protocol."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, ClassVar, TypeVar

import pymysql
from pymysql.constants import SERVER_STATUS

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.di.settings import SettingsSource
from p8fs_cluster.exceptions import StorageError
from p8fs_cluster.providers.storage.direct import Direct
from p8fs_cluster.providers.storage.engines import spec_of
from p8fs_cluster.providers.storage.leases import TABLE, Busy, LeaseStore, Limits, NoTable, Run, Spelling, Stamp
from p8fs_cluster.providers.storage.tidb.compat import DriverConnection
from p8fs_cluster.providers.storage.tidb.connection import Connection, Cursor, connect
from p8fs_cluster.providers.storage.tidb.engine import TiDB
from p8fs_cluster.providers.storage.tidb.session import described, number_of, retry_pause

__all__ = ["DirectTiDB", "Leases"]

T = TypeVar("T")

_COMMON = (
    ("$greatest", "GREATEST"),
    ("$key", "VARBINARY(300)"),  # no collation takes two names for one
    ("$text", "TEXT"),
    ("$ignore", "IGNORE"),
    ("$nothing", ""),
    ("$id", "VARCHAR(36)"),
    ("$fence_key", ""),
    ("$locking", "FOR UPDATE"),
    ("$often", ""),
)
_MICROSECONDS = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
_MYSQL = (*_COMMON, ("$now", _MICROSECONDS), ("$ms", f"({_MICROSECONDS} DIV 1000)"))
_MILLISECONDS = "CAST(@@tidb_current_ts >> 18 AS SIGNED)"
_TIDB = (*_COMMON, ("$now", f"({_MILLISECONDS} * 1000)"), ("$ms", _MILLISECONDS))
"""TiDB's clock is the cluster's, which each transaction has from its beginning; NOW() is that of one tidb-server."""

_LOCKED = (1205, 3572)
"""Errors of a row that somebody else has locked."""
_LIMITS = Limits(15, 5, "TiDB's clock may jump by 3 s when its leader changes")


class Leases:
    """TiDB's coordination: a guard locks the row, so that renewals wait for the transaction that has it."""

    guard: ClassVar[str] = "FOR UPDATE"
    announces: ClassVar[bool] = False

    def __init__(self, settings: SettingsSource) -> None:
        self._settings = settings

    def store(self, clock: Callable[[], float]) -> LeaseStore:
        return _Store(self._settings)

    @staticmethod
    def commits_at_once(connection: Any) -> bool:
        return bool(connection.get_autocommit())

    @staticmethod
    def refusal(settings: P8FSConfig) -> str:
        return ""


class DirectConnection(Connection):
    """A connection whose statements are ours, so that nobody looks at what they do to the session."""

    query = DriverConnection.query
    _execute_command = DriverConnection._execute_command
    _read_query_result = DriverConnection._read_query_result

    @property
    def unfinished(self) -> bool:
        return bool(self.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)


class DirectTiDB(TiDB):
    """Two connections that nobody else borrows: each statement commits, unless a transaction was begun."""

    def __init__(self, settings: P8FSConfig) -> None:
        super().__init__(settings.with_changes({"pool_max_size": 2, "slow_query": None}))

    def _connect(self, seconds: float) -> Connection:
        connection = connect(self._settings, self.messages, seconds, DirectConnection)
        connection.autocommit(True)
        connection.query("SET innodb_lock_wait_timeout = 0")  # a second on TiDB, where NOWAIT is written as well
        return connection

    def _commit(self, connection: Connection) -> None:
        try:
            super()._commit(connection)
        except StorageError as exc:
            raise _meant(exc, exc.__cause__) from exc.__cause__

    def _renew(self, connection: Connection) -> None:
        if not connection.in_step:
            connection.end()


class _Store:
    def __init__(self, settings: SettingsSource) -> None:
        self._direct = Direct(settings, spec_of, DirectTiDB)
        self._tidb, self._mysql = Spelling(_TIDB), Spelling(_MYSQL)

    def execute(self, sql: str, parameters: Sequence[Any], seconds: float) -> list[tuple[Any, ...]]:
        with self._direct.connection(seconds) as connection:
            return self._run(connection, sql, parameters)

    def update(
        self, fence: str, others: str, where: str, parameters: Sequence[Any], seconds: float, *, announce: bool = False
    ) -> Stamp | None:
        with self._direct.connection(seconds) as connection:
            if _is_tidb(connection):
                return self._lock_and_update(connection, fence, others, where, parameters)
            sql = f"UPDATE {TABLE} SET fence = LAST_INSERT_ID({fence}), {others} WHERE {where}"
            number = self._cursor(connection, sql, parameters).lastrowid  # which counts no rows, found or changed
        return Stamp(number, 0) if number else None

    def transact(self, work: Callable[[Run], T], seconds: float) -> T:
        with self._direct.connection(seconds) as connection:
            self._begin(connection)
            return work(lambda sql, parameters: self._run(connection, sql, parameters, begun=True))

    def limits(self, seconds: float) -> Limits | None:
        with self._direct.connection(seconds) as connection:
            return _LIMITS if _is_tidb(connection) else None

    def announcements(self) -> Generator[str | None, None, None] | None:
        return None

    def close(self) -> None:
        self._direct.close()

    def _lock_and_update(
        self, connection: Any, fence: str, others: str, where: str, parameters: Sequence[Any]
    ) -> Stamp | None:
        """Decide by the locked row: what an UPDATE tells may be of a first try that TiDB has repeated."""
        given = others.count("%s")
        self._begin(connection)
        found = f"SELECT {fence} FROM {TABLE} WHERE ({where}) AND @@tidb_current_ts > 0 FOR UPDATE NOWAIT"
        rows = self._run(connection, found, parameters[given:], begun=True)
        if not rows:
            return None
        changed = f"UPDATE {TABLE} SET fence = %s, {others} WHERE {where}"
        self._run(connection, changed, (rows[0][0], *parameters), begun=True)
        return Stamp(int(rows[0][0]), 0)

    def _run(self, connection: Any, sql: str, parameters: Sequence[Any], begun: bool = False) -> list[tuple[Any, ...]]:
        if not begun and _is_tidb(connection) and ("$now" in sql or "$ms" in sql):
            self._begin(connection)  # outside of a transaction TiDB's clock is 0
        cursor = self._cursor(connection, sql, parameters)
        return [tuple(map(_text, row)) for row in cursor.fetchall()] if cursor.description else []

    def _begin(self, connection: Any) -> None:
        self._cursor(connection, "BEGIN /*T! PESSIMISTIC */", ())

    def _cursor(self, connection: Any, sql: str, parameters: Sequence[Any]) -> Any:
        cursor = connection.cursor(Cursor)
        try:
            cursor.execute((self._tidb if _is_tidb(connection) else self._mysql)(sql), parameters)
        except pymysql.MySQLError as exc:
            raise _meant(StorageError(f"tidb: the statement failed: {described(exc, connection.size)}"), exc) from exc
        return cursor


def _is_tidb(connection: Any) -> bool:
    return "-TiDB-" in connection.server_version


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _meant(exc: StorageError, cause: BaseException | None) -> StorageError:
    number = number_of(cause) if isinstance(cause, pymysql.MySQLError) else 0
    if number in (1054, 1146):
        return NoTable(str(exc))
    contended = cause is not None and retry_pause(cause) is not None
    return Busy(str(exc)) if number in _LOCKED or contended else exc
