"""What statements do to a session of PostgreSQL, and what its connections of either kind know of their time."""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import psycopg
import psycopg.adapt
import psycopg.rows
from psycopg.abc import AdaptContext

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import NotCommitted, StorageTimeout
from p8fs_cluster.providers.storage.messages import Messages
from p8fs_cluster.providers.storage.sockets import is_peer_alive

__all__ = ["RESET", "Refused", "Session", "TimedOut", "is_of_a_cached_plan", "keeps_session", "text_of", "told"]

_STATELESS = re.compile(
    r"[\s(]*(?:select|insert|update|delete|merge|with|values|table|begin|start\s+transaction|commit|end|rollback|abort"
    r"|savepoint|release|show|truncate|lock|fetch|move|close|notify|set\s+(?:local|transaction))\b",
    re.IGNORECASE,
)
"""What a statement begins with that leaves the session alone, unless something in it says otherwise."""

_STATEFUL = re.compile(
    r";\s*\S|\btemp(?:orary)?\b|\bpg_temp|\bpg_settings\b|\bu&\""
    r"|\b(?:set_config|setseed|dblink\w*|lo_\w+|pg_(?:try_)?advisory_(?:un)?lock\w*)\"?(?:\s|/\*.*?\*/|--.*?\n)*\(",
    re.IGNORECASE | re.DOTALL,
)
"""What in such a statement changes a session all the same. A match that means something else costs a reset, no more."""

_BEYOND_RESET = re.compile(r"\b(?:prepare|deallocate|discard|load)\b", re.IGNORECASE)
"""What no reset undoes without taking psycopg's own prepared statements along: the connection is thrown away."""

_INERROR = psycopg.pq.TransactionStatus.INERROR

_COMMENTS = r"(?:\s|/\*.*?\*/|--[^\n]*\n)*"
_TWO_PHASES = re.compile(
    _COMMENTS + r"(?:(prepare)\s+transaction|(?:commit|rollback)\s+prepared)\b", re.IGNORECASE | re.DOTALL
)
_ROLLS_BACK = re.compile(_COMMENTS + r"(?:rollback|abort)\b", re.IGNORECASE | re.DOTALL)

_LONG = 10_000
"""Characters from which on a statement is not kept in memory for the next time."""

RESET = (
    "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; SELECT pg_advisory_unlock_all();"
    "DISCARD TEMP; DISCARD SEQUENCES"
)
"""DISCARD ALL without DEALLOCATE ALL and DISCARD PLANS."""

_STATELESS_STEPS = frozenset(
    ("_commit_gen", "_rollback_gen", "_enter_gen", "_exit_gen", "_set_autocommit_gen", "_stream_fetchone_gen")
)
"""What a connection does that leaves no state in its session; psycopg's names. One not known costs a reset, no more."""


def keeps_session(statement: str) -> bool:
    """Return whether a statement leaves the session as it was. A function that changes it unseen is not recognised.

    >>> keeps_session("UPDATE notes SET title = %s"), keeps_session("SET search_path TO notes")
    (True, False)
    """
    return bool(_STATELESS.match(statement)) and not _STATEFUL.search(statement)


_keeps_session = lru_cache(1024)(keeps_session)


if TYPE_CHECKING:
    from psycopg._connection_base import BaseConnection

    _Base = BaseConnection[Any]
else:
    _Base = object


class TimedOut(StorageTimeout, psycopg.OperationalError):
    """Raised where the wait is, so that both handlers of ours and of the driver's errors see it."""


class Refused(NotCommitted, psycopg.errors.InFailedSqlTransaction):
    """Raised in place of a commit that would commit nothing."""


