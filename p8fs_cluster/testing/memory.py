"""An engine in memory, for tests without a server or a disk: bytes to bytes, as RocksDB has it."""

from __future__ import annotations

import bisect
import dataclasses
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from typing import Any, ClassVar

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.coordination.clock import BOOTTIME
from p8fs_cluster.coordination.coordinators import Coordinators
from p8fs_cluster.di.settings import SettingsProvider, SettingsSource
from p8fs_cluster.exceptions import StorageError, StorageUnavailable
from p8fs_cluster.providers.storage.engines import EngineSpec, Parameters
from p8fs_cluster.providers.storage.handle import Storage
from p8fs_cluster.providers.storage.keys import Span
from p8fs_cluster.providers.storage.leases import LeaseStore
from p8fs_cluster.providers.storage.local_leases import LocalStore, local_store

__all__ = ["MemoryEngine", "MovedClock", "memory_coordination", "memory_storage"]


class MemoryEngine:
    """A database that is gone when it is closed. Each borrower's writes show at its end, or not at all."""

    questions: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: P8FSConfig) -> None:
        self._data: dict[bytes, bytes] = {}
        self._pairs = MemoryPairs(self.clock)

    def open(self) -> None:
        self.close()

    def close(self) -> None:
        self._data = {}
        self._pairs.close()
        self._pairs = MemoryPairs(self.clock)

    def clock(self) -> float:
        """Return the seconds since 1970, by which keys expire."""
        return time.time()

    def pairs(self) -> MemoryPairs:
        """Return where the key-value store is kept."""
        return self._pairs

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


class MemoryPairs:
    """Bytes to bytes in order, for the key-value store."""

    direct: ClassVar[bool] = True

    def __init__(self, clock: Callable[[], float]) -> None:
        self.lock = threading.RLock()
        self.usable = True
        """False once it was closed: what is written then is lost."""
        self._clock = clock
        self._data: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self.get = self._data.get

    def now(self) -> int:
        return round(self._clock() * 1_000_000)

    def put(self, key: bytes, value: bytes) -> None:
        self.write([(key, value)])

    def write(self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes] = ()) -> None:
        with self.lock:
            if not self.usable:
                raise StorageUnavailable("memory: it was closed, or is opened anew")
            for key in deletes:
                if self._data.pop(key, None) is not None:
                    del self._keys[bisect.bisect_left(self._keys, key)]
            for key, value in puts:
                if key not in self._data:
                    bisect.insort(self._keys, key)
                self._data[key] = value

    def failed(self, exc: Exception) -> StorageError:
        return exc if isinstance(exc, StorageError) else StorageError(f"memory: {exc}")

    def close(self) -> None:
        """Take nothing any more."""
        with self.lock:
            self.usable = False

    def first(self, span: Span, most: int | None, reverse: bool = False) -> list[tuple[bytes, bytes]]:
        with self.lock:
            begin = bisect.bisect_left(self._keys, span.start)
            end = len(self._keys) if span.stop is None else bisect.bisect_left(self._keys, span.stop)
            if most is not None and reverse:
                begin = max(begin, end - most)
            elif most is not None:
                end = min(end, begin + most)
            found = [(key, self._data[key]) for key in self._keys[begin:end]]
        return found[::-1] if reverse else found


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


class MemoryLeases:
    """Leases that are gone with their container."""

    guard: ClassVar[str] = ""
    announces: ClassVar[bool] = False

    def __init__(self, settings: SettingsSource) -> None:
        self._store: LocalStore | None = None

    def store(self, clock: Callable[[], float]) -> LeaseStore:
        if self._store is None:
            self._store = local_store(None, clock)
        else:
            self._store.users += 1
        return self._store

    @staticmethod
    def commits_at_once(connection: Any) -> bool:
        return False

    @staticmethod
    def refusal(settings: P8FSConfig) -> str:
        return ""


MEMORY = EngineSpec(
    provider="memory", engine=MemoryEngine, shares=("rocksdb_path",), embedded=True, leases=MemoryLeases
)


def memory_storage(settings: SettingsSource | None = None, clock: MovedClock | None = None) -> Storage:
    """Return a `Storage` in memory, whatever provider the settings name; one database a `rocksdb_path`.

    Keys of its key-value store expire by `clock`, which the test moves, or by the time of day.

    >>> from p8fs_cluster import Container
    >>> container = Container()
    >>> with container.storage.override(memory_storage()):
    ...     container.storage().provider
    'memory'
    """
    if settings is None:
        settings = SettingsProvider()
        settings.override(P8FSConfig())
    spec = MEMORY
    if clock is not None:
        engine = type("MemoryEngine", (MemoryEngine,), {"clock": lambda _: clock.now()})
        spec = dataclasses.replace(MEMORY, engine=engine)
    return Storage(settings, lambda _: spec)


class MovedClock:
    """A clock for tests that stands still until it is moved, for leases and keys in memory.

    >>> clock = MovedClock()
    >>> before = clock.now()
    >>> clock.move(15)
    >>> clock.now() - before
    15.0
    """

    def __init__(self) -> None:
        self._now = 1_000_000.0
        self._waiting: weakref.WeakSet[threading.Condition] = weakref.WeakSet()

    def now(self) -> float:
        """Return the seconds since some moment in the past."""
        return self._now

    def wall(self) -> float:
        """Return the same: the store's clock and that of the holders are one."""
        return self._now

    def wait(self, condition: threading.Condition, until: float | None) -> None:
        """Wait, with the condition held, until it is notified or the clock is moved."""
        self._waiting.add(condition)
        if until is None or until > self._now:
            condition.wait()

    def move(self, seconds: float) -> None:
        """Let so many seconds pass, and whatever is due then begin."""
        self._now += seconds
        for condition in tuple(self._waiting):
            with condition:
                condition.notify_all()


def memory_coordination(clock: MovedClock | None = None) -> Coordinators:
    """Return leases in memory, by a clock that the test moves, for `container.coordination.override(...)`.

    >>> from p8fs_cluster import Container
    >>> container, clock = Container(), MovedClock()
    >>> with container.coordination.override(memory_coordination(clock)):
    ...     lock = container.cluster().lock("invoices", ttl=15)
    ...     taken = lock.acquire(timeout=0)
    ...     clock.move(20)
    ...     taken, lock.held
    (True, False)
    """
    settings = SettingsProvider()
    settings.override(P8FSConfig())
    storage = memory_storage(settings)
    return Coordinators(settings, lambda: storage, clock or BOOTTIME)
