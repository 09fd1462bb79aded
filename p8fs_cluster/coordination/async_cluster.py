"""The handle on the cluster, for asyncio: locks and leaders in the database that its replicas share.

`cluster.py` is made of this file by `scripts/threads.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from p8fs_cluster.coordination.async_leader import AsyncLeader
from p8fs_cluster.coordination.async_lock import AsyncLock
from p8fs_cluster.coordination.coordinators import Coordinators
from p8fs_cluster.coordination.lease_rows import key_of
from p8fs_cluster.coordination.terms import Timing

__all__ = ["AsyncCluster"]

T = TypeVar("T")
Callback = Callable[..., object]


class AsyncCluster:
    """Locks and leaders among all processes that use the same database: keep it, share it, inject it.

    On RocksDB, and in memory, they hold in one process.
    """

    def __init__(self, coordinators: Coordinators) -> None:
        self._coordinators = coordinators

    def lock(
        self,
        name: str,
        ttl: float = 15,
        *,
        deadline: float | None = None,
        interval: float | None = None,
        timeout: float | None = None,
        on_lost: Callback | None = None,
        on_missed_beat: Callback | None = None,
    ) -> AsyncLock:
        """Return a lock under a name, which `async with` acquires; nothing is asked before.

        `ttl`: seconds for which the database grants it, at each renewal; `deadline`: seconds for which it is believed
        in without one, two thirds of it by default; `interval`: seconds between renewals. `timeout`: seconds that
        `async with` waits at most. `on_lost` is called with the LeaseLost, `on_missed_beat` with the StorageError of a
        renewal that failed.

        :raises CoordinationError: the name or the timing can't be used.
        """
        timing = Timing.of(ttl, deadline, interval)
        return AsyncLock(
            self._coordinators.coordinator,
            key_of("lock", name),
            timing,
            timeout=timeout,
            on_lost=on_lost,
            on_missed_beat=on_missed_beat,
        )

    def leader(
        self,
        name: str,
        ttl: float = 15,
        *,
        deadline: float | None = None,
        interval: float | None = None,
        on_elected: Callback | None = None,
        on_lost: Callback | None = None,
        on_missed_beat: Callback | None = None,
    ) -> AsyncLeader:
        """Stand as a candidate under a name, from now on, and return what tells whether this process leads.

        A process has one candidacy for each name, however often it is asked for. `on_elected` is called with the
        token, `on_lost` with the LeaseLost, `on_missed_beat` with the StorageError. Seconds are those of `lock`.

        :raises CoordinationError: the name or the timing can't be used, or it stands with another timing.
        """
        timing = Timing.of(ttl, deadline, interval)
        resolve = functools.partial(self._coordinators.candidacy, key_of("leader", name), timing)
        return AsyncLeader(resolve, name, (on_elected, on_lost, on_missed_beat))

    def leader_only(self, name: str, ttl: float = 15) -> Callable[[Callable[..., Awaitable[T]]], Callable[..., Any]]:
        """Decorate a function, so that calls do something in the leading process alone, and return None elsewhere.

        :raises LeaseLost: from a call: the term was lost while it ran.
        """

        def decorate(function: Callable[..., Awaitable[T]]) -> Callable[..., Any]:
            @functools.wraps(function)
            async def called(*args: Any, **kwargs: Any) -> T | None:
                result: T | None = await self.leader(name, ttl).run_if_leader(function, *args, **kwargs)
                return result

            return called

        return decorate
