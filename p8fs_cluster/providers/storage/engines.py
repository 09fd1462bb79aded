"""Engines: their protocols, their specs, which need no import, and the one table of all specs."""

from __future__ import annotations

import enum
import weakref
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Protocol

from p8fs_cluster.config.engines import installed
from p8fs_cluster.config.section import Section
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import ConfigurationError

__all__ = ["AsyncEngine", "Engine", "EngineSpec", "Fault", "Parameters", "SpecOf", "built_in", "spec_of"]

Parameters = Sequence[Any] | Mapping[str, Any] | None


class Fault(enum.Enum):
    """The meaning of an error for the store, apart from the statement that it ended."""

    UNAVAILABLE = "no connection, or one that was lost"
    LATE = "no answer in time: what was sent may have been carried out"


class Engine(Protocol):
    """An engine for threads. The constructor stores; `open` does I/O; calls come from any thread.

    Borrowed connections are counted outside: `close` is called once, when none is out. An embedded store may have
    besides: `scan(connection, span, reverse)`, which yields keys and values in order, `checkpoint(folder)`, and
    `pairs()`, the `kv.Pairs` in which a key-value store is kept.
    """

    questions: ClassVar[tuple[str, ...]]
    """Statements whose answers `inspected` reads; none where there is no server."""

    def __init__(self, settings: P8FSConfig) -> None: ...
    def open(self) -> None: ...
    def close(self) -> None: ...
    def acquire(self, deadline: float | None, holder: weakref.ref[Any] | None = None) -> Any:
        """Lend a connection whose waits end by `deadline`, of the monotonic clock; None: by `query_timeout` each.

        `holder`: who borrows; a connection whose holder is gone may be taken back.

        :raises StorageUnavailable: none could be had by then, nor within `pool_timeout` seconds.
        """

    def release(self, connection: Any, exc: BaseException | None) -> None:
        """Commit, or roll back if `exc` is given, then take the connection back, whatever happened."""

    def execute(self, connection: Any, sql: str, parameters: Parameters) -> list[Any]:
        """Run one statement, whose text has `%s` for each parameter, and return its rows.

        :raises StorageError: the statement failed, or the store has no SQL.
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


class AsyncEngine(Protocol):
    """An engine for one event loop, whose calls all come from there; its methods are those of `Engine`."""

    async def open(self) -> None: ...
    def close(self) -> None: ...
    async def acquire(self, deadline: float | None, holder: weakref.ref[Any] | None = None) -> Any: ...
    async def release(self, connection: Any, exc: BaseException | None) -> None: ...
    async def execute(self, connection: Any, sql: str, parameters: Parameters) -> list[Any]: ...
    async def ping(self, connection: Any) -> None: ...
    def cut(self, connection: Any) -> None: ...
    def retry_pause(self, exc: BaseException) -> float | None: ...
    def stats(self) -> dict[str, int]: ...


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """All that is known of an engine before its driver is imported.

    >>> spec_of(P8FSConfig(storage_provider="tidb")).sqlalchemy_url
    'mysql+pymysql://'
    """

    provider: str
    """The value of `storage_provider` that names it."""
    engine: str | type[Engine]
    """Its class for threads, or `package.module:Class`, which is imported when the engine is first used."""
    async_engine: str | type[AsyncEngine] | None = None
    """Its class for asyncio; None: there is no driver, and the class for threads is used in threads."""
    prefix: str = ""
    """The beginning of the names of its flat settings; every one of them belongs to its key."""
    section: type[Section] | None = None
    """Its settings, where they are a section; every one of them belongs to its key."""
    shares: tuple[str, ...] = ()
    """Names of the other settings on which it depends."""
    sqlalchemy_url: str | None = None
    """`dialect+driver://` for SQLAlchemy; None: the store has no SQL, and `execute` raises StorageError."""
    transactional: bool = True
    """True if an exception in the `with` block undoes what the block wrote."""
    embedded: bool = False
    """True if its data are files of this machine."""
    backup: str = "its own tools"
    """The tools that copy the store where it has no checkpoints, for a message."""
    system: str = ""
    """OpenTelemetry's name for it (`db.system.name`), where that is another one."""
    faults: str | Callable[[BaseException], Fault | None] | None = None
    """A function, or `package.module:function`, that says what an error of the driver tells of the store, if anything.
    It is imported when there is an error of a class of the `driver`."""
    driver: str = ""
    """The package of the classes of errors that `faults` judges."""
    leases: str | type[Any] | None = None
    """A class of `providers.storage.leases.Leases`, or `package.module:Class`; None: the store has no coordination."""
    kv: str | type[Any] | None = None
    """A class of `providers.storage.kv_rows.KeyRows`, or `package.module:Class`, of a server; None: no key-value store.
    An embedded engine has one if it has `pairs()`."""

    def key(self, settings: P8FSConfig) -> Hashable:
        """Return the values of all settings that the engine depends on: equal keys share an engine."""
        flat = vars(settings)
        own = [value for name, value in flat.items() if self.prefix and name.startswith(self.prefix)]
        section = vars(settings.section(self.section)).values() if self.section else ()
        values = (*own, *(flat[name] for name in self.shares), *section)
        if self.embedded:  # one file has many spellings, and may be opened once
            values = tuple(value.resolve() if isinstance(value, Path) else value for value in values)
        return self.provider, *values

    def engine_class(self) -> type[Engine]:
        """Return the class for threads, imported."""
        return self.engine if isinstance(self.engine, type) else _imported(self.engine)

    def fault(self, exc: BaseException) -> Fault | None:
        """Return what an error, of the driver alone, tells of the store; None: nothing, or it is not the driver's."""
        if self.faults is None or not any(cls.__module__.split(".")[0] == self.driver for cls in type(exc).__mro__):
            return None
        judge: Callable[[BaseException], Fault | None]
        judge = _imported(self.faults) if isinstance(self.faults, str) else self.faults
        return judge(exc)

    def leases_class(self) -> type[Any] | None:
        """Return the class for coordination, imported; None if there is none."""
        return _imported(self.leases) if isinstance(self.leases, str) else self.leases

    def kv_class(self) -> type[Any] | None:
        """Return the class for the key-value store, imported; None if there is none."""
        return _imported(self.kv) if isinstance(self.kv, str) else self.kv

    def async_engine_class(self) -> type[Any] | None:
        """Return the class for asyncio, imported; None if there is none."""
        return _imported(self.async_engine) if isinstance(self.async_engine, str) else self.async_engine


