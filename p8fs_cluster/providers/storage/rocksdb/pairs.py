"""The column family of a RocksDB in which the key-value store is kept, apart from the application's own keys."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rocksdict import Options, Rdict, ReadOptions, WriteBatch

from p8fs_cluster.config.problems import variable_of
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import StorageError, StorageUnavailable
from p8fs_cluster.providers.storage.keys import Span

__all__ = ["FAMILY", "RocksPairs", "items"]

FAMILY = "p8fs_kv"


class RocksPairs:
    """Bytes to bytes in order. A process that looks on finds the column family, or nothing, and writes nothing."""

    get: Callable[[bytes], bytes | None]

    def __init__(self, database: Rdict, settings: P8FSConfig) -> None:
        self.lock = threading.RLock()
        self.usable = self._is_open = True
        self._settings = settings
        self.direct = settings.rocksdb_mode == "primary"
        """False for who looks on: each checkout brings what was written since."""
        try:
            self._family: Rdict | None = _family(database, made=self.direct)  # it waits for the disk as that does
        except Exception as exc:  # rocksdict knows no other class
            raise self.failed(exc) from exc
        if self._family is None:
            self.get = _nothing
            return
        self._handle: Any = database.get_column_family_handle(FAMILY)
        self.get = self._family.get

    def now(self) -> int:
        return time.time_ns() // 1000

    def put(self, key: bytes, value: bytes) -> None:
        with self.lock:
            family = self._writable()
            try:
                family.put(key, value)
            except Exception as exc:  # rocksdict knows no other class
                self.usable = False
                raise self.failed(exc) from exc

    def write(self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes] = ()) -> None:
        with self.lock:
            family, handle = self._writable(), self._handle
            batch = WriteBatch(raw_mode=True)
            put, delete = batch.put, batch.delete
            for key in deletes:
                delete(key, handle)
            for key, value in puts:
                put(key, value, handle)
            try:
                family.write(batch)
            except Exception as exc:  # rocksdict knows no other class
                self.usable = False
                raise self.failed(exc) from exc

    def first(self, span: Span, most: int | None, reverse: bool = False) -> list[tuple[bytes, bytes]]:
        family = self._opened()
        if family is None:
            return []
        try:
            _options, pairs = _iterator(family, span, reverse)
            return list(itertools.islice(pairs, most))
        except Exception as exc:  # rocksdict knows no other class
            raise self.failed(exc) from exc

    def close(self) -> None:
        """Give the column family up."""
        with self.lock:
            self.usable = self._is_open = False
            self.get = self._closed
            self._family = self._handle = None

    def failed(self, exc: Exception) -> StorageError:
        """Return the error for what rocksdict raised."""
        return (
            exc if isinstance(exc, StorageError) else StorageError(f"rocksdb at {self._settings.rocksdb_path}: {exc}")
        )

    def _opened(self) -> Rdict | None:
        if not self._is_open:
            self._closed(b"")
        return self._family

    def _writable(self) -> Rdict:
        family = self._opened()
        if family is None or not self.direct:
            told = f"{variable_of('rocksdb_mode')}={self._settings.rocksdb_mode}: a process that looks on can't write"
            raise StorageError(f"rocksdb at {self._settings.rocksdb_path}: {told}")
        return family

    def _closed(self, key: bytes) -> bytes | None:
        raise StorageUnavailable(f"rocksdb at {self._settings.rocksdb_path}: it was closed, or is opened anew")


def _nothing(key: bytes) -> None:
    del key


def items(database: Rdict, span: Span, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
    """Yield the pairs of a range in order."""
    _options, pairs = _iterator(database, span, reverse)
    yield from pairs


def _iterator(database: Rdict, span: Span, reverse: bool) -> tuple[ReadOptions, Iterator[tuple[bytes, bytes]]]:
    """Return the pairs of a range, and what must live as long: rocksdict 0.3.29 reads the upper bound where these have
    it. Its lower one is an upper one."""
    options, start = ReadOptions(), span.start
    if span.stop is not None:
        options.set_iterate_upper_bound(span.stop)
    begin = None if reverse else start or None
    pairs: Iterator[tuple[Any, Any]] = database.items(backwards=reverse, from_key=begin, read_opt=options)
    return options, itertools.takewhile(lambda pair: pair[0] >= start, pairs) if reverse else pairs


def _family(database: Rdict, *, made: bool) -> Rdict | None:
    try:
        return database.get_column_family(FAMILY)
    except Exception as exc:  # rocksdict knows no other class
        if "does not exist" not in str(exc):
            raise
    return database.create_column_family(FAMILY, Options(raw_mode=True)) if made else None
