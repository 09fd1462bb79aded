"""The engine for threads."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, ClassVar

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import StorageError
from p8fs_cluster.providers.storage.engines import Parameters
from p8fs_cluster.providers.storage.server import Server
from tests.engines.sqlite.connection import Connection, SQLiteMessages, connect

__all__ = ["SQLite"]


class SQLite(Server[Connection]):
    questions: ClassVar[tuple[str, ...]] = ("SELECT sqlite_version()",)
    error = sqlite3.Error

    def __init__(self, settings: P8FSConfig) -> None:
        super().__init__(settings, SQLiteMessages(settings))

    def execute(self, connection: Connection, sql: str, parameters: Parameters) -> list[Any]:
        try:
            with connection.cursor() as cursor:
                return list(cursor.execute(sql, parameters).fetchall())
        except sqlite3.Error as exc:
            raise StorageError(f"sqlite: the statement failed: {exc}") from exc

    def ping(self, connection: Connection) -> None:
        connection.execute("SELECT 1")

    @staticmethod
    def retry_pause(exc: BaseException) -> float | None:
        return 0.01 if isinstance(exc, sqlite3.OperationalError) and "locked" in str(exc) else None

    @staticmethod
    def inspected(answers: Sequence[Sequence[tuple[Any, ...]]]) -> str:
        [[(version,)]] = answers
        return f"SQLite {version}"

    def _connect(self, seconds: float) -> Connection:
        return connect(self._settings, self.messages, seconds)

    def _commit(self, connection: Connection) -> None:
        try:
            connection.commit()
        except sqlite3.Error as exc:
            self.messages.raise_for_commit(exc, str(exc), lost=False)

    def _renew(self, connection: Connection) -> None:
        connection.row_factory = None
