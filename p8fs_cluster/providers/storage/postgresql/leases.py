"""Lease rows on PostgreSQL."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Generator, Sequence
from typing import Any, ClassVar, TypeVar

import psycopg

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.di.settings import SettingsSource
from p8fs_cluster.exceptions import StorageError
from p8fs_cluster.providers.storage.direct import Direct
from p8fs_cluster.providers.storage.engines import spec_of
from p8fs_cluster.providers.storage.leases import CHANNEL, TABLE, LeaseStore, Limits, Run, Spelling, Stamp
from p8fs_cluster.providers.storage.postgresql.connection import Connection
from p8fs_cluster.providers.storage.postgresql.direct import DirectPostgreSQL, meant

__all__ = ["Leases"]

log = logging.getLogger("p8fs_cluster.coordination")

T = TypeVar("T")

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


class Leases:
    """PostgreSQL's coordination: `FOR KEY SHARE` holds off the next holder, whose fence is a key, and no renewal."""

    guard: ClassVar[str] = "FOR KEY SHARE"
    announces: ClassVar[bool] = True

    def __init__(self, settings: SettingsSource) -> None:
        self._settings = settings

    def store(self, clock: Callable[[], float]) -> LeaseStore:
        return _Store(self._settings)

    @staticmethod
    def commits_at_once(connection: Any) -> bool:
        return bool(connection.autocommit)

    @staticmethod
    def refusal(settings: P8FSConfig) -> str:
        return ""


class _Store:
    def __init__(self, settings: SettingsSource) -> None:
        self._direct = Direct(settings, spec_of, DirectPostgreSQL)
        self._timeline = _TIMELINE
        self._listening: Connection | None = None
        self._spelt = Spelling(_SPELT)

    def execute(self, sql: str, parameters: Sequence[Any], seconds: float) -> list[tuple[Any, ...]]:
        return self._direct.execute(self._spelt(sql), parameters, seconds)

    def update(
        self, fence: str, others: str, where: str, parameters: Sequence[Any], seconds: float, *, announce: bool = False
    ) -> Stamp | None:
        returned = "'0', waiting_until > $now, name" if announce else self._timeline
        sql = f"UPDATE {TABLE} SET fence = {fence}, {others} WHERE {where} RETURNING fence, {returned}"
        try:
            rows = self.execute(sql, parameters, seconds)
        except StorageError as exc:
            if not self._has_no_timeline(exc):
                raise
            return self.update(fence, others, where, parameters, seconds, announce=announce)
        if not rows:
            return None
        if announce and rows[0][2]:  # seldom: the commit of a NOTIFY takes a lock that the whole server shares
            with contextlib.suppress(StorageError):  # those who wait look at intervals, too
                self.execute(f"SELECT pg_notify('{CHANNEL}', %s)", (rows[0][3],), seconds)
        return Stamp(rows[0][0], int(rows[0][1], 16))

    def transact(self, work: Callable[[Run], T], seconds: float) -> T:
        with self._direct.connection(seconds) as connection:
            engine = self._direct.engine()

            def run(sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
                return engine.execute(connection, self._spelt(sql), parameters)

            try:
                with connection.transaction():
                    return work(run)
            except psycopg.Error as exc:
                raise meant(exc) from exc

    def limits(self, seconds: float) -> Limits | None:
        return None

    def announcements(self) -> Generator[str | None, None, None] | None:
        return None if self._direct.settings.pg_pgbouncer else self._heard()

    def _heard(self) -> Generator[str | None, None, None]:
        with self._direct.connection(math.inf) as connection:
            self._listening = connection
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
                self._listening = None
                connection.end()

    def close(self) -> None:
        listening = self._listening
        if listening is not None:  # in another thread, which is woken so, and ends the connection
            self._direct.engine().cut(listening)
        else:
            self._direct.close()

    def _has_no_timeline(self, exc: StorageError) -> bool:
        """Note that the server tells no timeline, as Aurora, where replicas share one storage, or a role without it."""
        state = getattr(exc.__cause__, "sqlstate", None)
        told = state in ("0A000", "42501", "42883") and "wal" in str(exc)
        if told and self._timeline != _NO_TIMELINE:
            self._timeline = _NO_TIMELINE
            log.warning("postgresql tells no timeline (%s): tokens after a promoted replica rest on its clock", exc)
            return True
        return False
