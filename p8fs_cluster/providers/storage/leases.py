"""The part of an engine that coordination uses: lease rows by the database's clock, on connections of their own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.di.settings import SettingsSource
from p8fs_cluster.exceptions import StorageError

__all__ = ["CHANNEL", "TABLE", "Busy", "LeaseStore", "Leases", "Limits", "NoTable", "Run", "Spelling", "Stamp"]

T = TypeVar("T")

TABLE = "p8fs_leases"
CHANNEL = "p8fs_leases"
"""The channel on which the end of a lease is announced, if the engine has announcements."""

Run = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
"""Runs one statement, in the transaction that it belongs to, and returns its rows."""


class Stamp(NamedTuple):
    """The fence of the row that an update has matched, and the timeline of the server; 0 where there is none."""

    fence: int
    timeline: int


class Limits(NamedTuple):
    """The least seconds that the clock of the database calls for."""

    ttl: float
    margin: float
    """Between a holder's deadline and the end of its lease."""
    why: str


class NoTable(StorageError):
    """A table of coordination, or one of its columns, is not there."""


class Busy(StorageError):
    """Somebody else has locked the row, or was in conflict over it, and nothing was done: it may be tried again."""


class Spelling:
    """The texts of statements as one engine spells them.

    >>> Spelling((("$now", "now()"),))("SELECT $now")
    'SELECT now()'
    """

    def __init__(self, words: Sequence[tuple[str, str]]) -> None:
        self._words = words
        self._texts: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        """Return a text with the engine's words in it."""
        spelt = self._texts.get(text)
        if spelt is None:
            spelt = text
            for word, own in self._words:
                spelt = spelt.replace(word, own)
            self._texts[text] = spelt
        return spelt


class LeaseStore(Protocol):
    """Statements of coordination on one connection, whose waits end.

    In texts `$now` is the database's clock in microseconds, `$ms` the same in milliseconds, `$greatest` the function,
    `$key` and `$text` are types; `$ignore` and `$nothing` make an INSERT do nothing where the key exists; `$locking`
    makes a SELECT lock what it reads, and `$often` says that a table's rows change often.
    """

    def execute(self, sql: str, parameters: Sequence[Any], seconds: float) -> list[tuple[Any, ...]]:
        """Run one statement, committed, and return its rows.

        :raises NoTable: a table is not there.
        :raises Busy: a row is locked.
        :raises StorageError: it failed otherwise.
        """

    def update(
        self, fence: str, others: str, where: str, parameters: Sequence[Any], seconds: float, *, announce: bool = False
    ) -> Stamp | None:
        """Update the one lease that `where` matches, and return its fence; None: there is none, by no count of rows.

        `fence`: the expression of the new one. `announce`: wake who listens, if somebody waits for this lease.
        """

    def transact(self, work: Callable[[Run], T], seconds: float) -> T:
        """Return what `work(run)` returns, committed as a whole."""

    def limits(self, seconds: float) -> Limits | None:
        """Return what the database's clock calls for; None: nothing."""

    def announcements(self) -> Generator[str | None, None, None] | None:
        """Yield the names of leases that end, "" where some may have been missed, and None at least each second.

        None in place of all that: the engine has no announcements.
        """

    def close(self) -> None:
        """End the connections; `announcements` ends at once."""


class Leases(Protocol):
    """An engine's coordination, before anything is connected."""

    guard: ClassVar[str]
    """The end of a SELECT that locks the lease's row against its next holder, up to the commit; empty: none."""
    announces: ClassVar[bool]
    """True if the end of a lease is announced."""

    def __init__(self, settings: SettingsSource) -> None: ...
    def store(self, clock: Callable[[], float]) -> LeaseStore:
        """Return a store with connections of its own. `clock`: seconds since 1970, where there is no server's."""

    @staticmethod
    def commits_at_once(connection: Any) -> bool:
        """Return whether a statement on a borrowed connection is committed by itself."""

    @staticmethod
    def refusal(settings: P8FSConfig) -> str:
        """Return why there is no coordination with these settings; empty: there is."""
