"""Coordination beside a RocksDB, which belongs to one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from p8fs_cluster.config.problems import variable_of
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.di.settings import SettingsSource
from p8fs_cluster.providers.storage.leases import LeaseStore
from p8fs_cluster.providers.storage.local_leases import local_store

__all__ = ["Leases"]


class Leases:
    """Leases of the process that writes the RocksDB, kept beside its directory."""

    guard: ClassVar[str] = ""
    announces: ClassVar[bool] = False

    def __init__(self, settings: SettingsSource) -> None:
        self._settings = settings

    def store(self, clock: Callable[[], float]) -> LeaseStore:
        path = self._settings.everywhere().rocksdb_path.resolve()
        return local_store(path.with_name(f"{path.name}.leases"), clock)

    @staticmethod
    def commits_at_once(connection: Any) -> bool:
        return True

    @staticmethod
    def refusal(settings: P8FSConfig) -> str:
        if settings.rocksdb_mode == "primary":
            return ""
        mode = f"{variable_of('rocksdb_mode')}={settings.rocksdb_mode}"
        return f"on rocksdb leases belong to the process that writes it, and {mode} looks on"
