"""Messages of a server's engine that has no connection: where, why, which settings lead there, and the way out."""

from __future__ import annotations

import re
from typing import ClassVar, NoReturn

from p8fs_cluster.config.problems import variable_of
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import (
    CommitUnknown,
    NotCommitted,
    PoolExhausted,
    StorageError,
    StorageTimeout,
    StorageUnavailable,
)
from p8fs_cluster.providers.storage.pool import CircuitOpen, Exhausted

__all__ = ["Messages"]

_READS = re.compile(r"[\s(]*(?:select|show|values|table)\b(?!.*\binto\b)", re.IGNORECASE | re.DOTALL)
"""The statements that only read: no EXPLAIN ANALYZE of a write, and no SELECT INTO."""


class Messages:
    """Messages about one server, whose flat settings begin with `prefix`.

    >>> class OfPostgreSQL(Messages):
    ...     provider, prefix = "postgresql", "pg"
    >>> print(OfPostgreSQL(P8FSConfig(pg_host="db")).no_connection("refused"))
    postgresql at postgres@db:5438/app: refused: is the server up, and is it there? \
P8FS_PG_HOST (from code), P8FS_PG_PORT (from the default); P8FS_POOL_TIMEOUT=5
    """

    provider: ClassVar[str]
    prefix: ClassVar[str]

    def __init__(self, settings: P8FSConfig) -> None:
        self._settings = settings

    def unavailable(self, exc: BaseException) -> StorageUnavailable:
        """Return the error that tells why there is no connection, and what settings lead there."""
        raise NotImplementedError

    def not_lent(self, exc: Exception, seconds: float) -> StorageUnavailable:
        """Return the error for what came of asking the pool for so many seconds."""
        if isinstance(exc, Exhausted):
            return PoolExhausted(self.exhausted(seconds))
        failure = exc.failure if isinstance(exc, CircuitOpen) else exc
        if isinstance(failure, StorageUnavailable):
            return StorageUnavailable(str(failure))  # of the settings; it says all itself
        if isinstance(failure, TimeoutError):
            return StorageUnavailable(self.no_answer())
        return self.unavailable(failure)

    def at_fault(self, fault: str, way_out: str, *names: str) -> str:
        """Return the message for a fault of which it is known what settings cause it."""
        commands = [f"{name}_command" for name in names]
        given = [
            command if getattr(self._settings, command, "") else name
            for name, command in zip(names, commands, strict=True)
        ]
        return f"{self}: {fault}: {way_out}: {self._settings.describe(*given)}"

    def no_connection(self, fault: str) -> str:
        """Return the message for any other."""
        where = self._settings.describe(f"{self.prefix}_host", f"{self.prefix}_port")
        timeout = f"{variable_of('pool_timeout')}={self._settings.pool_timeout:g}"
        return f"{self}: {fault}: is the server up, and is it there? {where}; {timeout}"

    def no_answer(self) -> str:
        """Return the message for a server that hangs."""
        return self.no_connection(f"no answer within {self._settings.pool_timeout:g} s")

    def exhausted(self, seconds: float) -> str:
        """Return the message for a pool all of whose connections are borrowed."""
        fault = f"all {self._settings.pool_max_size} connections were borrowed for {seconds:.3g} s"
        return self.at_fault(fault, "give them back sooner, or raise the limit", "pool_max_size", "pool_timeout")

    def too_late(self, of_block: bool) -> str:
        """Return the message for an answer that did not come by the deadline, of the block or of the settings."""
        if of_block:
            return f"{self}: no answer by the deadline that timeout= gave: allow more, or do less in one go"
        seconds = f"{self._settings.query_timeout:g} s"
        way_out = "is it stuck? Else allow more by timeout=, or by the setting"
        return self.at_fault(f"no answer within {seconds}", way_out, "query_timeout")

    def lost(self) -> str:
        """Return the message for a connection that was lost in a block that did not mind."""
        return f"{self}: the connection was lost in the block, whose writes are not committed"

    def not_committed(self, why: str, way_out: str) -> str:
        """Return the message for a transaction that the server failed or ended before it was committed."""
        return f"{self}: nothing was committed: {why}: {way_out}"

    def raise_for_commit(self, fault: Exception, text: str, lost: bool) -> NoReturn:
        """Raise what the driver's fault at a commit means; `lost`: whether the connection is gone.

        :raises CommitUnknown: it was on its way, and no answer came.
        :raises NotCommitted: it was not sent, because it would not commit what the block wrote.
        :raises StorageError: it was not done.
        """
        if isinstance(fault, NotCommitted) or (isinstance(fault, StorageTimeout) and fault.__cause__ is None):
            raise fault  # it was not sent
        if lost:
            told = f"{self}: the connection was lost while the commit was on its way ({text}): look whether it was done"
            raise CommitUnknown(told) from fault
        raise StorageError(f"{self.provider}: the transaction could not be committed: {text}") from fault

    def of_statement(self, sql: str, text: str, lost: bool) -> StorageError:
        """Return the error for a statement that was a transaction of its own; `lost`: the connection is, without an
        answer, so that whatever does not only read may have been done."""
        told = f"{self.provider}: the statement failed: {text}"
        if not lost or _READS.match(sql):
            return StorageError(told)
        return CommitUnknown(f"{told}: the connection was lost before the answer came: look whether it was done")

    def __str__(self) -> str:
        host, port, database, user = (
            getattr(self._settings, f"{self.prefix}_{name}") for name in ("host", "port", "database", "user")
        )
        return f"{self.provider} at {user}@{host}:{port}/{database}"
