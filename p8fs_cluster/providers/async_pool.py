"""A pool of connections for the tasks of one event loop: first come, first served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import ClassVar, Generic, Protocol, TypeVar

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import NotCommitted, PoolExhausted, StorageUnavailable
from p8fs_cluster.providers.circuit import Circuit
from p8fs_cluster.providers.faults import Faults
from p8fs_cluster.providers.sockets import shut_down

__all__ = ["AsyncPool", "AsyncServer", "Exhausted"]

_GIVEN_BACK = 0.02
"""Seconds between two looks whether somebody has given back a connection, when the server takes no more."""


class Pooled(Protocol):
    """What the pool asks of a connection."""

    born: float
    deadline: float | None
    outdated: bool
    """Whether it showed that it, and any connection from before, is of no use."""

    @property
    def closed(self) -> bool: ...
    @property
    def is_lost(self) -> bool:
        """Whether it ended otherwise than by its borrower's closing it, which is a rollback."""

    @property
    def unfinished(self) -> bool:
        """Whether there is something to commit."""

    def fileno(self) -> int: ...
    async def rollback(self) -> None: ...
    def lend(self, deadline: float | None) -> None:
        """Note until when its borrower may wait."""

    def is_fit(self) -> bool:
        """Return whether an idle one can be lent, told without a round trip."""

    def works(self) -> bool:
        """Return whether the server has not ended it, be it lent or idle."""

    def end(self) -> None:
        """Close it at once, whatever it is doing."""


C = TypeVar("C", bound=Pooled)


class Exhausted(Exception):
    """Every connection was borrowed all the time."""


class AsyncPool(Generic[C]):
    """Connects in the task that needs a connection; in an outage one of those that wait tries for all."""

    def __init__(self, connect: Callable[[], Awaitable[C]], circuit: Circuit, size: int, lifetime: float) -> None:
        self._connect = connect
        self._circuit = circuit
        self._lifetime = lifetime
        self._turns = asyncio.Semaphore(size)
        self._idle: list[C] = []
        self._made: set[C] = set()
        self.waiting = 0
        self._stale_before = 0.0
        """Connections from before this moment are not lent any more."""

    @property
    def size(self) -> int:
        """How many connections there are."""
        return len(self._made)

    @property
    def idle(self) -> int:
        """How many of them nobody has borrowed."""
        return len(self._idle)

    async def acquire(self, until: float) -> C:
        """Lend a connection; `until`: when to give up, by the monotonic clock.

        :raises Exhausted: none was given back by then.
        """
        if self._turns.locked():
            await self._turn(until)
        else:
            await self._turns.acquire()  # at once
        try:
            return self._fit() or await self._connected(until)
        except BaseException:
            self._turns.release()
            raise

    async def _turn(self, until: float) -> None:
        self.waiting += 1
        try:
            async with asyncio.timeout(until - time.monotonic()):
                await self._turns.acquire()
        except TimeoutError:
            raise Exhausted from None
        finally:
            self.waiting -= 1

    def give_back(self, connection: C, sound: bool) -> None:
        """Take a connection back, to be lent again if it is sound and not too old."""
        if connection.outdated:
            sound, self._stale_before = False, time.monotonic()
        if sound and time.monotonic() - connection.born < self._lifetime:
            self._idle.append(connection)
        else:
            self._end(connection)
        self._turns.release()

    def close(self) -> None:
        """End every connection, borrowed ones too."""
        for connection in tuple(self._made):
            self._end(connection)
        self._idle.clear()

    def _fit(self) -> C | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fit() and connection.born >= self._stale_before:
                return connection
            self._end(connection)
        return None

    async def _connected(self, until: float) -> C:
        """Connect. If the server takes no more connections, but others work, wait for one of these."""
        begun = time.monotonic()
        while True:
            try:
                return await self._tried(begun, until)
            except Exception as exc:
                hangs = isinstance(exc, TimeoutError) or time.monotonic() >= until
                if hangs or not any(connection.works() for connection in tuple(self._made)):
                    raise
            await asyncio.sleep(_GIVEN_BACK)
            if connection := self._fit():
                return connection

    async def _tried(self, begun: float, until: float) -> C:
        while pause := self._circuit.wait(begun):
            await asyncio.sleep(min(pause, max(until - time.monotonic(), 0)))
        if pause is None and self._circuit.failure is not None:
            raise self._circuit.failure
        started = time.monotonic()
        try:
            async with asyncio.timeout(max(until - started, 0.001)):
                connection = await self._connect()
        except Exception as exc:
            self._circuit.fail(exc, started)
            raise
        self._circuit.succeed()
        self._made.add(connection)
        return connection

    def _end(self, connection: C) -> None:
        self._made.discard(connection)
        connection.end()


class Twin(Protocol):
    """What a server's engine for threads knows that the one for asyncio needs too."""

    faults: Faults

    def unavailable(self, exc: BaseException | None) -> StorageUnavailable: ...


class AsyncServer(Generic[C]):
    """What the engines of both servers share: lending from the pool of one event loop, and what is told if it can't."""

    error: ClassVar[type[Exception]]
    """The root of the driver's errors."""

    def __init__(self, settings: P8FSConfig, twin: Twin) -> None:
        self._settings = settings
        self._told = twin
        self._pool = AsyncPool(self._connect, Circuit(), settings.pool_max_size, settings.pool_max_lifetime)

    async def open(self) -> None:
        """Connect once, so that a fault shows at once."""
        self._pool.give_back(await self.acquire(None), sound=True)

    def close(self) -> None:
        """End every connection."""
        self._pool.close()

    async def acquire(self, deadline: float | None) -> C:
        """Lend a connection, as `Engine.acquire` does."""
        now, timeout = time.monotonic(), self._settings.pool_timeout
        if deadline is not None:
            timeout = min(timeout, deadline - now)
        try:
            connection = await self._pool.acquire(now + timeout)
        except Exhausted as exc:
            raise PoolExhausted(self._told.faults.exhausted(timeout)) from exc
        except TimeoutError as exc:
            raise StorageUnavailable(self._told.faults.no_answer()) from exc
        except Exception as exc:  # the driver's
            raise self._told.unavailable(exc) from exc
        connection.lend(deadline)
        return connection

    async def release(self, connection: C, exc: BaseException | None) -> None:
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

    async def _committed(self, connection: C) -> None:
        if connection.is_lost:
            raise NotCommitted(self._told.faults.lost())
        if not connection.closed and connection.unfinished:
            await self._commit(connection)

    async def _undo(self, connection: C) -> None:
        """Roll back; a connection that can't is ended."""
        try:
            if not connection.closed and connection.unfinished:
                await connection.rollback()
        except self.error:
            connection.end()

    async def _put_back(self, connection: C) -> None:
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

    def cut(self, connection: C) -> None:
        """End a connection under its borrower, whose calls fail from then on."""
        if not connection.closed:
            shut_down(connection.fileno())

    def __repr__(self) -> str:
        return f"<{self._told.faults}>"

    def stats(self) -> dict[str, int]:
        """Return `size`, `idle` and `waiting`."""
        return {"size": self._pool.size, "idle": self._pool.idle, "waiting": self._pool.waiting}

    async def _connect(self) -> C:
        raise NotImplementedError

    async def _commit(self, connection: C) -> None:
        raise NotImplementedError

    async def _renew(self, connection: C) -> None:
        """Undo what the borrower did to the session and to the driver's object; end what can't be undone."""
        raise NotImplementedError
