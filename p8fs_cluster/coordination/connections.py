"""Borrowed connections of users, whose transactions are guarded."""

from __future__ import annotations

from typing import Any

from p8fs_cluster.exceptions import CoordinationError

__all__ = ["driver_connection"]


def driver_connection(connection: Any) -> Any:
    """Return the driver's connection beneath a session or connection of SQLAlchemy, else the given one.

    :raises CoordinationError: it is none.
    """
    if hasattr(connection, "get_bind"):
        connection = connection.connection()
    if hasattr(connection, "exec_driver_sql"):
        connection = connection.connection.dbapi_connection
    if not hasattr(connection, "cursor"):
        kind = type(connection).__name__
        raise CoordinationError(f"a {kind} is no borrowed connection: `with storage.connection()` gives one")
    return connection
