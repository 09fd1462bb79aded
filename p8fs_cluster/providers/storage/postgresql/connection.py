"""PostgreSQL's connections for threads: how they wait, and how they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.providers.storage.messages import Messages
from p8fs_cluster.providers.storage.outcome import Outcome
from p8fs_cluster.providers.storage.passwords import refused
from p8fs_cluster.providers.storage.postgresql import compat
from p8fs_cluster.providers.storage.postgresql.cursor import SessionCursor
from p8fs_cluster.providers.storage.postgresql.parameters import is_refusal, parameters
from p8fs_cluster.providers.storage.postgresql.session import Session
from p8fs_cluster.providers.storage.sockets import pending_data_check

__all__ = ["Connection", "Cursor", "ServerCursor", "connect"]

ServerCursor = psycopg.ServerCursor


class Cursor(SessionCursor, psycopg.Cursor[Any]):
    """The cursor of every borrower who names no other."""

    __slots__ = ()


class Connection(Session, psycopg.Connection[Any]):
    """A pooled connection that SQLAlchemy may hold: its `close()` then gives it back. All its waits end."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        seconds = self.seconds_for(gen)
        try:
            return super().wait(gen, interval, seconds)
        except compat.WaitTimeout as exc:
            raise self.too_late() from exc
        except psycopg.Error as exc:
            self.note(exc)
            raise
        except BaseException:
            gen.close()  # ends a connection that was left in the middle of an answer, before its block goes on
            raise

    @contextmanager
    def transaction(self, *args: Any, **kwargs: Any) -> Iterator[psycopg.Transaction]:
        """Give a block that is a transaction, or a savepoint within one; see psycopg.

        :raises NotCommitted: a statement had failed in it, and the block caught its error.
        """
        with super().transaction(*args, **kwargs) as transaction:
            yield transaction
            if self.has_failed and not transaction.force_rollback:
                raise self.undone()

    def close(self) -> None:
        give_back, self.give_back = self.give_back, None
        if give_back:
            give_back()
        else:
            super().close()

    def add_notice_handler(self, callback: Callable[[Any], None]) -> None:
        """Add it once: SQLAlchemy adds its own at every checkout."""
        if not compat.handles_notices(self, callback):
            super().add_notice_handler(callback)


def connect(settings: P8FSConfig, messages: Messages, seconds: float) -> Connection:
    """Connect in a thread, because libpq's own timeout is in whole seconds, at least two, and one per address.

    :raises TimeoutError: there is no connection after so many seconds.
    """
    outcome: Outcome[Connection] = Outcome()
    outcome.begin(_connect, settings, messages, outcome)
    try:
        return outcome.result(seconds)
    except TimeoutError:
        if outcome.claim():  # what comes now, the thread closes
            raise
        return outcome.result()  # it has come between the timeout and now
    except BaseException:
        if not outcome.claim():
            outcome.result().close()
        raise


def _connect(settings: P8FSConfig, messages: Messages, outcome: Outcome[Connection]) -> None:
    try:
        try:
            connection = Connection.connect(**parameters(settings), cursor_factory=Cursor)
        except psycopg.Error as exc:
            if not (is_refusal(exc) and refused(settings, "pg_password")):
                raise
            connection = Connection.connect(**parameters(settings), cursor_factory=Cursor)
        connection.bound(settings, messages)
        connection.begin_life(pending_data_check(connection.fileno()))
    except Exception as exc:
        outcome.raised(exc)
        return
    if outcome.claim():
        outcome.returned(connection)
    else:
        connection.close()
