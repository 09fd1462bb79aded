"""The key-value store in a table of PostgreSQL."""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

import psycopg

from p8fs_cluster.exceptions import StorageError
from p8fs_cluster.providers.storage.kv import KEY_BYTES, Increment, Limits, Plan, Put, Statement, Stored
from p8fs_cluster.providers.storage.kv_decisions import LARGEST
from p8fs_cluster.providers.storage.kv_rows import LIVE, KeyRows, alone, ending
from p8fs_cluster.providers.storage.leases import NoTable
from p8fs_cluster.providers.storage.postgresql.session import described

__all__ = ["KV"]

_MISSING = ("42P01", "42703", "3F000")
"""A table, a column or a schema is not there."""

_INTO = "INSERT INTO $table (k, v, version, expires_at)"
_OVER = "ON CONFLICT (k) DO UPDATE SET v = excluded.v, version = excluded.version, expires_at = excluded.expires_at"

_NUMBER = "encode(own.v, 'escape')"
"""The text of a value, which is one of digits where it is a number; no fault of a cast may tell a value."""
_RANGE = f"BETWEEN {-LARGEST - 1} AND {LARGEST}"
_INCREMENT = f"""
INSERT INTO $table AS own (k, v, version, expires_at) VALUES (%s, %s, %s, $now + %s::bigint)
ON CONFLICT (k) DO UPDATE SET (v, version, expires_at) = (
    SELECT CASE WHEN gone THEN excluded.v ELSE convert_to(({_NUMBER}::numeric + %s::numeric)::text, 'UTF8') END,
        excluded.version, CASE WHEN gone THEN excluded.expires_at ELSE own.expires_at END
    FROM (SELECT coalesce(own.expires_at <= $now, false) AS gone) AS judged
)
WHERE own.expires_at <= $now OR CASE
    WHEN length(own.v) > 20 THEN false
    WHEN {_NUMBER} ~ '^-?[0-9]{{1,19}}$'
    THEN {_NUMBER}::numeric {_RANGE} AND {_NUMBER}::numeric + %s::numeric {_RANGE}
    ELSE false END
RETURNING v"""

_COPY = "COPY $table (k, v, version, expires_at) FROM STDIN (FORMAT BINARY)"
_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_AT_ONCE = 1000
"""Rows that are sent at once, so that the server is at work on them while the next ones are spelt."""
_KEY = struct.Struct(">hi")
"""The number of fields, and the length of the first one."""
_VALUE = struct.Struct(">i")
_ENDLESS = struct.Struct(">iqi")
_ENDING = struct.Struct(">iqiq")


