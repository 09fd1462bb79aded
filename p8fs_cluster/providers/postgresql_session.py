"""What statements do to a session of PostgreSQL, and what its connections of either kind know of their time."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import psycopg

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import StorageTimeout
from p8fs_cluster.providers.faults import Faults
from p8fs_cluster.providers.sockets import is_whole

__all__ = ["RESET", "Session", "TimedOut", "keeps_session", "text_of"]

_STATEFUL = re.compile(
    r"^\s*(?:set\b(?!\s+(?:local|transaction)\b)|reset|listen|unlisten|load|prepare|deallocate|declare|discard|do|call"
    r"|copy|/\*|--)|;\s*\S|\btemp(?:orary)?\b"
    r"|\b(?:set_config|setseed|dblink\w*|lo_\w+|pg_(?:try_)?advisory_(?:un)?lock\w*)\s*\(",
    re.IGNORECASE,
)
"""Statements after which a session is not what it was."""

_BEYOND_RESET = re.compile(r"\b(?:prepare|deallocate|discard|load)\b", re.IGNORECASE)
"""What no reset undoes without taking psycopg's own prepared statements along: the connection is thrown away."""

RESET = (
    "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; SELECT pg_advisory_unlock_all();"
    "DISCARD TEMP; DISCARD SEQUENCES"
)
"""DISCARD ALL without DEALLOCATE ALL and DISCARD PLANS."""

_STATELESS_STEPS = frozenset(
    ("_commit_gen", "_rollback_gen", "_enter_gen", "_exit_gen", "_set_autocommit_gen", "_stream_fetchone_gen")
)
"""What a connection does that leaves no state in its session; psycopg's names. One not known costs a reset, no more."""


@lru_cache(1024)
def keeps_session(statement: str) -> bool:
    """Return whether a statement leaves the session as it was. A function that changes it unseen is not recognised.

    >>> keeps_session("UPDATE notes SET title = %s"), keeps_session("SET search_path TO notes")
    (True, False)
    """
    return not _STATEFUL.search(statement)


class TimedOut(StorageTimeout, psycopg.OperationalError):
    """Raised where the wait is, so that both handlers of ours and of the driver's errors see it."""


class Session:
    """What a connection of either kind knows: how long its waits may last, and what became of its session."""

    faults: Faults
    limit: float | None = None
    """Seconds that a wait may take where there is no deadline."""
    deadline: float | None = None
    """When the block's last wait ends, by the monotonic clock."""
    slow: float | None = None
    peek: Callable[[], int]
    """Says whether an idle connection has something to read, as one that the server closed has."""
    vouched = False
    """Whether what is being waited for leaves the session as it is."""
    soiled = False
    """Whether the session may not be what it was when it was lent."""
    spoilt = False
    """Whether no reset makes it so again."""

    def vouch(self, query: Any) -> None:
        """Note what the statement that follows does to the session."""
        text = query if isinstance(query, str) else psycopg.sql.as_string(query, self)  # type: ignore[arg-type]
        self.vouched = keeps_session(text)
        if not self.vouched and _BEYOND_RESET.search(text):
            self.spoilt = True

    def seconds_for(self, gen: Any) -> float | None:
        """Note what is about to be waited for, and return the seconds that it may take, None for any.

        :raises TimedOut: the deadline has passed; nothing is sent then.
        """
        if not self.vouched and gen.__name__ not in _STATELESS_STEPS:
            self.soiled = True
        if self.deadline is None:
            return self.limit
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise self.too_late()
        return None if math.isinf(left) else left

    def too_late(self) -> TimedOut:
        """End the connection, as nothing can be asked of it in the middle of an answer, and return the fault."""
        self.pgconn.finish()  # type: ignore[attr-defined]
        return TimedOut(self.faults.too_late(of_block=self.deadline is not None))

    def needs_reset(self, settings: P8FSConfig) -> bool:
        """Return whether a reset is due: never behind a PgBouncer, whose sessions are not ours."""
        return (self.soiled or settings.pool_reset == "always") and not settings.pg_pgbouncer

    def works(self) -> bool:
        """Return whether the server has not ended it."""
        try:
            return not self.closed and is_whole(self.fileno())  # type: ignore[attr-defined]
        except psycopg.OperationalError:  # it was closed meanwhile
            return False


def text_of(exc: BaseException) -> str:
    """The first line; libpq's others guess at causes, or tell of each address that was tried."""
    return " ".join(str(exc).partition("\n")[0].split()) or type(exc).__name__
