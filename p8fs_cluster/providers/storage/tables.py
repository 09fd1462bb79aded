"""Tables of ours in a database, by version: made and upgraded step by step, so that an interrupted one goes on."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from p8fs_cluster.exceptions import StorageError, TablesMissing
from p8fs_cluster.providers.storage.leases import NoTable

__all__ = ["Executing", "Step", "Tables"]

_TRIES = 20


class Executing(Protocol):
    """Runs statements, whose words it spells as its engine does."""

    def execute(self, sql: str, parameters: Sequence[Any], seconds: float) -> list[tuple[Any, ...]]:
        """Run one statement, committed, and return its rows.

        :raises NoTable: a table is not there.
        :raises StorageError: it failed otherwise.
        """


class Step(NamedTuple):
    """The statements that lead to a version. Each one may run again, and nodes of the version before go on working."""

    version: int
    statements: tuple[str, ...]


@dataclass(frozen=True)
class Tables:
    """Tables that have a version together."""

    what: str
    """The part of the package that they belong to, for a message."""
    way_out: str
    """The way to make them, for a message."""
    versions: str
    """The table of the versions that were reached."""
    names: tuple[str, ...]
    key: str
    """The column that is the key of each of them, or its beginning."""
    steps: tuple[Step, ...]

    def version_of(self, store: Executing, seconds: float) -> int:
        """Return the version of the tables; 0: one of them is not there, as when somebody has dropped it."""
        others = " AND ".join(f"NOT EXISTS (SELECT 1 FROM {table} WHERE {self.key} = '')" for table in self.names)
        try:
            [(version,)] = store.execute(f"SELECT max(version) FROM {self.versions} WHERE {others}", (), seconds)
        except NoTable:
            return 0
        return version or 0

    def create(self, store: Executing, seconds: float, steps: Sequence[Step] | None = None) -> list[int]:
        """Make what is missing, keep what is there, and return the versions that were added.

        :raises StorageError: a statement failed; what was done stays, and the next call goes on from there.
        """
        tables = self if steps is None else replace(self, steps=tuple(steps))
        for again in reversed(range(_TRIES)):
            try:
                return tables._created(store, seconds)
            except StorageError:  # two that make a table at once: PostgreSQL refuses one of them
                if not again:
                    raise
                time.sleep(random.uniform(0.01, 0.1))  # noqa: S311
        raise AssertionError("unreachable")

    def _created(self, store: Executing, seconds: float) -> list[int]:
        store.execute(f"CREATE TABLE IF NOT EXISTS {self.versions} (version INT NOT NULL PRIMARY KEY)", (), seconds)
        done = self.version_of(store, seconds)
        added = [step for step in self.steps if step.version > done]
        for step in added:
            for statement in step.statements:
                store.execute(statement, (), seconds)
            store.execute(f"INSERT $ignore INTO {self.versions} VALUES (%s) $nothing", (step.version,), seconds)
        return [step.version for step in added]

    def require(self, store: Executing, seconds: float) -> None:
        """Return if the tables are there, of this version or a later one, which keeps to what this one reads.

        :raises TablesMissing: they are not.
        """
        version = self.version_of(store, seconds)
        if version < self.steps[-1].version:
            told = "are of an older release" if version else "are not there"
            raise TablesMissing(f"the tables of {self.what} {told}: {self.way_out}")