class KV(KeyRows):
    """Most operations are one statement, which locks the row and decides."""

    limits: ClassVar[Limits] = Limits(KEY_BYTES, 256 << 20, 256 << 20)
    words: ClassVar[tuple[tuple[str, str], ...]] = (
        ("$now", "(extract(epoch from clock_timestamp()) * 1000000)::bigint"),
        ("$key", "bytea"),
        ("$value", "bytea"),
        ("$ignore", ""),
        ("$nothing", "ON CONFLICT DO NOTHING"),
        ("$by_end", ""),
    )
    quote: ClassVar[str] = '"'
    begin: ClassVar[str] = ""
    indexes: ClassVar[tuple[str, ...]] = (
        "CREATE INDEX IF NOT EXISTS $index ON $table (expires_at) WHERE expires_at IS NOT NULL",
    )

    @staticmethod
    def meant(exc: Exception) -> Exception:
        cause = exc if isinstance(exc, psycopg.Error) else exc.__cause__
        if getattr(cause, "sqlstate", None) in _MISSING:
            return NoTable(str(exc))
        if isinstance(exc, psycopg.Error) and not isinstance(exc, StorageError):
            return StorageError(f"postgresql: the statement failed: {described(exc)}")
        return exc

    def among(self, keys: Collection[bytes]) -> Statement:
        return ("k = %s", tuple(keys)) if len(keys) == 1 else ("k = ANY(%s::bytea[])", (list(keys),))

    def upsert(self, puts: Sequence[Put]) -> Statement:
        """Several as binary arrays (`%b`): psycopg takes seven times as long to write large ones as text."""
        if len(puts) == 1:
            [put] = puts
            end, parameters = ending(put)
            return f"{_INTO} VALUES (%s, %s, %s, {end}) {_OVER}", (*put[:3], *parameters)
        given = (
            "SELECT k, v, version, coalesce(until, $now + ttl) "
            "FROM unnest(%b::bytea[], %b::bytea[], %s::bigint[], %s::bigint[], %s::bigint[]) "
            "AS given (k, v, version, ttl, until) ORDER BY k"
        )
        return f"{_INTO} {given} {_OVER}", tuple(map(list, zip(*puts, strict=True)))

    def load(self, cursor: Any, records: Sequence[Stored], epoch: int, *, new: bool) -> None:
        if not new:
            super().load(cursor, records, epoch, new=new)
            return
        try:
            with cursor.connection.transaction(), cursor.copy(self.spelt(_COPY)) as copy:
                copy.write(_SIGNATURE)
                for begin in range(0, len(records), _AT_ONCE):
                    copy.write(_copied(records[begin : begin + _AT_ONCE], epoch))
                copy.write(_TRAILER)
        except psycopg.errors.UniqueViolation:  # somebody else has written one of them since
            super().load(cursor, records, epoch, new=False)

    def placeholders(self, keys: Sequence[bytes]) -> Statement:
        return (
            "INSERT INTO $table (k, v, version, expires_at) "
            "SELECT k, ''::bytea, 0, 0 FROM unnest(%s::bytea[]) AS given (k) ORDER BY k "
            "ON CONFLICT (k) DO UPDATE SET version = 0 WHERE false"  # which locks the row all the same
        ), (list(keys),)

    def removal(self, keys: Collection[bytes]) -> Statement:
        locked = "SELECT k FROM $table WHERE k = ANY(%s::bytea[]) ORDER BY k FOR UPDATE"
        return f"WITH locked AS ({locked}) DELETE FROM $table WHERE k IN (SELECT k FROM locked)", (list(keys),)

    def put_if_absent(self, put: Put) -> Plan[bool]:
        return alone(
            (
                "INSERT INTO $table AS own (k, v, version, expires_at) VALUES (%s, %s, %s, $now + %s::bigint) "
                "ON CONFLICT (k) DO UPDATE SET v = excluded.v, version = excluded.version, "
                "expires_at = excluded.expires_at WHERE own.expires_at <= $now RETURNING 1",
                put[:4],
            ),
            bool,
        )

    def compare_and_set(self, put: Put, version: int) -> Plan[bool]:
        changes = "v = %s, version = %s, expires_at = $now + %s::bigint"
        sql = f"UPDATE $table SET {changes} WHERE k = %s AND version = %s AND {LIVE} RETURNING 1"
        return alone((sql, (put.value, put.version, put.ttl, put.key, version)), bool)

    def delete_if(self, key: bytes, version: int) -> Plan[bool]:
        return alone((f"DELETE FROM $table WHERE k = %s AND version = %s AND {LIVE} RETURNING 1", (key, version)), bool)

    def take(self, key: bytes) -> Plan[bytes | None]:
        sql = f"DELETE FROM $table WHERE k = %s AND {LIVE} RETURNING v"
        return alone((sql, (key,)), lambda rows: rows[0][0] if rows else None)

    def expire(self, key: bytes, version: int, ttl: int | None) -> Plan[bool]:
        changes = "version = %s, expires_at = $now + %s::bigint"
        return alone((f"UPDATE $table SET {changes} WHERE k = %s AND {LIVE} RETURNING 1", (version, ttl, key)), bool)

    def increment(self, increment: Increment) -> Plan[int | None]:
        key, by, version, ttl = increment
        new = (key, b"%d" % by, version, ttl)
        return alone((_INCREMENT, (*new, by, by)), lambda rows: int(rows[0][0]) if rows else None)

    def sweep(self, limit: int) -> Plan[tuple[int, bool]]:
        now = "(extract(epoch from statement_timestamp()) * 1000000)::bigint"  # `$now` is volatile: no index would do
        due = f"SELECT k FROM $table WHERE expires_at <= {now} ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED"
        return alone(
            (f"DELETE FROM $table WHERE k = ANY(ARRAY({due})) RETURNING 1", (limit,)),
            lambda rows: (len(rows), len(rows) == limit),
        )


def _copied(records: Sequence[Stored], epoch: int) -> bytes:
    """Return rows as COPY reads them in its binary format: the length of each field before it, -1 for NULL."""
    parts: list[bytes] = []
    for key, value, version, end in records:
        last = _ENDLESS.pack(8, version, -1) if end is None else _ENDING.pack(8, version, 8, epoch + end)
        parts += (_KEY.pack(4, len(key)), key, _VALUE.pack(len(value)), value, last)
    return b"".join(parts)
