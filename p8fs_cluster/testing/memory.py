"""An engine in memory, for tests without a server or a disk: bytes to bytes, as RocksDB has it."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any, ClassVar

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.di.settings import SettingsProvider, SettingsSource
from p8fs_cluster.exceptions import StorageError
from p8fs_cluster.providers.storage.engines import EngineSpec, Parameters
from p8fs_cluster.providers.storage.handle import Storage
from p8fs_cluster.providers.storage.keys import Span

__all__ = ["MemoryEngine", "memory_storage"]


class MemoryEngine:
    """A database that is gone when it is closed. Each borrower's writes show at its end, or not at all."""

    questions: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: P8FSConfig) -> None:
        self._data: dict[bytes, bytes] = {}

    def open(self) -> None:
        self._data = {}

    def close(self) -> None:
        self._data = {}

    def acquire(self, deadline: float | None, holder: weakref.ref[Any] | None = None) -> MemoryConnection:
        return MemoryConnection(self._data)

    def release(self, connection: MemoryConnection, exc: BaseException | None) -> None:
        if exc is None:
            connection.commit()

    def execute(self, connection: MemoryConnection, sql: str, parameters: Parameters) -> list[Any]:
        raise StorageError("the in-memory engine has no SQL: use `with container.storage() as db` and db[key]")

    def scan(self, connection: MemoryConnection, span: Span, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
        for key in sorted(filter(span.__contains__, connection), reverse=reverse):
            yield key, connection[key]

    def ping(self, connection: MemoryConnection) -> None:
        len(connection)

    def cut(self, connection: MemoryConnection) -> None:
        """Nothing waits for a store of this process."""

    @staticmethod
    def retry_pause(exc: BaseException) -> float | None:
        return None

    @staticmethod
    def inspected(answers: Sequence[Sequence[tuple[Any, ...]]]) -> str:
        return ""

    def stats(self) -> dict[str, int]:
        return {"size": 1, "idle": 1, "waiting": 0, "max_size": 1}


class MemoryConnection(MutableMapping[bytes, bytes]):
    """Reads and writes like `rocksdict.Rdict` in raw mode, in the order of the keys.

    >>> connection = MemoryConnection({})
    >>> connection[b"b"], connection[b"a"] = b"2", b"1"
    >>> list(connection.items())
    [(b'a', b'1'), (b'b', b'2')]
    """

    def __init__(self, data: dict[bytes, bytes]) -> None:
        self._data = data
        self._written: dict[bytes, bytes | None] = {}

    def commit(self) -> None:
        """Make the writes visible to later borrowers."""
        for key, value in self._written.items():
            if value is None:
                self._data.pop(key, None)
            else:
                self._data[key] = value
        self._written.clear()

    def put(self, key: bytes, value: bytes) -> None:
        """Write one pair."""
        self[key] = value

    def delete(self, key: bytes) -> None:
        """Delete a key; nothing happens when it is not there."""
        self._written[_bytes(key)] = None

    def __getitem__(self, key: bytes) -> bytes:
        value = self._written[key] if key in self._written else self._data.get(_bytes(key))
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._written[_bytes(key)] = _bytes(value)

    def __delitem__(self, key: bytes) -> None:
        self.delete(key)

    def __iter__(self) -> Iterator[bytes]:
        return iter(sorted(key for key in {**self._data, **self._written} if key in self))

    def __contains__(self, key: object) -> bool:
        return (self._written.get(key) if key in self._written else self._data.get(key)) is not None  # type: ignore[call-overload]

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"keys and values are bytes, not {type(value).__name__}")
    return value


MEMORY = EngineSpec(provider="memory", engine=MemoryEngine, shares=("rocksdb_path",), embedded=True)


def memory_storage(settings: SettingsSource | None = None) -> Storage:
    """Return a `Storage` in memory, whatever provider the settings name; one database a `rocksdb_path`.

    >>> from p8fs_cluster import Container
    >>> container = Container()
    >>> with container.storage.override(memory_storage()):
    ...     container.storage().provider
    'memory'
    """
    if settings is None:
        settings = SettingsProvider()
        settings.override(P8FSConfig())
    return Storage(settings, lambda _: MEMORY)
