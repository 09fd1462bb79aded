"""What a server's engine says when it has no connection: where, why, which settings lead there, and the way out."""

from __future__ import annotations

from p8fs_cluster.config.settings import P8FSConfig

__all__ = ["Faults"]


class Faults:
    """Messages about one server, whose settings begin with `prefix`.

    >>> print(Faults("postgresql", "pg", P8FSConfig(pg_host="db")).no_connection("refused"))
    postgresql at postgres@db:5438/app: refused: is the server up, and is it there? \
P8FS_PG_HOST (from code), P8FS_PG_PORT (from the default); P8FS_POOL_TIMEOUT=5
    """

    def __init__(self, provider: str, prefix: str, settings: P8FSConfig) -> None:
        self._provider = provider
        self._prefix = prefix
        self._settings = settings

    def at_fault(self, fault: str, way_out: str, *names: str) -> str:
        """Return the message for a fault of which it is known what settings cause it."""
        return f"{self}: {fault}: {way_out}: {self._settings.describe(*names)}"

    def no_connection(self, fault: str) -> str:
        """Return the message for any other."""
        where = self._settings.describe(f"{self._prefix}_host", f"{self._prefix}_port")
        timeout = f"P8FS_POOL_TIMEOUT={self._settings.pool_timeout:g}"
        return f"{self}: {fault}: is the server up, and is it there? {where}; {timeout}"

    def no_answer(self) -> str:
        """Return the message for a server that hangs."""
        return self.no_connection(f"no answer within {self._settings.pool_timeout:g} s")

    def exhausted(self) -> str:
        """Return the message for a pool all of whose connections are borrowed."""
        size, seconds = self._settings.pool_max_size, self._settings.pool_timeout
        fault = f"all {size} connections were borrowed for {seconds:g} s"
        return self.at_fault(fault, "give them back sooner, or raise the limit", "pool_max_size")

    def __str__(self) -> str:
        host, port, database, user = (
            getattr(self._settings, f"{self._prefix}_{name}") for name in ("host", "port", "database", "user")
        )
        return f"{self._provider} at {user}@{host}:{port}/{database}"
