"""What an engine is, and the one table of those there are."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Protocol

from p8fs_cluster.config.settings import P8FSConfig

__all__ = ["ENGINES", "Engine", "Engines", "Parameters", "Span", "engine_class"]

Parameters = Sequence[Any] | Mapping[str, Any] | None


@dataclass(frozen=True)
class Span:
    """The keys from `start` to before `stop`, in the order of bytes; None: to the end.

    >>> Span.of(b"note:", None, b"note:7"), b"note:6" in Span.of(b"note:", None, None)
    (Span(start=b'note:', stop=b'note:7'), True)
    """

    start: bytes
    stop: bytes | None

    @classmethod
    def of(cls, prefix: bytes, start: bytes | None, stop: bytes | None) -> Span:
        """Return the keys with a prefix, of these those between two others."""
        stem = prefix.rstrip(b"\xff")
        after = stem[:-1] + bytes([stem[-1] + 1]) if stem else None
        ends = [end for end in (after, stop) if end is not None]
        return cls(max(prefix, start or b""), min(ends, default=None))

    def __contains__(self, key: bytes) -> bool:
        return key >= self.start and (self.stop is None or key < self.stop)


class Engine(Protocol):
    """What an engine's file provides. The constructor stores; `open` does I/O; calls come from any thread.

    Borrowed connections are counted outside: `close` is called once, when none is out.
    """

    provider: ClassVar[str]
    sqlalchemy_url: ClassVar[str | None]
    """`dialect+driver://` for SQLAlchemy; None: the store has no SQL, and `execute` raises StorageError."""
    transactional: ClassVar[bool]
    """Whether an exception in the `with` block undoes what the block wrote."""
    questions: ClassVar[tuple[str, ...]]
    """Statements whose answers `inspected` reads; none where there is no server."""

    def __init__(self, settings: P8FSConfig) -> None: ...

    @staticmethod
    def key(settings: P8FSConfig) -> Hashable:
        """Return all that an engine depends on: equal keys share an engine."""

    def open(self) -> None: ...
    def close(self) -> None: ...
    def acquire(self, deadline: float | None, holder: weakref.ref[Any] | None = None) -> Any:
        """Lend a connection whose waits end by `deadline`, of the monotonic clock; None: by `query_timeout` each.

        `holder`: who borrows; a connection whose holder is gone, or says that it is abandoned, may be taken back.

        :raises StorageUnavailable: none could be had by then, nor within `pool_timeout` seconds.
        """

    def release(self, connection: Any, exc: BaseException | None) -> None:
        """Commit, or roll back if `exc` is given, then take the connection back, whatever happened."""

    def execute(self, connection: Any, sql: str, parameters: Parameters) -> list[Any]: ...
    def scan(self, connection: Any, span: Span, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values in order, backwards if `reverse`.

        :raises StorageError: the store has no keys.
        """

    def ping(self, connection: Any) -> None:
        """Make one round trip."""

    def cut(self, connection: Any) -> None:
        """End a connection under its borrower, whose calls fail from then on."""

    @staticmethod
    def retry_pause(exc: BaseException) -> float | None:
        """Return the seconds to begin with before the transaction that failed so is tried again; None: don't."""

    @staticmethod
    def inspected(answers: Sequence[Sequence[tuple[Any, ...]]]) -> str:
        """Return what the server is and what of its settings matters here.

        :raises StorageError: its settings would make what is promised untrue.
        """

    def stats(self) -> dict[str, int]:
        """Return `size`, `idle`, `waiting` and `max_size` of the pool."""


Engines = Mapping[str, str | type[Engine]]

ENGINES: Engines = {
    "postgresql": "p8fs_cluster.providers.storage.postgresql.engine:PostgreSQL",
    "tidb": "p8fs_cluster.providers.storage.tidb.engine:TiDB",
    "rocksdb": "p8fs_cluster.providers.storage.rocksdb.engine:RocksDB",
}
"""`storage_provider` → where its class is. The module, and with it the driver, is imported when it is first used."""


def engine_class(engines: Engines, settings: P8FSConfig) -> type[Engine]:
    """Return the class of the engine that the settings name."""
    place = engines[settings.storage_provider]
    if not isinstance(place, str):
        return place
    module, _, name = place.partition(":")
    found: type[Engine] = getattr(import_module(module), name)
    return found
