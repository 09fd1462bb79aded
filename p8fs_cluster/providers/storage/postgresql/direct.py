"""Connections to PostgreSQL for our own statements: prepared once, sent by libpq's calls, without a cursor."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import psycopg

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import StorageError
from p8fs_cluster.providers.storage.engines import Parameters
from p8fs_cluster.providers.storage.leases import Busy, NoTable
from p8fs_cluster.providers.storage.postgresql import compat
from p8fs_cluster.providers.storage.postgresql.connection import Connection
from p8fs_cluster.providers.storage.postgresql.engine import PostgreSQL
from p8fs_cluster.providers.storage.postgresql.session import described

__all__ = ["DirectPostgreSQL", "meant"]

_LOCK_TIMEOUT = "SET lock_timeout = '100ms'"
"""Rows are locked for as long as a statement takes, or for a guarded transaction; a client that gives up sooner than
the server would leave a statement behind that is carried out later.
"""
_CONTENDED = ("55P03", "40001", "40P01")
"""A row that somebody else has locked, and conflicts in which nothing was done."""
_FAILED = psycopg.pq.ExecStatus.FATAL_ERROR
_INTEGERS = frozenset((20, 21, 23))
_BOOLEAN = 16
"""Numbers of types; whatever is none of them is text."""


class DirectPostgreSQL(PostgreSQL):
    """Two connections that nobody else borrows, and whose sessions stay as they are: each statement commits."""

    def __init__(self, settings: P8FSConfig) -> None:
        super().__init__(settings.with_changes({"pool_max_size": 2, "slow_query": None}))
        self._prepared: WeakKeyDictionary[Connection, dict[str, bytes]] = WeakKeyDictionary()
        self._names = itertools.count(1)

    def execute(self, connection: Connection, sql: str, parameters: Parameters) -> list[Any]:
        """Run one statement, whose parameters are texts, integers or None, and return its rows.

        :raises NoTable: a table or a column is not there.
        :raises Busy: a row is locked.
        """
        given = [None if value is None else str(value).encode() for value in parameters or ()]
        try:
            return _rows(self._sent(connection, sql, given))
        except psycopg.Error as exc:
            raise meant(exc) from exc

    def _sent(self, connection: Connection, sql: str, given: Sequence[bytes | None]) -> Any:
        pgconn = connection.pgconn
        if self._settings.pg_pgbouncer:  # the next statement may be another session's
            pgconn.send_query_params(_numbered(sql), given)
            return _answer(connection)
        names = self._prepared.setdefault(connection, {})
        name = names.get(sql)
        if name is None:
            name = b"p8fs_%d" % next(self._names)
            pgconn.send_prepare(name, _numbered(sql))
            _answer(connection)
            names[sql] = name
        pgconn.send_query_prepared(name, given)
        return _answer(connection)

    def _connect(self, seconds: float) -> Connection:
        connection = super()._connect(seconds)
        connection.set_autocommit(True)
        connection.execute("SET client_encoding = 'UTF8'")
        if not self._settings.pg_pgbouncer:  # behind which a session's settings would be another's
            connection.execute(_LOCK_TIMEOUT)
        return connection

    def _renew(self, connection: Connection) -> None:
        """Nobody but this module has used it."""


def meant(exc: psycopg.Error) -> StorageError:
    """Return our error for one of the driver's."""
    if isinstance(exc, StorageError):  # a timeout
        return exc
    told = f"postgresql: the statement failed: {described(exc)}"
    if exc.sqlstate in ("42P01", "42703"):
        return NoTable(told)
    return Busy(told) if exc.sqlstate in _CONTENDED else StorageError(told)


def _answer(connection: Connection) -> Any:
    """Return the result of what was sent, waited for no longer than the connection may.

    :raises psycopg.Error: the server answered with it, or the connection is lost.
    """
    results = connection.wait(compat.execute(connection.pgconn))
    for result in results:  # a second one is the refusal to commit what the first one tells of
        if result.status == _FAILED:
            raise compat.error_of(result)
    return results[0]


def _rows(result: Any) -> list[tuple[Any, ...]]:
    columns = [(column, _READERS.get(result.ftype(column), _text)) for column in range(result.nfields)]
    get = result.get_value
    return [
        tuple(None if (value := get(row, column)) is None else read(value) for column, read in columns)
        for row in range(result.ntuples)
    ]


def _text(value: bytes) -> str:
    return value.decode()


_READERS: dict[int, Callable[[bytes], Any]] = {**dict.fromkeys(_INTEGERS, int), _BOOLEAN: b"t".__eq__}


@lru_cache(256)
def _numbered(sql: str) -> bytes:
    """Return a text with `$1`, `$2` … for each `%s`."""
    parts = sql.split("%s")
    return "".join(
        part + (f"${number}" if number < len(parts) else "") for number, part in enumerate(parts, 1)
    ).encode()
