"""The key-value store in a table of an SQL server: plans of statements, which somebody else sends."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import Any, ClassVar, TypeVar

from p8fs_cluster.exceptions import StorageError
from p8fs_cluster.providers.storage.keys import Span
from p8fs_cluster.providers.storage.kv import (
    Limits,
    Mutation,
    Page,
    Plan,
    Put,
    Row,
    Rows,
    Statement,
    Steps,
    Stored,
    Stretch,
)
from p8fs_cluster.providers.storage.kv_decisions import Deciding
from p8fs_cluster.providers.storage.leases import Spelling

__all__ = ["LIVE", "KeyRows", "alone", "ending"]

T = TypeVar("T")

LIVE = "(expires_at IS NULL OR expires_at > $now)"
"""The condition of rows that have not expired."""
_PLACEHOLDER = 0
"""The version of a row that is there to be locked; it has expired since 1970."""


class KeyRows(Deciding):
    """Plans for one table. An engine is a subclass: what it says otherwise, or in one statement.

    In texts `$now` is the database's clock, `$table`, `$versions`, `$schema` and `$index` are names, `$key` and
    `$value` are types, `$by_end` is an index within a table; `$ignore` and `$nothing` are those of `LeaseStore`.
    """

    limits: ClassVar[Limits]
    words: ClassVar[tuple[tuple[str, str], ...]]
    quote: ClassVar[str]
    """The character around names."""
    indexes: ClassVar[tuple[str, ...]] = ()
    """The statements that make indexes, after the one that makes the table."""
    begin: ClassVar[str]
    """The statement that begins a transaction which locks; empty: none is needed."""

    def __init__(self, table: str) -> None:
        self.table = table
        schema, _, name = table.rpartition(".")
        names = {"$table": (schema, name), "$versions": (schema, f"{name}_versions"), "$schema": (schema,)}
        quoted = [(word, self._quoted(*parts)) for word, parts in names.items()]
        self.spelt = Spelling((*self.words, *quoted, ("$index", self._quoted(f"{name}_expires_at"))))

    def _quoted(self, *parts: str) -> str:
        return ".".join(f"{self.quote}{part}{self.quote}" for part in parts if part)

    @staticmethod
    @abstractmethod
    def meant(exc: Exception) -> Exception:
        """Return the error of ours that a driver's error means: `NoTable`, or a StorageError; others as they are."""

    @abstractmethod
    def among(self, keys: Collection[bytes]) -> Statement:
        """Return the condition of rows with these keys, and its parameters."""

    @abstractmethod
    def upsert(self, puts: Sequence[Put]) -> Statement:
        """Return the statement that writes values, whatever is there."""

    @abstractmethod
    def placeholders(self, keys: Sequence[bytes]) -> Statement:
        """Return the statement that locks keys, those included that are not there."""

    def removal(self, keys: Collection[bytes]) -> Statement:
        """Return the statement that deletes keys."""
        condition, parameters = self.among(sorted(keys))
        return f"DELETE FROM $table WHERE {condition}", parameters

    def entries(self, keys: Sequence[bytes]) -> Plan[dict[bytes, tuple[bytes, int, int | None]]]:
        condition, parameters = self.among(keys)
        sql = f"SELECT k, v, version, expires_at - $now FROM $table WHERE {condition} AND {LIVE}"

        def answer(rows: Rows) -> dict[bytes, tuple[bytes, int, int | None]]:
            return {key: (value, version, left and max(left, 1)) for key, value, version, left in rows}

        return alone((sql, parameters), answer)

    def value(self, key: bytes) -> Plan[bytes | None]:
        sql = f"SELECT v FROM $table WHERE k = %s AND {LIVE}"
        return alone((sql, (key,)), lambda rows: rows[0][0] if rows else None)

    def put(self, puts: Sequence[Put]) -> Plan[None]:
        return alone(self.upsert(sorted(puts)), _nothing)

    def delete(self, keys: Collection[bytes]) -> Plan[None]:
        return alone(self.removal(keys), _nothing)

    def page(self, page: Page) -> Plan[list[Any]]:
        condition, parameters = within(page.span)
        order = "DESC" if page.reverse else "ASC"
        columns, skipped = "k" if page.keys_only else "k, v", page.skipped
        sql = f"SELECT {columns} FROM $table WHERE {condition} AND {LIVE} ORDER BY k {order} LIMIT %s"

        def answer(rows: Rows) -> list[Any]:
            if page.keys_only:
                return [key[skipped:] for (key,) in rows]
            return [(key[skipped:], value) for key, value in rows]

        return alone((sql, (*parameters, page.limit)), answer)

    def stretch(self, span: Span, rows: int, size: int) -> Plan[Stretch]:
        def steps() -> Steps[Stretch]:
            """Ask for lengths first: so many values may be too much for memory."""
            condition, parameters = within(span)
            lengths = f"SELECT k, length(v) FROM $table WHERE {condition} AND {LIVE} ORDER BY k LIMIT %s"
            last = _fitting((yield lengths, (*parameters, rows)), size)
            if last is None:
                return Stretch([], None)
            condition, parameters = within(Span(span.start, last + b"\0"))
            columns = "k, v, version, expires_at - $now"
            found = yield f"SELECT {columns} FROM $table WHERE {condition} AND {LIVE} ORDER BY k", parameters
            return Stretch([(*row[:3], None if row[3] is None else max(row[3], 1)) for row in found], last)

        return Plan(steps, several=True)

    def versions(self, span: Span, limit: int) -> Plan[list[tuple[bytes, int]]]:
        condition, parameters = within(span)
        sql = f"SELECT k, CASE WHEN {LIVE} THEN version ELSE 0 END FROM $table WHERE {condition} ORDER BY k LIMIT %s"
        return alone((sql, (*parameters, limit)), lambda rows: [(key, version) for key, version in rows])

    def load(self, cursor: Any, records: Sequence[Stored], epoch: int, *, new: bool) -> None:
        """Write many values on a driver's cursor, whatever was there, in the transaction that it is in.

        `epoch`: what the times of the records begin with, on the store's clock. `new`: none of the keys is there, as
        far as is known.
        """
        del new
        puts = [Put(key, value, version, None, end and epoch + end) for key, value, version, end in records]
        sql, parameters = self.upsert(puts)
        cursor.execute(self.spelt(sql), parameters)

    def count(self, span: Span) -> Plan[int]:
        condition, parameters = within(span)
        return alone((f"SELECT count(*) FROM $table WHERE {condition} AND {LIVE}", parameters), lambda rows: rows[0][0])

    def stem(self, span: Span, limit: int) -> Plan[bytes | None]:
        condition, parameters = within(span)
        firsts = f"SELECT k FROM $table WHERE {condition} ORDER BY k LIMIT %s"
        sql = f"SELECT k FROM ({firsts}) AS firsts ORDER BY k DESC LIMIT 1"
        return alone((sql, (*parameters, limit)), lambda rows: rows[0][0] if rows else None)

    def delete_span(self, span: Span) -> Plan[None]:
        condition, parameters = within(span)
        return alone((f"DELETE FROM $table WHERE {condition}", parameters), _nothing)

    def mutate(self, mutation: Mutation[T]) -> Plan[T]:
        def steps() -> Steps[T]:
            if self.begin:
                yield self.begin, ()
            if mutation.created:
                yield self.placeholders(mutation.created)
            condition, parameters = self.among(mutation.keys)
            sql = f"SELECT k, v, version, expires_at FROM $table WHERE {condition} ORDER BY k FOR UPDATE"
            rows = yield sql, parameters
            [(now,)] = yield "SELECT $now", ()  # after the wait for the locks
            decision = mutation.decide({key: Row(*row) for key, *row in rows if row[2] is None or row[2] > now})
            written = {put.key for put in decision.puts}
            if decision.puts:
                yield self.upsert(sorted(decision.puts))
            unused = {key for key, _, version, _ in rows if version == _PLACEHOLDER} - written
            if gone := unused | set(decision.deletes):
                yield self.removal(gone)
            return decision.result

        return Plan(steps, several=True)

    @abstractmethod
    def sweep(self, limit: int) -> Plan[tuple[int, bool]]: ...


def alone(statement: Statement, answer: Any) -> Plan[Any]:
    """Plan one statement, of whose rows `answer` makes the result."""

    def steps() -> Steps[Any]:
        rows = yield statement
        return answer(rows)

    return Plan(steps)


def ending(put: Put) -> Statement:
    """Return the expression for the end of a value, and its parameters.

    >>> ending(Put(b"k", b"v", 1, ttl=5)), ending(Put(b"k", b"v", 1))
    (('$now + %s', (5,)), ('NULL', ()))
    """
    if put.until is not None:
        return "%s", (put.until,)
    return ("NULL", ()) if put.ttl is None else ("$now + %s", (put.ttl,))


def within(span: Span) -> Statement:
    """Return the condition of rows in a range, and its parameters."""
    if span.stop is None:
        raise StorageError("a range of the key-value store has an end")
    return "k >= %s AND k < %s", (span.start, span.stop)


def _fitting(lengths: Rows, size: int) -> bytes | None:
    """Return the last of the keys whose values have so many bytes together, or the first key; None: there is none."""
    last: bytes | None = None
    for key, length in lengths:
        size -= len(key) + length
        if last is not None and size < 0:
            break
        last = key
    return last


def _nothing(rows: Rows) -> None:
    del rows
