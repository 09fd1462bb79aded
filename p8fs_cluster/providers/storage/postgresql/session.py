"""The state of a PostgreSQL session, for connections of either kind; nothing here waits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import psycopg
import psycopg.rows
from psycopg.abc import AdaptContext

from p8fs_cluster.config.problems import variable_of
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import NotCommitted, StorageTimeout
from p8fs_cluster.providers.storage.postgresql import compat
from p8fs_cluster.providers.storage.postgresql.statements import LONG, Effects, effects
from p8fs_cluster.providers.storage.session import SessionState
from p8fs_cluster.providers.storage.sockets import is_peer_alive

__all__ = ["Refused", "Session", "TimedOut", "described", "is_of_a_cached_plan", "text_of"]

_IDLE = psycopg.pq.TransactionStatus.IDLE
_INERROR = psycopg.pq.TransactionStatus.INERROR
_ACTIVE = psycopg.pq.TransactionStatus.ACTIVE


class TimedOut(StorageTimeout, psycopg.OperationalError):
    """Raised where the wait is, so that both handlers of ours and of the driver's errors see it."""


class Refused(NotCommitted, psycopg.errors.InFailedSqlTransaction):
    """Raised in place of a commit that would commit nothing."""


class Session(SessionState, compat.ConnectionSteps):
    """The state of a connection of either kind: how long its waits may last, and what became of its session."""

    beyond_reset = False
    """True if no reset makes it so again."""
    failure: psycopg.Error | None = None
    """The last error of a statement."""
    prepared = False
    """True if the transaction was prepared for a commit in two phases, and neither committed nor rolled back."""
    threshold: int | None
    """The number of runs of a statement before the driver prepares it."""
    tables: tuple[object, ...]
    """Those by which values are converted, as long as no borrower has changed them."""
    attributes = 0
    """The number that the driver's object has while no borrower has given it others."""
    give_back: Callable[[], None] | None
    row_factory: Any
    cursor_factory: Any
    server_cursor_factory: Any

    def begin_life(self, has_pending_data: Callable[[], int]) -> None:
        super().begin_life(has_pending_data)
        self.failure = self.give_back = None
        self.prepared = self.beyond_reset = False
        self.threshold, self.attributes = self.prepare_threshold, 0
        self.tables = compat.tables(self)

    def lend(self, deadline: float | None) -> None:
        """Note until when its borrower may wait."""
        self.deadline = deadline
        if not self.attributes:
            self.attributes = len(self.__dict__)

    def adapt(self, context: AdaptContext) -> None:
        """Convert values as a context does, for this borrower."""
        compat.adapt(self, context)

    def starts(self, query: Any) -> Effects:
        """Note what the statement that follows does to the session, and return it."""
        does = effects(query if isinstance(query, str) else self._text(query))
        if not does.keeps_session:
            self.dirty = True
            self.beyond_reset = self.beyond_reset or does.beyond_reset
        if does.two_phases is not None:
            self.prepared = does.two_phases
        return does

    def ended(self) -> None:
        """Note that a long statement is done."""
        compat.forget_last_text(self, LONG)

    def note(self, exc: psycopg.Error) -> None:
        """Note an error of the server, and what it tells of the connection."""
        if not isinstance(exc, psycopg.errors.InFailedSqlTransaction):  # it only says that another came before
            self.failure = exc
        if is_of_a_pooler(exc) and not self.threshold_is_off:
            exc.add_note(_pooler())
        read_only = isinstance(exc, psycopg.errors.ReadOnlySqlTransaction)
        demoted = read_only and not (compat.is_read_only(self) or self.dirty)
        if demoted or is_of_a_cached_plan(exc):
            self.outdated = True

    @property
    def threshold_is_off(self) -> bool:
        """Return whether the driver prepares nothing, as behind a PgBouncer."""
        return self.threshold is None

    def was_undone(self, query: Any) -> bool:
        """Return whether a statement that the server took in a failed transaction was to commit it."""
        return not self.has_failed and not effects(self._text(query)).rolls_back

    def _text(self, query: Any) -> str:
        if isinstance(query, bytes):
            return query.decode(errors="replace")
        return query if isinstance(query, str) else psycopg.sql.as_string(query, self)

    @property
    def has_failed(self) -> bool:
        """Return whether the server would answer a commit with a rollback, and no error."""
        return bool(self.pgconn.transaction_status == _INERROR)

    @property
    def unfinished(self) -> bool:
        """Return whether there is something to commit."""
        return bool(self.pgconn.transaction_status) or self.prepared or compat.in_two_phases(self)

    @property
    def is_lost(self) -> bool:
        """Return whether it ended otherwise than by its borrower's closing it, which is a rollback."""
        return self.broken

    def commit_steps(self) -> Any:
        """Commit, if that is what the server would do.

        :raises NotCommitted: the transaction has failed, was left between two phases, or its session is gone.
        """
        if refusal := self.refusal():
            raise refusal
        return compat.committing(self)

    def refusal(self) -> Refused | None:
        """Return why a commit, sent now, would not commit what the block wrote; None if it would."""
        if self.has_failed:
            return self.undone()
        if self.prepared or compat.in_two_phases(self):
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

    @property
    def is_active(self) -> bool:
        """Return whether a command is on its way, or a COPY was begun."""
        return bool(self.pgconn.transaction_status == _ACTIVE)

    def restore_driver(self, cursor: Any, server_cursor: Any) -> None:
        """Give the driver's object the state of its beginning."""
        self.row_factory, self.cursor_factory = psycopg.rows.tuple_row, cursor
        self.server_cursor_factory = server_cursor
        whole = compat.restored(self, self.threshold, self.tables)
        if not whole or self.prepared or len(self.__dict__) != self.attributes:
            self.beyond_reset = True
        self.failure = None

    def seconds_for(self, gen: Any) -> float | None:
        """Note what is about to be waited for, and return the seconds that it may take, None for any.

        :raises TimedOut: the deadline has passed; nothing is sent then.
        """
        if gen.__name__ not in _STATELESS_STEPS:
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
        compat.mark_closed(self)
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


_STATELESS_STEPS = compat.STATELESS_STEPS | {"commit_steps", "statement_steps", "statements_steps"}
"""The last two are ours, and tell by themselves what they do."""


def _pooler() -> str:
    return f"is there a PgBouncer in transaction mode in between? Then set {variable_of('pg_pgbouncer')}=true"


def is_of_a_pooler(exc: BaseException) -> bool:
    """Return whether an error is of a prepared statement that another session has: a pooler is in between."""
    kinds = (psycopg.errors.InvalidSqlStatementName, psycopg.errors.DuplicatePreparedStatement)
    return isinstance(exc, kinds) and "_pg3_" in str(exc)


def is_of_a_cached_plan(exc: BaseException) -> bool:
    """Return whether a prepared statement can't be run any more, because its tables have changed. Nothing was done."""
    return isinstance(exc, psycopg.errors.FeatureNotSupported) and "cached plan" in str(exc)


def described(exc: BaseException) -> str:
    """Return what an error says, and what to do about it where that is known."""
    return f"{text_of(exc)}; {_pooler()}" if is_of_a_pooler(exc) else text_of(exc)


def text_of(exc: BaseException) -> str:
    """The first line; libpq's others guess at causes, or tell of each address that was tried."""
    return " ".join(str(exc).partition("\n")[0].split()) or type(exc).__name__
