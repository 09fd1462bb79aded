"""A lock of a cluster, for asyncio: a lease that is renewed in the background while it is held.

`lock.py` is made of this file by `scripts/threads.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from p8fs_cluster.coordination.async_calling import AsyncPlace
from p8fs_cluster.coordination.async_claiming import async_claimed, async_guard
from p8fs_cluster.coordination.async_lost import AsyncLost
from p8fs_cluster.coordination.coordinator import Coordinator
from p8fs_cluster.coordination.holding import Holding
from p8fs_cluster.coordination.terms import Term, Timing, Token
from p8fs_cluster.exceptions import CoordinationError, LeaseLost, LockTimeout

__all__ = ["AsyncLock"]


class AsyncLock:
    """A lease under a name, that one holder of the cluster has at a time.

    `async with` waits for it, and raises at the end if it was lost in between. Each object is a holder of its own: two
    objects of one process exclude each other.
    """

    def __init__(
        self,
        coordinator: Callable[[], Coordinator],
        key: str,
        timing: Timing,
        *,
        timeout: float | None = None,
        on_lost: Callable[..., object] | None = None,
        on_missed_beat: Callable[..., object] | None = None,
    ) -> None:
        self._coordinator = coordinator
        self._key = key
        self._timing = timing
        self._holding: Holding | None = None
        self._timeout = timeout
        self._on_lost = on_lost
        self._on_missed = on_missed_beat
        self.lost = AsyncLost()
        """An event that is set when the lease is lost."""

    @property
    def name(self) -> str:
        """The name of the lock."""
        return self._key.partition(":")[2]

    @property
    def held(self) -> bool:
        """Return whether the lease may be believed in now: computed by its deadline, at each use."""
        return self._holding is not None and self._holding.is_held

    @property
    def token(self) -> Token:
        """The fencing token `(timeline, fence)` of the lease that is held; a later holder's is greater.

        :raises LeaseLost: it is over, or was never acquired.
        """
        return self._acquired().require().token

    @property
    def fence(self) -> int:
        """The number for other resources: let them refuse a smaller one than they have seen.

        :raises LeaseLost: the lease is over, or was never acquired.
        """
        return self.token.fence

    async def acquire(self, timeout: float | None = None) -> bool:
        """Take the lease, and return whether it is held now.

        `timeout`: seconds to wait for it at most; 0: one attempt; None: for ever. An outage of the database is waited
        out as long as there is time.

        :raises CoordinationError: it is held already, or there can be no leases here.
        :raises StorageUnavailable: the store could not be reached in that time.
        """
        coordinator = self._coordinator()
        holding = self._holding
        if holding is not None and holding.is_held:
            raise CoordinationError(f"the lock {self.name!r} is held already by this object")
        if holding is None or holding.coordinator is not coordinator:
            self._holding = holding = Holding(coordinator, self._key, self._timing)
        place = AsyncPlace(coordinator)
        holding.on_end = functools.partial(self._ended, place, holding)
        holding.on_missed = functools.partial(self._missed, place)
        granted = await async_claimed(place, holding, timeout)
        self.lost = AsyncLost(holding, place) if granted else self.lost
        return granted

    async def release(self) -> None:
        """Give the lease up.

        :raises LeaseLost: it was over before: what was done last, may have been done by somebody else as well.
        :raises CoordinationError: it was never acquired.
        """
        holding = self._acquired()
        term = holding.term
        if term is None:
            raise CoordinationError(f"the lock {self.name!r} is not held by this object")
        place = AsyncPlace(holding.coordinator)
        if not await place.run(functools.partial(holding.give_up, holding.timing.interval)):
            raise holding.over(term)
        holding.term = None

    async def extend(self, ttl: float | None = None) -> None:
        """Renew the lease now, and from now on for `ttl` seconds at a time.

        :raises LeaseLost: it is over.
        :raises StorageError: the store can't be asked; the lease is as it was.
        """
        holding = self._acquired()
        term = holding.require()
        timing = term.timing if ttl is None else Timing.of(ttl)
        place = AsyncPlace(holding.coordinator)
        await place.run(functools.partial(holding.extend, term, timing, term.timing.interval))

    async def guard(self, connection: Any) -> None:
        """Tie the transaction of a borrowed connection to the lease: nobody else gets it before the commit.

        It holds for what is committed. On TiDB and MySQL's protocol renewals wait for the transaction, so let it take
        less than the deadline.

        :raises LeaseLost: the lease is over; roll back.
        :raises CoordinationError: the connection commits each statement by itself, or the store has no transactions.
        """
        await async_guard(self._acquired(), connection)

    async def __aenter__(self) -> Self:
        if not await self.acquire(self._timeout):
            raise LockTimeout(f"the lock {self.name!r} was not free within {self._timeout:g} s")
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.release()
        except LeaseLost:
            if exc is None:
                raise

    def _acquired(self) -> Holding:
        if self._holding is None:
            raise CoordinationError(f"the lock {self.name!r} was not acquired by this object")
        return self._holding

    def _ended(self, place: AsyncPlace, holding: Holding, term: Term) -> None:
        if self._on_lost is not None:
            place.tell(self._on_lost, holding.over(term))

    def _missed(self, place: AsyncPlace, exc: Exception) -> None:
        if self._on_missed is not None:
            place.tell(self._on_missed, exc)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {'held' if self.held else 'not held'}>"
