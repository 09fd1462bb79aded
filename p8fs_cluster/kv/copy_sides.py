"""The two sides of a copy: a store each, and where it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.di.settings import SettingsSource
from p8fs_cluster.kv.running import Runner
from p8fs_cluster.kv.stores import Stores
from p8fs_cluster.providers.storage.engines import EngineSpec
from p8fs_cluster.providers.storage.handle import Storage

__all__ = ["Side"]


@dataclass(frozen=True)
class Side:
    """A store that is read from or copied to."""

    place: str
    """The address of the store, without names of users and secrets."""
    path: Path | None
    """The folder of the store, where its data are files."""
    storage: Callable[[], Storage]
    runner: Runner

    @classmethod
    def of(cls, settings: SettingsSource, storage: Callable[[], Storage]) -> Side:
        """Return the store of a container; nothing is connected."""
        snapshot, spec = settings(), storage().spec
        path = snapshot.rocksdb_path.resolve() if spec.embedded else None
        return cls(_place(snapshot, spec), path, storage, Runner(Stores(settings, storage), storage))

    def is_same(self, other: Side) -> bool:
        """Return whether both are one store, however it is spelt."""
        if self.path is None or other.path is None:
            return self.place == other.place
        return self.path == other.path or (
            self.path.exists() and other.path.exists() and self.path.samefile(other.path)
        )


def _place(settings: P8FSConfig, spec: EngineSpec) -> str:
    if spec.embedded:
        return f"{spec.provider}:{settings.rocksdb_path.resolve()}"
    host, port, database = (getattr(settings, f"{spec.prefix}{name}", "") for name in ("host", "port", "database"))
    return f"{spec.provider}://{host}:{port}/{database}/{settings.kv_table}"