class Session(_Base):
    """What a connection of either kind knows: how long its waits may last, and what became of its session."""

    messages: Messages
    limit: float | None = None
    """Seconds that a wait may take where there is no deadline."""
    deadline: float | None = None
    """When the block's last wait ends, by the monotonic clock."""
    slow: float | None = None
    has_pending_data: Callable[[], int]
    """Says whether an idle connection has something to read, as one that the server closed has."""
    vouched = False
    """Whether what is being waited for leaves the session as it is."""
    dirty = False
    """Whether the session may not be what it was when it was lent."""
    beyond_reset = False
    """Whether no reset makes it so again."""

    failure: psycopg.Error | None = None
    """The last error of a statement."""
    prepared = False
    """Whether the transaction was prepared for a commit in two phases, and neither committed nor rolled back."""
    outdated = False
    """Whether it showed that it, and any connection from before, is of no use: a failover, or a changed table."""
    threshold: int | None
    """How often a statement is run before the driver prepares it."""
    attributes = 0
    """How many the driver's object has while no borrower has given it others."""
    give_back: Callable[[], None] | None
    row_factory: Any
    cursor_factory: Any
    server_cursor_factory: Any

    def begin_life(self, settings: P8FSConfig, has_pending_data: Callable[[], int]) -> None:
        """Note what a new connection needs to know."""
        self.limit, self.slow, self.has_pending_data = settings.query_timeout, settings.slow_query, has_pending_data
        self.failure = self.deadline = self.give_back = self.holder = None
        self.prepared = self.vouched = self.dirty = self.beyond_reset = self.outdated = False
        self.born = self.idle_since = time.monotonic()
        self.expires = math.inf
        self.threshold, self.attributes = self.prepare_threshold, 0

    born: float
    expires: float
    idle_since: float
    holder: Any
    """See `Pooled`."""

    def lend(self, deadline: float | None) -> None:
        """Note until when its borrower may wait."""
        self.deadline = deadline
        if not self.attributes:
            self.attributes = len(self.__dict__)

    def adapt(self, context: AdaptContext) -> None:
        """Convert values as a context does, for this borrower."""
        self._adapters = psycopg.adapt.AdaptersMap(context.adapters)

    def vouch(self, query: Any) -> None:
        """Note what the statement that follows does to the session."""
        text = self._text(query)
        self.vouched = _keeps_session(text) if len(text) < _LONG else keeps_session(text)
        if not self.vouched:
            self.beyond_reset = self.beyond_reset or bool(_BEYOND_RESET.search(text))
        if two_phases := _TWO_PHASES.match(text):
            self.prepared = bool(two_phases[1])

    def vouched_for(self) -> None:
        """Note that the statement is done. The driver counts its runs, and would so keep 100 texts of any size."""
        self.vouched = False
        counts = self._prepared._counts
        if counts and len(next(reversed(counts))[0]) >= _LONG:
            counts.popitem()

    def note(self, exc: psycopg.Error) -> None:
        """Note an error of the server, and what it tells of the connection."""
        if not isinstance(exc, psycopg.errors.InFailedSqlTransaction):  # it only says that another came before
            self.failure = exc
        if is_of_a_pooler(exc) and not self.threshold_is_off:
            exc.add_note(_POOLER)
        demoted = isinstance(exc, psycopg.errors.ReadOnlySqlTransaction) and not (self._read_only or self.dirty)
        if demoted or is_of_a_cached_plan(exc):
            self.outdated = True

    @property
    def threshold_is_off(self) -> bool:
        """Whether the driver prepares nothing, as behind a PgBouncer."""
        return self.threshold is None

    def was_undone(self, query: Any) -> bool:
        """Return whether a statement that the server took in a failed transaction was to commit it."""
        return not self.has_failed and not _ROLLS_BACK.match(self._text(query))

    def _text(self, query: Any) -> str:
        if isinstance(query, bytes):
            return query.decode(errors="replace")
        return query if isinstance(query, str) else psycopg.sql.as_string(query, self)

    @property
    def has_failed(self) -> bool:
        """Whether the server would answer a commit with a rollback, and no error."""
        return bool(self.pgconn.transaction_status == _INERROR)

    @property
    def unfinished(self) -> bool:
        """Whether there is something to commit."""
        return bool(self.pgconn.transaction_status) or self.prepared or self._tpc is not None

    @property
    def is_lost(self) -> bool:
        """Whether it ended otherwise than by its borrower's closing it, which is a rollback."""
        return self.broken

    def refusal(self) -> Refused | None:
        """Return why a commit, sent now, would not commit what the block wrote; None if it would."""
        if self.has_failed:
            return self.undone()
        if self.prepared or self._tpc is not None:
            why = "its transaction was left between the two phases of a commit"
            return self._refused(why, "commit or roll back what was prepared before the block ends")
        if self.has_pending_data() and not self.works():
            return self._refused("the server had ended the session before the commit was sent", "see the server's log")
        return None

    def undone(self) -> Refused:
        """Return the error for a transaction that had failed."""
        why = "a statement in the block had failed, and the transaction with it"
        refused = self._refused(why, "let the error leave the block, or try the statement in connection.transaction()")
        refused.__cause__ = self.failure
        return refused

    def _refused(self, why: str, way_out: str) -> Refused:
        return Refused(self.messages.not_committed(why, way_out))

    def restore_driver(self, cursor: Any, server_cursor: Any) -> None:
        """Give the driver's object the state of its beginning. Adapters are made anew for each borrower, in 2 µs."""
        self.row_factory, self.cursor_factory = psycopg.rows.tuple_row, cursor
        self.server_cursor_factory = server_cursor
        self._adapters = None
        self._notice_handlers.clear()
        self._notify_handlers.clear()
        self._notifies_backlog = deque()
        self._prepared.prepare_threshold = self.threshold
        self._prepared.prepared_max = type(self._prepared).prepared_max
        if self._tpc or self._pipeline or self.prepared or len(self.__dict__) != self.attributes:
            self.beyond_reset = True
        self.failure = None

    def seconds_for(self, gen: Any) -> float | None:
        """Note what is about to be waited for, and return the seconds that it may take, None for any.

        :raises TimedOut: the deadline has passed; nothing is sent then.
        """
        if not self.vouched and gen.__name__ not in _STATELESS_STEPS:
            self.dirty = True
        if self.deadline is None:
            return self.limit
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise self.too_late()
        return None if math.isinf(left) else left

    def too_late(self) -> TimedOut:
        """End the connection, as nothing can be asked of it in the middle of an answer, and return the fault."""
        self.pgconn.finish()
        return TimedOut(self.messages.too_late(of_block=self.deadline is not None))

    def end(self) -> None:
        """Close the connection at once, whatever it is doing."""
        self._closed = True  # so that its finalizer does not warn
        self.pgconn.finish()

    def needs_reset(self, settings: P8FSConfig) -> bool:
        """Return whether a reset is due: never behind a PgBouncer, whose sessions are not ours."""
        return (self.dirty or settings.pool_reset == "always") and not settings.pg_pgbouncer

    def is_fit(self) -> bool:
        """Return whether an idle one can be lent, told without a round trip."""
        return not self.closed and not self.has_pending_data()

    def works(self) -> bool:
        """Return whether the server has not ended it."""
        try:
            return not self.closed and is_peer_alive(self.fileno())
        except psycopg.OperationalError:  # it was closed meanwhile
            return False


_POOLER = "is there a PgBouncer in transaction mode in between? Then set P8FS_PG_PGBOUNCER=true"


def is_of_a_pooler(exc: BaseException) -> bool:
    """Return whether an error is of a prepared statement that another session has: a pooler is in between."""
    kinds = (psycopg.errors.InvalidSqlStatementName, psycopg.errors.DuplicatePreparedStatement)
    return isinstance(exc, kinds) and "_pg3_" in str(exc)


def is_of_a_cached_plan(exc: BaseException) -> bool:
    """Return whether a prepared statement can't be run any more, because its tables have changed. Nothing was done."""
    return isinstance(exc, psycopg.errors.FeatureNotSupported) and "cached plan" in str(exc)


def told(exc: BaseException) -> str:
    """Return what an error says, and what to do about it where that is known."""
    return f"{text_of(exc)}; {_POOLER}" if is_of_a_pooler(exc) else text_of(exc)


def text_of(exc: BaseException) -> str:
    """The first line; libpq's others guess at causes, or tell of each address that was tried."""
    return " ".join(str(exc).partition("\n")[0].split()) or type(exc).__name__
