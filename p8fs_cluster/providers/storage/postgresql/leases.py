"""Lease rows on PostgreSQL."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Generator, Sequence
from typing import Any, ClassVar

import psycopg

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.di.settings import SettingsSource
from p8fs_cluster.exceptions import StorageError
from p8fs_cluster.providers.storage.engines import EngineSpec, spec_of
from p8fs_cluster.providers.storage.handle import Storage
from p8fs_cluster.providers.storage.leases import CHANNEL, TABLE, Busy, LeaseStore, Limits, NoTable, Run, Stamp
from p8fs_cluster.providers.storage.postgresql.connection import Connection
from p8fs_cluster.providers.storage.postgresql.engine import PostgreSQL

__all__ = ["DirectPostgreSQL", "Leases"]

log = logging.getLogger("p8fs_cluster.coordination")

_SPELT = (
    ("$now", "(extract(epoch from clock_timestamp()) * 1000000)::bigint"),
    ("$ms", "(extract(epoch from clock_timestamp()) * 1000)::bigint"),
    ("$greatest", "greatest"),
    ("$key", 'varchar(300) COLLATE "C"'),
    ("$text", "text"),
    ("$ignore", ""),
    ("$nothing", "ON CONFLICT DO NOTHING"),
    ("$id", "varchar(36)"),
    ("$fence_key", ", UNIQUE (name, fence)"),
    ("$locking", "FOR UPDATE"),
    ("$often", "WITH (fillfactor = 50)"),  # renewals stay on their page, and no index is written
)
_TIMELINE = "substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
_NO_TIMELINE = "'0'"
_LOCK_TIMEOUT = "SET lock_timeout = '100ms'"
"""Rows are locked for as long as a statement takes, or for a guarded transaction; a client that gives up sooner than
the server would leave a statement behind that is carried out later.
"""


class Leases:
    """PostgreSQL's coordination: `FOR KEY SHARE` holds off the next holder, whose fence is a key, and no renewal."""

    guard: ClassVar[str] = "FOR KEY SHARE"
    announces: ClassVar[bool] = True

    def __init__(self, settings: SettingsSource) -> None:
        self._settings = settings

    def store(self, clock: Callable[[], float]) -> LeaseStore:
        return _Store(Storage(self._settings, _direct))

    @staticmethod
    def commits_at_once(connection: Any) -> bool:
        return bool(connection.autocommit)

    @staticmethod
    def refusal(settings: P8FSConfig) -> str:
        return ""


class DirectPostgreSQL(PostgreSQL):
    """Two connections that nobody else borrows, and whose sessions stay as they are."""

    def __init__(self, settings: P8FSConfig) -> None:
        super().__init__(settings.with_changes({"pool_max_size": 2, "slow_query": None}))

    def _connect(self, seconds: float) -> Connection:
        connection = super()._connect(seconds)
        if not self._settings.pg_pgbouncer:  # behind which a session's settings would be another's
            connection.set_autocommit(True)
            connection.execute(_LOCK_TIMEOUT)
            connection.set_autocommit(False)
        return connection

    def _renew(self, connection: Connection) -> None:
        """Nobody but this module has used it."""


def _direct(settings: P8FSConfig) -> EngineSpec:
    return dataclasses.replace(spec_of(settings), engine=f"{__name__}:DirectPostgreSQL")


class _Store:
    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._timeline = _TIMELINE
        self._texts: dict[str, str] = {}

    def execute(self, sql: str, parameters: Sequence[Any], seconds: float) -> list[tuple[Any, ...]]:
        try:
            return self._storage.execute(self._spelt(sql), parameters, seconds)
        except StorageError as exc:
            raise _meant(exc) from exc.__cause__

    def update(
        self, fence: str, others: str, where: str, parameters: Sequence[Any], seconds: float, *, announce: bool = False
    ) -> Stamp | None:
        changed = f"UPDATE {TABLE} SET fence = {fence}, {others} WHERE {where} RETURNING fence"
        if announce:
            notify = f"CASE WHEN waiting_until > $now THEN pg_notify('{CHANNEL}', name) END"
            sql = f"WITH changed AS ({changed}, name, waiting_until) SELECT fence, '0', {notify} FROM changed"
        else:
            sql = f"{changed}, {self._timeline}"
        try:
            rows = self.execute(sql, parameters, seconds)
        except StorageError as exc:
            if not self._has_no_timeline(exc):
                raise
            return self.update(fence, others, where, parameters, seconds, announce=announce)
        return Stamp(int(rows[0][0]), int(rows[0][1], 16)) if rows else None

    def transact(self, work: Callable[[Run], Any], seconds: float) -> Any:
        def run(connection: Any) -> Any:
            with connection.cursor() as cursor:

                def executed(sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
                    cursor.execute(self._spelt(sql), parameters)
                    return cursor.fetchall() if cursor.description else []

                return work(executed)

        try:
            return self._storage.run_in_transaction(run, timeout=seconds)
        except psycopg.Error as exc:
            raise _meant(StorageError(f"postgresql: the statement failed: {exc}"), exc) from exc

    def limits(self, seconds: float) -> Limits | None:
        return None

    def announcements(self) -> Generator[str | None, None, None] | None:
        return None if self._storage.settings_now().pg_pgbouncer else self._heard()

    def _heard(self) -> Generator[str | None, None, None]:
        with self._storage.connection(math.inf) as connection:
            connection.set_autocommit(True)
            try:
                connection.execute(f"LISTEN {CHANNEL}")
                yield ""
                while True:
                    for notice in connection.notifies(timeout=1.0):
                        yield notice.payload
                    yield None
            except psycopg.Error as exc:
                raise StorageError(f"postgresql: announcements ended: {exc}") from exc
            finally:
                connection.end()

    def close(self) -> None:
        self._storage.shut()
        for _, _, end in self._storage.opened():
            end()

    def forget(self) -> None:
        """The handle does so by itself."""

    def _has_no_timeline(self, exc: StorageError) -> bool:
        """Note that the server tells no timeline, as Aurora, where replicas share one storage, or a role without it."""
        state = getattr(exc.__cause__, "sqlstate", None)
        told = state in ("0A000", "42501", "42883") and "wal" in str(exc)
        if told and self._timeline != _NO_TIMELINE:
            self._timeline = _NO_TIMELINE
            log.warning("postgresql tells no timeline (%s): tokens after a promoted replica rest on its clock", exc)
            return True
        return False

    def _spelt(self, sql: str) -> str:
        text = self._texts.get(sql)
        if text is None:
            text = sql
            for name, spelt in _SPELT:
                text = text.replace(name, spelt)
            self._texts[sql] = text
        return text


def _meant(exc: StorageError, cause: BaseException | None = None) -> StorageError:
    state = getattr(cause or exc.__cause__, "sqlstate", None)
    if state in ("42P01", "42703"):
        return NoTable(str(exc))
    return Busy(str(exc)) if state == "55P03" else exc
