"""Judge what psycopg's errors mean for the server, apart from the statement that they ended."""

from __future__ import annotations

import psycopg

from p8fs_cluster.providers.storage.engines import Fault

__all__ = ["fault_of"]

_LATE = ("57014", "25P04")
"""A statement, or a transaction, that the server ended because it took too long, or because somebody cancelled it."""

_UNAVAILABLE = ("57P01", "57P02", "57P03", "57P05", "25P03", "53300")
"""A session that the server ended, and a server that takes none: it starts, shuts down, or has too many."""


def fault_of(exc: BaseException) -> Fault | None:
    """Return what an error of psycopg tells of the server.

    >>> fault_of(psycopg.errors.AdminShutdown()), fault_of(psycopg.errors.UniqueViolation())
    (<Fault.UNAVAILABLE: 'no connection, or one that was lost'>, None)
    """
    code = exc.sqlstate if isinstance(exc, psycopg.Error) else None
    if code in _LATE:
        return Fault.LATE
    if code in _UNAVAILABLE or (code or "").startswith("08") or (code is None and _is_of_the_connection(exc)):
        return Fault.UNAVAILABLE
    return None


def _is_of_the_connection(exc: BaseException) -> bool:
    """Return whether it is libpq's own error: what the server answers has a code, so this is no answer."""
    return isinstance(exc, psycopg.OperationalError) and not isinstance(exc, psycopg.errors.PipelineAborted)
