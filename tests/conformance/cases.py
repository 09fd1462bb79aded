"""How the suite reads and writes on each engine, so that one text of a test serves them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from p8fs_cluster import Container, Storage
from tests.servers import Server


class Access(Protocol):
    def put(self, connection: Any, key: str, value: str) -> None: ...
    def get(self, connection: Any, key: str) -> str | None: ...


class Bytes:
    """Engines whose connection maps bytes to bytes."""

    def put(self, connection: Any, key: str, value: str) -> None:
        connection[key.encode()] = value.encode()

    def get(self, connection: Any, key: str) -> str | None:
        value = connection.get(key.encode())
        return None if value is None else value.decode()


class Sql:
    """Engines whose connection is PEP 249's: the same text on each."""

    def __init__(self, storage: Storage) -> None:
        storage.execute("DROP TABLE IF EXISTS conformance")
        storage.execute("CREATE TABLE conformance (name VARCHAR(64) PRIMARY KEY, value TEXT)")

    def put(self, connection: Any, key: str, value: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO conformance VALUES (%s, %s)", (key, value))

    def get(self, connection: Any, key: str) -> str | None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT value FROM conformance WHERE name = %s", (key,))
            row = cursor.fetchone()
        return None if row is None else row[0]


@dataclass
class Case:
    """An engine under test: its container, its handle, how to use what it lends, and another place to go to."""

    container: Container
    storage: Storage
    access: Access
    elsewhere: dict[str, Any]
    transactional: bool
    sql: bool
    size: Callable[[], int]
    kind: str
    """Of the store."""
    server: Server | None
    """What is behind the engine; None: nothing but this process."""

    def put(self, key: str, value: str) -> None:
        with self.storage as connection:
            self.access.put(connection, key, value)

    def get(self, key: str) -> str | None:
        with self.storage as connection:
            return self.access.get(connection, key)
