"""The column family of a RocksDB in which the key-value store is kept, apart from the application's own keys."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from rocksdict import Options, Rdict, WriteBatch, WriteOptions

from p8fs_cluster.config.problems import variable_of
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import StorageError, StorageUnavailable
from p8fs_cluster.providers.storage.keys import Span

__all__ = ["FAMILY", "RocksPairs", "items"]

FAMILY = "p8fs_kv"


class RocksPairs:
    """Bytes to bytes in order. A process that looks on finds the column family, or nothing, and writes nothing."""

    def __init__(self, database: Rdict, settings: P8FSConfig) -> None:
        self.lock = threading.RLock()
        self._settings = settings
        self._closed = False
        self._writing = WriteOptions()
        self._writing.sync = settings.rocksdb_sync
        try:
            self._family: Rdict | None = _family(database, made=settings.rocksdb_mode == "primary")
        except Exception as exc:  # rocksdict knows no other class
            raise self._failed(exc) from exc
        self._handle: Any = None if self._family is None else database.get_column_family_handle(FAMILY)

    def now(self) -> int:
        return time.time_ns() // 1000

    def get(self, key: bytes) -> bytes | None:
        family = self._opened()
        try:
            return None if family is None else family.get(key)
        except Exception as exc:  # rocksdict knows no other class
            raise self._failed(exc) from exc

    def write(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        family = self._opened()
        mode = self._settings.rocksdb_mode
        if mode != "primary" or family is None:
            told = f"{variable_of('rocksdb_mode')}={mode}: a process that looks on can't write"
            raise StorageError(f"rocksdb at {self._settings.rocksdb_path}: {told}")
        batch = WriteBatch(raw_mode=True)
        for key, value in changes:
            if value is None:
                batch.delete(key, self._handle)
            else:
                batch.put(key, value, self._handle)
        try:
            family.write(batch, self._writing)
        except Exception as exc:  # rocksdict knows no other class
            raise self._failed(exc) from exc

    def items(self, span: Span, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        family = self._opened()
        try:
            yield from () if family is None else items(family, span, reverse)
        except Exception as exc:  # rocksdict knows no other class
            raise self._failed(exc) from exc

    def close(self) -> None:
        """Give the column family up."""
        with self.lock:
            self._family = self._handle = None
            self._closed = True

    def _opened(self) -> Rdict | None:
        if self._closed:
            raise StorageUnavailable(f"rocksdb at {self._settings.rocksdb_path}: it was closed, or is opened anew")
        return self._family

    def _failed(self, exc: Exception) -> StorageError:
        return StorageError(f"rocksdb at {self._settings.rocksdb_path}: {exc}")


def items(database: Rdict, span: Span, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
    """Yield the pairs of a range in order."""
    start, stop = span.start, span.stop
    begin = stop if reverse else start
    pairs: Iterator[tuple[Any, Any]] = database.items(backwards=reverse, from_key=begin or None)
    for pair in pairs:
        key = pair[0]
        if key >= start and (stop is None or key < stop):
            yield pair
        elif not (reverse and key == stop):
            return


def _family(database: Rdict, *, made: bool) -> Rdict | None:
    try:
        return database.get_column_family(FAMILY)
    except Exception as exc:  # rocksdict knows no other class
        if "does not exist" not in str(exc):
            raise
    return database.create_column_family(FAMILY, Options(raw_mode=True)) if made else None