SpecOf = Callable[[P8FSConfig], EngineSpec]
"""Returns the spec of the engine that the settings name."""

_POOLED = ("pool_max_size", "pool_timeout", "pool_max_lifetime", "pool_reset", "query_timeout", "slow_query")

_BUILT_IN = {
    spec.provider: spec
    for spec in (
        EngineSpec(
            provider="postgresql",
            engine="p8fs_cluster.providers.storage.postgresql.engine:PostgreSQL",
            async_engine="p8fs_cluster.providers.storage.postgresql.async_engine:AsyncPostgreSQL",
            prefix="pg_",
            shares=(*_POOLED, "service_name", "pod_name"),
            sqlalchemy_url="postgresql+psycopg://",
            backup="pg_dump and pg_restore",
            faults="p8fs_cluster.providers.storage.postgresql.faults:fault_of",
            leases="p8fs_cluster.providers.storage.postgresql.leases:Leases",
            kv="p8fs_cluster.providers.storage.postgresql.kv:KV",
            driver="psycopg",
        ),
        EngineSpec(
            provider="tidb",
            engine="p8fs_cluster.providers.storage.tidb.engine:TiDB",
            async_engine="p8fs_cluster.providers.storage.tidb.async_engine:AsyncTiDB",
            prefix="tidb_",
            shares=(*_POOLED, "service_name", "environment"),
            sqlalchemy_url="mysql+pymysql://",
            backup="BR",
            system="mysql",
            faults="p8fs_cluster.providers.storage.tidb.faults:fault_of",
            leases="p8fs_cluster.providers.storage.tidb.leases:Leases",
            kv="p8fs_cluster.providers.storage.tidb.kv:KV",
            driver="pymysql",
        ),
        EngineSpec(
            provider="rocksdb",
            engine="p8fs_cluster.providers.storage.rocksdb.engine:RocksDB",
            prefix="rocksdb_",
            transactional=False,
            embedded=True,
            leases="p8fs_cluster.providers.storage.rocksdb.leases:Leases",
        ),
    )
}


def built_in() -> Iterable[EngineSpec]:
    """Return the specs of the engines of this package."""
    return _BUILT_IN.values()


def spec_of(settings: P8FSConfig) -> EngineSpec:
    """Return the spec of the engine that `storage_provider` names: one of the built-in ones, or an installed one.

    :raises ConfigurationError: the package that tells of it gives no `EngineSpec` of that name.
    """
    name = settings.storage_provider
    spec = _BUILT_IN.get(name)
    if spec is not None:
        return spec
    spec = installed(name)
    if not isinstance(spec, EngineSpec) or spec.provider != name:
        kind = type(spec).__name__
        raise ConfigurationError(f"the entry point of the engine {name} gives a {kind}, no EngineSpec of that name")
    return spec


def _imported(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
