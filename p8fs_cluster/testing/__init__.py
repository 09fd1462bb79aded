"""Help for tests: an engine in memory."""

from p8fs_cluster.testing.memory import MemoryEngine, memory_storage

__all__ = ["MemoryEngine", "memory_storage"]
