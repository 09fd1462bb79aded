"""Which session of the server a connection is, so that tests see who uses whose."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from p8fs_cluster import Container, Storage

SESSION = {"postgresql": "pg_backend_pid()", "tidb": "CONNECTION_ID()"}
SESSIONS = {
    "postgresql": "SELECT pid FROM pg_stat_activity",
    "tidb": "SELECT id FROM information_schema.processlist",
}


def of_connection(storage: Storage, connection: Any) -> int:
    """Return the session of a borrowed connection."""
    return one(connection, f"SELECT {SESSION[storage.provider]}")


def of_engine(container: Container) -> int:
    """Return a session that SQLAlchemy is given."""
    with container.engine().connect() as connection:
        session: int = connection.exec_driver_sql(f"SELECT {SESSION[container.storage().provider]}").scalar_one()
        return session


def one(connection: Any, sql: str) -> int:
    """Return the only value of a query on a DB-API connection."""
    cursor = connection.cursor()
    cursor.execute(sql)
    value: int = cursor.fetchone()[0]
    return value


def asked_in_parallel(container: Container, times: int = 40) -> list[int]:
    """Ask from several threads, look that each gets its own answer, and return the sessions that gave them."""
    storage = container.storage()

    def ask(number: int) -> int:
        [(answer, session)] = storage.execute(f"SELECT %s, {SESSION[storage.provider]}", (f"question {number}",))
        assert answer == f"question {number}"
        return int(session)

    with ThreadPoolExecutor(4) as threads:
        return sorted({*threads.map(ask, range(times)), of_engine(container)})


def alive(storage: Storage) -> set[int]:
    """Return every session that the server has."""
    return {session for (session,) in storage.execute(SESSIONS[storage.provider])}


class Parent:
    """A process that has an idle connection, and one in the midst of a transaction, while it has children."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.storage = container.storage()
        for sql in ("DROP TABLE IF EXISTS before_the_fork", "CREATE TABLE before_the_fork (name VARCHAR(9))"):
            self.storage.execute(sql)
        self.lease = self.storage.connection()
        self.connection = self.lease.__enter__()
        self.connection.cursor().execute("INSERT INTO before_the_fork VALUES ('held')")
        with self.storage as connection:
            self.idle = of_connection(self.storage, connection)
        self.held = of_connection(self.storage, self.connection)

    def before(self) -> dict[str, Any]:
        """What the parent has when it gets its children."""
        return {"idle": self.idle, "held": self.held}

    def after(self) -> dict[str, Any]:
        """What it has when they are gone: the same, and its transaction whole."""
        held = of_connection(self.storage, self.connection)
        in_transaction = one(self.connection, "SELECT count(*) FROM before_the_fork WHERE name = 'held'")
        others = self.storage.execute("SELECT count(*) FROM before_the_fork")[0][0]
        with self.storage as connection:
            idle = of_connection(self.storage, connection)
        self.lease.__exit__(None, None, None)
        committed = self.storage.execute("SELECT count(*) FROM before_the_fork")[0][0]
        return {"idle": idle, "held": held, "rows": [in_transaction, others, committed]}
