"""What the engines of the SQL servers share: lending from a pool, commit or rollback at a block's end, taking back."""

from __future__ import annotations

import time
import weakref
from typing import ClassVar, Generic, Protocol, TypeVar

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import NotCommitted, PoolExhausted, StorageError, StorageUnavailable
from p8fs_cluster.providers.storage.circuit_breaker import CircuitBreaker
from p8fs_cluster.providers.storage.messages import Messages
from p8fs_cluster.providers.storage.pool import AsyncPool, CircuitOpen, Exhausted, Holder, Pooled, ThreadPool
from p8fs_cluster.providers.storage.sockets import shut_down

__all__ = ["AsyncServer", "Server"]


class Connection(Pooled, Protocol):
    """What these engines ask of a connection besides; its waits end in time."""

    def commit(self) -> None: ...
    def rollback(self) -> None: ...


class AsyncConnection(Pooled, Protocol):
    """The same for asyncio."""

    async def commit(self) -> None: ...
    async def rollback(self) -> None: ...


C = TypeVar("C", bound=Connection)
A = TypeVar("A", bound=AsyncConnection)


class Told(Protocol):
    """What tells why there is no connection."""

    messages: Messages

    def unavailable(self, exc: BaseException | None) -> StorageUnavailable: ...


def _not_lent(told: Told, exc: Exception, seconds: float) -> StorageUnavailable:
    """Return the error for what came of asking the pool for so many seconds."""
    if isinstance(exc, Exhausted):
        return PoolExhausted(told.messages.exhausted(seconds))
    failure = exc.failure if isinstance(exc, CircuitOpen) else exc
    if isinstance(failure, StorageUnavailable):
        return StorageUnavailable(str(failure))  # of the settings; it says all itself
    if isinstance(failure, TimeoutError):
        return StorageUnavailable(told.messages.no_answer())
    return told.unavailable(failure)


def _errors(error: type[Exception]) -> tuple[type[Exception], ...]:
    """Return what a driver raises when it can't connect; whatever else comes is not of the connecting."""
    return error, OSError, StorageError, RuntimeError, ValueError


def _cut(connection: Pooled) -> None:
    if not connection.closed and (fileno := connection.fileno()) >= 0:
        shut_down(fileno)


class Server(Generic[C]):
    """An engine's side for threads."""

    error: ClassVar[type[Exception]]
    """The root of the driver's errors."""

    def __init__(self, settings: P8FSConfig, messages: Messages) -> None:
        self._settings = settings
        self._timeout = settings.pool_timeout
        self.messages = messages
        errors = _errors(self.error)
        self._untold: tuple[type[Exception], ...] = (*errors, Exhausted, CircuitOpen)
        size, lifetime = settings.pool_max_size, settings.pool_max_lifetime
        self._pool = ThreadPool(self._connect, CircuitBreaker(), size, lifetime, errors)

    def open(self) -> None:
        """Connect once, so that a fault shows at once and as itself."""
        self._pool.give_back(self.acquire(None), sound=True)

    def close(self) -> None:
        """End every connection that is not borrowed."""
        self._pool.close()

    def acquire(self, deadline: float | None, holder: weakref.ref[Holder] | None = None) -> C:
        """Lend a connection, as `Engine.acquire` does."""
        now = time.monotonic()
        until = now + self._timeout
        if deadline is not None and deadline < until:
            until = deadline
        try:
            connection = self._pool.acquire(until, holder)
        except self._untold as exc:
            raise _not_lent(self, exc, until - now) from exc
        connection.lend(deadline)
        return connection

    def release(self, connection: C, exc: BaseException | None) -> None:
        """Take a connection back, as `Engine.release` does."""
        try:
            if exc is None:
                self._committed(connection)
            else:
                self._undo(connection)
        except BaseException:
            self._undo(connection)
            raise
        finally:
            self._put_back(connection)

    def cut(self, connection: C) -> None:
        """End a connection under its borrower, whose calls fail from then on."""
        _cut(connection)

    def stats(self) -> dict[str, int]:
        """Return `size`, `idle`, `waiting` and `max_size` of the pool."""
        pool = self._pool
        limit = self._settings.pool_max_size
        return {"size": pool.size, "idle": pool.idle, "waiting": pool.waiting, "max_size": limit}

    def unavailable(self, exc: BaseException | None) -> StorageUnavailable:
        """Return the error that tells why there is no connection, and what settings lead there."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{self.messages}>"

    def _committed(self, connection: C) -> None:
        if connection.is_lost:
            raise NotCommitted(self.messages.lost())
        if not connection.closed and connection.unfinished:
            self._commit(connection)

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


class AsyncServer(Generic[A]):
    """An engine's side for the tasks of one event loop; `told`: its side for threads."""

    error: ClassVar[type[Exception]]
    """The root of the driver's errors."""

    def __init__(self, settings: P8FSConfig, told: Told) -> None:
        self._settings = settings
        self._told = told
        errors = _errors(self.error)
        self._untold: tuple[type[Exception], ...] = (*errors, Exhausted, CircuitOpen)
        size, lifetime = settings.pool_max_size, settings.pool_max_lifetime
        self._pool = AsyncPool(self._connect, CircuitBreaker(), size, lifetime, errors)

    async def open(self) -> None:
        """Connect once, so that a fault shows at once."""
        self._pool.give_back(await self.acquire(None), sound=True)

    def close(self) -> None:
        """End every connection."""
        self._pool.end_all()

    async def acquire(self, deadline: float | None) -> A:
        """Lend a connection, as `Engine.acquire` does."""
        now, seconds = time.monotonic(), self._settings.pool_timeout
        if deadline is not None:
            seconds = min(seconds, deadline - now)
        try:
            connection = await self._pool.acquire(now + seconds)
        except self._untold as exc:
            raise _not_lent(self._told, exc, seconds) from exc
        connection.lend(deadline)
        return connection

    async def release(self, connection: A, exc: BaseException | None) -> None:
        """Take a connection back, as `Engine.release` does."""
        try:
            if exc is None:
                await self._committed(connection)
            else:
                await self._undo(connection)
        except BaseException:
            await self._undo(connection)
            raise
        finally:
            await self._put_back(connection)

    def cut(self, connection: A) -> None:
        """End a connection under its borrower, whose calls fail from then on."""
        _cut(connection)

    def stats(self) -> dict[str, int]:
        """Return `size`, `idle` and `waiting`."""
        return {"size": self._pool.size, "idle": self._pool.idle, "waiting": self._pool.waiting}

    def __repr__(self) -> str:
        return f"<{self._told.messages}>"

    async def _committed(self, connection: A) -> None:
        if connection.is_lost:
            raise NotCommitted(self._told.messages.lost())
        if not connection.closed and connection.unfinished:
            await self._commit(connection)

    async def _undo(self, connection: A) -> None:
        """Roll back; a connection that can't is ended."""
        try:
            if not connection.closed and connection.unfinished:
                await connection.rollback()
        except self.error:
            connection.end()

    async def _put_back(self, connection: A) -> None:
        """Take a connection back, its session and the driver's object as they were; what can't be so is ended."""
        sound = False
        try:
            if not connection.closed:
                await self._renew(connection)
                connection.deadline = None
            sound = not connection.closed
        except self.error:
            pass
        finally:
            self._pool.give_back(connection, sound)

    async def _connect(self) -> A:
        raise NotImplementedError

    async def _commit(self, connection: A) -> None:
        raise NotImplementedError

    async def _renew(self, connection: A) -> None:
        """Undo what the borrower did to the session and to the driver's object; end what can't be undone."""
        raise NotImplementedError
