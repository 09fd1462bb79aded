"""A copy of one store into another: passes over both, each of which brings what differs, so that any of them may stop.

A value keeps its version in the copy, and no version is ever given to two values of a key. So two ordered scans that
run side by side tell what the target lacks, has of old, or has too much of. Another pass goes on with one that was
killed, and brings what was written to the source meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from p8fs_cluster.exceptions import KVError
from p8fs_cluster.kv.copy_marker import MARKER, Marker
from p8fs_cluster.kv.copy_sides import Side
from p8fs_cluster.kv.json_lines import EVERYTHING, named, stretches
from p8fs_cluster.providers.storage.keys import Span
from p8fs_cluster.providers.storage.kv import Limits, Put, Stored
from p8fs_cluster.providers.storage.kv_rows import KeyRows

__all__ = ["Pass", "copied", "merged", "records", "shown", "versions"]

A = TypeVar("A", bound=tuple[Any, ...])
B = TypeVar("B", bound=tuple[Any, ...])
T = TypeVar("T")

SIZE = 8 << 20
"""Bytes of a batch, or fewer where a call may have fewer, or one value that is larger."""
_ROW = 32
"""Bytes that a row counts besides key and value."""
ROWS = 50_000
"""Values of a batch, if they are small: the fewer batches, the less two threads wait for each other."""
_DELETES = 500
_RETRY = 20

Told = Callable[[int], None]
"""Is told how many values more were read."""


@dataclass(frozen=True)
class Pass:
    """The numbers of one pass."""

    read: int
    put: int
    deleted: int
    seconds: float

    @property
    def brought(self) -> int:
        """The number of keys that were changed in the target."""
        return self.put + self.deleted


@dataclass
class Batch:
    """Changes that are written as a whole. Times left count from `epoch`, on this process's clock."""

    read: int = 0
    size: int = 0
    new: list[Stored] = field(default_factory=list)
    changed: list[Stored] = field(default_factory=list)
    deletes: list[bytes] = field(default_factory=list)

    @property
    def puts(self) -> int:
        return len(self.new) + len(self.changed)


def copied(source: Side, target: Side, marker: Marker, told: Told) -> Pass:
    """Make the target what the source is, in batches that are written while the next one is read.

    :raises KVError: a value is too large for the target, or the marker is not the one that is there: another copy has
        taken over. What was written before stays, and the copy can be gone on with.
    """
    began, read, put, deleted = time.monotonic(), 0, 0, 0
    with contextlib.closing(ahead(_batches(source, target))) as batches:
        for batch in batches:
            if batch.puts or batch.deletes:
                _write(target, marker, batch)
            read, put, deleted = read + batch.read, put + batch.puts, deleted + len(batch.deletes)
            told(batch.read)
    return Pass(read, put, deleted, time.monotonic() - began)


def merged(ours: Iterator[A], theirs: Iterator[B]) -> Iterator[tuple[A | None, B | None]]:
    """Yield what two scans have of each key, which comes first in both and is in order.

    Up to the keys that it yields both scans have been read, so these may be written while it goes on.

    >>> list(merged(iter([(1, "a"), (2, "b")]), iter([(2, "c"), (3, "d")])))
    [((1, 'a'), None), ((2, 'b'), (2, 'c')), (None, (3, 'd'))]
    """
    mine, other = next(ours, None), next(theirs, None)
    while other is not None:
        if mine is not None and mine[0] < other[0]:
            yield mine, None
            mine = next(ours, None)
        elif mine is None or other[0] < mine[0]:
            yield None, other
            other = next(theirs, None)
        else:
            both = mine, other
            mine, other = next(ours, None), next(theirs, None)
            yield both
    while mine is not None:
        yield mine, None
        mine = next(ours, None)


def records(side: Side) -> Iterator[Stored]:
    """Yield all values in order; the times that they have left count from the beginning of the monotonic clock."""
    for values in stretches(side.runner):
        now = _monotonic()
        for record in values:
            key, value, version, left = record
            yield record if left is None else (key, value, version, now + left)


def ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """Yield items, of which the next one is made in another thread while this one is used."""
    with ThreadPoolExecutor(1, "p8fs-kv-copy") as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def shown(physical: bytes) -> str:
    """Return namespace and key on a line, for a message."""
    return json.dumps(named(physical), ensure_ascii=False)


def versions(side: Side) -> Iterator[tuple[bytes, int]]:
    """Yield all keys in order with their versions, those that have expired with 0."""
    span = EVERYTHING
    while True:
        found = _versions(side, span)
        yield from found
        if len(found) < ROWS:
            return
        span = span.after(found[-1][0])


def _versions(side: Side, span: Span) -> list[tuple[bytes, int]]:
    return side.runner.run(lambda store: store.versions(span, ROWS))


def _batches(source: Side, target: Side) -> Iterator[Batch]:
    """Yield what differs, batch by batch. A batch holds no key after those that were looked at in the target."""
    limits = target.runner.stores.limits()
    most, size = limits.value_bytes, min(SIZE, limits.call_bytes // 2)
    batch = Batch()
    for ours, theirs in merged(records(source), versions(target)):
        if ours is None:
            batch.deletes.append(theirs[0])  # type: ignore[index]
        else:
            batch.read += 1
            if theirs is None or theirs[1] != ours[2]:
                length = len(ours[1])
                if length > most:
                    raise _too_large(ours, limits)
                length += len(ours[0]) + _ROW
                if batch.size + length > size and batch.size:
                    yield batch
                    batch = Batch()
                batch.size += length
                (batch.new if theirs is None else batch.changed).append(ours)
        if batch.read >= ROWS or len(batch.deletes) == _DELETES:
            yield batch
            batch = Batch()
    yield batch


def _too_large(record: Stored, limits: Limits) -> KVError:
    return KVError(
        f"{shown(record[0])} does not fit into the target, and the copy stops there: a value has at most "
        f"{limits.value_bytes:,} bytes there (kv.limits.value_bytes), not {len(record[1]):,}"
    )


def _write(target: Side, marker: Marker, batch: Batch) -> None:
    if target.runner.stores.spec.embedded:
        held = target.runner.run(lambda store: store.atomic({MARKER: marker.version}, _puts(batch), batch.deletes))
    else:
        rows = target.runner.stores.rows()
        held = _transacted(target, rows, lambda cursor: _loaded(cursor, rows, marker, batch))
    if not held:
        raise KVError("another copy has taken over, or has ended this one: nothing more was written here")


def _puts(batch: Batch) -> Sequence[Put]:
    now = _monotonic()
    return [
        Put(key, value, version, end and max(end - now, 1)) for key, value, version, end in (*batch.new, *batch.changed)
    ]


def _transacted(target: Side, rows: KeyRows, work: Callable[[Any], T]) -> T:
    def on_a_cursor(connection: Any) -> T:
        with connection.cursor() as cursor:
            return work(cursor)

    try:
        return target.storage().run_in_transaction(on_a_cursor, retry=_RETRY)
    except Exception as exc:
        meant = rows.meant(exc)
        if meant is exc:
            raise
        raise meant from exc


def _loaded(cursor: Any, rows: KeyRows, marker: Marker, batch: Batch) -> bool:
    """Write a batch if the marker is still ours, which is locked until the commit."""
    if rows.begin:
        cursor.execute(rows.spelt(rows.begin))
    cursor.execute(rows.spelt("SELECT version, $now FROM $table WHERE k = %s FOR UPDATE"), (MARKER,))
    found = cursor.fetchone()
    if found is None or found[0] != marker.version:
        return False
    epoch = found[1] - _monotonic()
    for records, new in ((batch.new, True), (batch.changed, False)):
        if records:
            rows.load(cursor, records, epoch, new=new)
    if batch.deletes:
        sql, parameters = rows.removal(batch.deletes)
        cursor.execute(rows.spelt(sql), parameters)
    return True


def _monotonic() -> int:
    return time.monotonic_ns() // 1000
