"""The key-value store in a table of TiDB, and of whatever else speaks MySQL's protocol."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, ClassVar

import pymysql

from p8fs_cluster.exceptions import StorageError
from p8fs_cluster.providers.storage.kv import KEY_BYTES, Limits, Plan, Put, Statement, Steps, Stored
from p8fs_cluster.providers.storage.kv_rows import KeyRows, ending
from p8fs_cluster.providers.storage.leases import NoTable
from p8fs_cluster.providers.storage.tidb.session import number_of, text_of

__all__ = ["KV"]

_MISSING = (1049, 1054, 1146)
"""A database, a column or a table is not there."""
_MIB = 1 << 20

_INTO = "INSERT INTO $table (k, v, version, expires_at) VALUES"
_OVER = "ON DUPLICATE KEY UPDATE v = VALUES(v), version = VALUES(version), expires_at = VALUES(expires_at)"


class KV(KeyRows):
    """Nothing here counts rows: what was changed is told by rows that were locked before.

    TiDB's clock is that of the server asked, as `@@tidb_current_ts` has none outside a transaction. The most bytes are
    those of an entry of TiDB, and a call's leave room for quotes in MariaDB's packet of 16 MiB.
    """

    limits: ClassVar[Limits] = Limits(KEY_BYTES, 6 * _MIB - (64 << 10), 7 * _MIB)
    words: ClassVar[tuple[tuple[str, str], ...]] = (
        ("$now", "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"),
        ("$key", f"VARBINARY({KEY_BYTES + 1})"),
        ("$value", "LONGBLOB"),
        ("$ignore", "IGNORE"),
        ("$nothing", ""),
        ("$by_end", ", KEY $index (expires_at)"),
    )
    quote: ClassVar[str] = "`"
    begin: ClassVar[str] = "BEGIN /*T! PESSIMISTIC */"

    @staticmethod
    def meant(exc: Exception) -> Exception:
        cause = exc if isinstance(exc, pymysql.MySQLError) else exc.__cause__
        if isinstance(cause, pymysql.MySQLError) and number_of(cause) in _MISSING:
            return NoTable(f"tidb: the statement failed: {text_of(cause)}")
        if isinstance(exc, pymysql.MySQLError) and not isinstance(exc, StorageError):
            return StorageError(f"tidb: the statement failed: {text_of(exc)}")
        return exc

    def among(self, keys: Collection[bytes]) -> Statement:
        return f"k IN ({', '.join(['%s'] * len(keys))})", tuple(keys)

    def upsert(self, puts: Sequence[Put]) -> Statement:
        rows = [(put, *ending(put)) for put in puts]
        values = ", ".join([f"(%s, %s, %s, {end})" for _, end, _ in rows])
        parameters = [part for put, _, given in rows for part in (*put[:3], *given)]
        return f"{_INTO} {values} {_OVER}", parameters

    def load(self, cursor: Any, records: Sequence[Stored], epoch: int, *, new: bool) -> None:
        """Write literals of digits: PyMySQL takes several times as long to look through texts for what to escape."""
        rows = ",".join(
            [
                f"(x'{key.hex()}',x'{value.hex()}',{version},{'NULL' if end is None else epoch + end})"
                for key, value, version, end in records
            ]
        )
        cursor.execute(f"{self.spelt(_INTO)} {rows} {self.spelt(_OVER)}")

    def placeholders(self, keys: Sequence[bytes]) -> Statement:
        """An INSERT IGNORE would share the lock of a row that is there, and deadlock with another one."""
        rows = ", ".join(["(%s, '', 0, 0)"] * len(keys))
        return f"INSERT INTO $table (k, v, version, expires_at) VALUES {rows} ON DUPLICATE KEY UPDATE k = k", keys

    def sweep(self, limit: int) -> Plan[tuple[int, bool]]:
        def steps() -> Steps[tuple[int, bool]]:
            rows = yield "SELECT k FROM $table WHERE expires_at <= $now ORDER BY expires_at LIMIT %s", (limit,)
            if rows:
                sql, parameters = self.removal([key for (key,) in rows])
                yield f"{sql} AND expires_at <= $now", parameters
            return len(rows), len(rows) == limit

        return Plan(steps, several=True)
