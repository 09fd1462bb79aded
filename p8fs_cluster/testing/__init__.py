"""For tests: storage in memory, and the pytest plugin, which is there as soon as the package is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from p8fs_cluster.testing.memory import MemoryEngine, MovedClock, memory_coordination, memory_storage

__all__ = ["MemoryEngine", "MovedClock", "memory_coordination", "memory_storage"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from p8fs_cluster.testing import memory  # not sooner: pytest loads this package for its plugin

    return getattr(memory, name)
