"""The tables of the nodes: a counter under lock and guard, and a resource that knows leases by their fences alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from p8fs_cluster import Storage
from tests.chaos.history import Increment, Write

__all__ = ["create", "increment", "increments", "stamp", "value", "writes"]

_TABLES = (
    "CREATE TABLE chaos_counter (name VARCHAR(20) PRIMARY KEY, value BIGINT NOT NULL)",
    "INSERT INTO chaos_counter VALUES ('counter', 0)",
    "CREATE TABLE chaos_increments (id VARCHAR(36), node VARCHAR(20), old BIGINT, new BIGINT, fence BIGINT)",
    "CREATE TABLE chaos_outside (name VARCHAR(20) PRIMARY KEY, fence BIGINT NOT NULL, number BIGINT NOT NULL)",
    "INSERT INTO chaos_outside VALUES ('outside', 0, 0)",
    "CREATE TABLE chaos_writes (number BIGINT, id VARCHAR(36), node VARCHAR(20), fence BIGINT)",
)


def create(storage: Storage) -> None:
    """Make the tables."""
    for sql in _TABLES:
        storage.execute(sql)


def increment(storage: Any, lock: Any, ident: str, node: str, think: Callable[[], None]) -> None:
    """Read the counter, think, and write what comes next, under the lock's guard, in one transaction."""
    with storage.connection() as connection:
        fence = lock.fence
        lock.guard(getattr(connection, "behind", connection))
        with connection.cursor() as cursor:
            cursor.execute("SELECT value FROM chaos_counter")
            [old] = cursor.fetchone()
            think()
            cursor.execute("UPDATE chaos_counter SET value = %s", (old + 1,))
            cursor.execute(
                "INSERT INTO chaos_increments VALUES (%s, %s, %s, %s, %s)", (ident, node, old, old + 1, fence)
            )


def stamp(storage: Any, ident: str, node: str, fence: int) -> bool:
    """Return whether the resource has accepted a write; it knows nothing but the greatest fence that it has seen."""
    with storage.connection() as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE chaos_outside SET fence = %s, number = number + 1 WHERE fence <= %s", (fence, fence))
        if cursor.rowcount == 0:
            return False
        cursor.execute("SELECT number FROM chaos_outside")
        [number] = cursor.fetchone()
        cursor.execute("INSERT INTO chaos_writes VALUES (%s, %s, %s, %s)", (number, ident, node, fence))
    return True


def value(storage: Storage) -> int:
    """Return the counter's value."""
    [(found,)] = storage.execute("SELECT value FROM chaos_counter")
    return int(found)


def increments(storage: Storage) -> list[Increment]:
    """Return all increments that were committed."""
    return [Increment(*row) for row in storage.execute("SELECT id, node, old, new, fence FROM chaos_increments")]


def writes(storage: Storage) -> list[Write]:
    """Return all writes that the resource has accepted, in that order."""
    rows = storage.execute("SELECT id, node, fence FROM chaos_writes ORDER BY number")
    return [Write(*row) for row in rows]
