"""The common part of the engines of SQL servers for threads: lending from a pool, the end of a block, taking back.

Made by `scripts/threads.py`: edit `server.py`.
"""

from __future__ import annotations

import time
import weakref
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import NotCommitted, StorageError
from p8fs_cluster.providers.storage.circuit_breaker import CircuitBreaker
from p8fs_cluster.providers.storage.messages import Messages
from p8fs_cluster.providers.storage.pool import CircuitOpen, Exhausted, Pooled, ThreadPool
from p8fs_cluster.providers.storage.sockets import shut_down

__all__ = ["Server"]


class Connection(Pooled, Protocol):
    """A connection as these engines need it; its waits end in time."""

    def commit(self) -> None: ...
    def rollback(self) -> None: ...


C = TypeVar("C", bound=Connection)


class Server(Generic[C]):
    """The pool of a process."""

    error: ClassVar[type[Exception]]
    """The root of the driver's errors."""

    def __init__(self, settings: P8FSConfig, messages: Messages) -> None:
        self._settings = settings
        self._timeout = settings.pool_timeout
        self.messages = messages
        errors = (self.error, OSError, StorageError, RuntimeError, ValueError)
        self._not_lent: tuple[type[Exception], ...] = (*errors, Exhausted, CircuitOpen)
        size, lifetime = settings.pool_max_size, settings.pool_max_lifetime
        self._pool = ThreadPool(self._connect, CircuitBreaker(), size, lifetime, errors)

    def open(self) -> None:
        """Connect once, so that a fault shows at once and as itself."""
        self._pool.give_back(self.acquire(None), sound=True)

    def close(self) -> None:
        """End every connection."""
        self._pool.end_all()

    def acquire(self, deadline: float | None, holder: weakref.ref[Any] | None = None) -> C:
        """Lend a connection, as `Engine.acquire` does."""
        connection = self._pool.at_once()
        if connection is None:
            now = time.monotonic()
            until = now + self._timeout
            if deadline is not None and deadline < until:
                until = deadline
            try:
                connection = self._pool.acquire(until)
            except self._not_lent as exc:
                raise self.messages.not_lent(exc, until - now) from exc
        connection.holder = holder
        connection.lend(deadline)
        return connection

    def release(self, connection: C, exc: BaseException | None) -> None:
        """Take a connection back, as `Engine.release` does."""
        try:
            if exc is not None:
                self._undo(connection)
            elif connection.closed:
                if connection.is_lost:
                    raise NotCommitted(self.messages.lost())
            elif connection.unfinished:
                self._commit(connection)
        except BaseException:
            self._undo(connection)
            raise
        finally:
            self._put_back(connection)

    def cut(self, connection: C) -> None:
        """End a connection under its borrower, whose calls fail from then on."""
        if not connection.closed and (fileno := connection.fileno()) >= 0:
            shut_down(fileno)

    def stats(self) -> dict[str, int]:
        """Return `size`, `idle`, `waiting` and `max_size` of the pool."""
        pool = self._pool
        limit = self._settings.pool_max_size
        return {"size": pool.size, "idle": pool.idle, "waiting": pool.waiting, "max_size": limit}

    def __repr__(self) -> str:
        return f"<{self.messages}>"

    def _undo(self, connection: C) -> None:
        """Roll back; a connection that can't is ended."""
        try:
            if not connection.closed and connection.unfinished:
                connection.rollback()
        except self.error:
            connection.end()

    def _put_back(self, connection: C) -> None:
        """Take a connection back, its session and the driver's object as they were; what can't be so is ended."""
        sound = False
        try:
            if not connection.closed:
                self._renew(connection)
                connection.deadline = None
            sound = not connection.closed
        except self.error:
            pass
        finally:
            self._pool.give_back(connection, sound)

    def _connect(self, seconds: float) -> C:
        raise NotImplementedError

    def _commit(self, connection: C) -> None:
        raise NotImplementedError

    def _renew(self, connection: C) -> None:
        """Undo what the borrower did to the session and to the driver's object; end what can't be undone."""
        raise NotImplementedError
