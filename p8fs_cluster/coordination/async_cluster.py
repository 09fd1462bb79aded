"""The handle on the cluster, for asyncio: locks and leaders in the database that its replicas share.

`cluster.py` is made of this file by `scripts/threads.py`.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from p8fs_cluster.coordination.async_calling import AsyncPlace
from p8fs_cluster.coordination.async_leader import AsyncLeader
from p8fs_cluster.coordination.async_lock import AsyncLock
from p8fs_cluster.coordination.async_membership import async_join, async_leave, async_watch
from p8fs_cluster.coordination.async_once import async_once
from p8fs_cluster.coordination.async_schedule import AsyncSchedule
from p8fs_cluster.coordination.coordinators import Coordinators
from p8fs_cluster.coordination.holding import Holding
from p8fs_cluster.coordination.lease_rows import key_of
from p8fs_cluster.coordination.observability import stats
from p8fs_cluster.coordination.schedules import Cron, Ticks
from p8fs_cluster.coordination.terms import Timing
from p8fs_cluster.coordination.views import Change, View
from p8fs_cluster.di.teardown import Lasting

__all__ = ["AsyncCluster"]

T = TypeVar("T")
K = TypeVar("K", str, bytes)
Callback = Callable[..., object]


class AsyncCluster(Lasting):
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

    async def once(self, name: str, fn: Callable[[], Any], *, ttl: float = 15, timeout: float | None = None) -> bool:
        """Call a function once in the cluster, for ever, and return whether that was here.

        A ledger knows what was done, and is looked at first. Whoever finds somebody else doing it, waits for that:
        when this returns, it is done. A process that dies in the middle leaves it to the next one, so it may begin
        more than once; it is recorded when the function has returned. `timeout`: seconds to wait at most.

        :raises LockTimeout: somebody else was doing it all that time.
        :raises LeaseLost: the lease was lost meanwhile; it is not recorded, and will be done again.

        >>> from p8fs_cluster import Container
        >>> from p8fs_cluster.testing import memory_coordination
        >>> async def migrated() -> list[bool]:
        ...     with Container() as container, container.coordination.override(memory_coordination()):
        ...         cluster = container.async_cluster()
        ...         return [await cluster.once("migrate-2026-11", lambda: None) for _ in range(2)]
        >>> import asyncio
        >>> asyncio.run(migrated())
        [True, False]
        """
        holding = Holding(self._coordinators.coordinator(), key_of("once", name), Timing.of(ttl))
        return await async_once(holding, timeout, fn)

    def schedule(
        self, name: str, cron: str, fn: Callable[[], Any], *, timezone: str = "UTC", ttl: float = 15, grace: float = 60
    ) -> AsyncSchedule:
        """Run a function at the times of a cron expression: at most once for each tick, whichever process has it.

        This process is one of those that may, until `stop` or the end of its container. The database's clock says
        when a tick is due; one that nobody began within `grace` seconds is left out, and told. A run that is not over
        at the next tick leaves that one out. `cron` has five fields, or six with seconds first.

        :raises CoordinationError: the name, the expression or the time zone can't be used.
        """
        holding = Holding(self._coordinators.coordinator(), key_of("schedule", name), Timing.of(ttl))
        return AsyncSchedule(Ticks(holding, Cron(cron, timezone), grace), name, fn)

    async def join(self, *, labels: Mapping[str, str] | None = None, address: str = "", ttl: float = 15) -> str:
        """Join the nodes of the cluster until the container ends, and return the UUID of this process.

        Beats come from a thread of their own. `ttl`: seconds without one after which the others see the node as lost.

        :raises CoordinationError: it has joined already, or the labels can't be used.
        :raises StorageError: the database can't be asked.
        """
        return await async_join(self._coordinators.coordinator(), Timing.of(ttl), labels, address)

    async def leave(self) -> None:
        """Leave the nodes of the cluster, if this process has joined."""
        await async_leave(self._coordinators.coordinator())

    async def nodes(self) -> View:
        """Return the nodes that have joined, as a numbered view.

        While the database can't be asked it is the last view, marked as stale: an outage makes nobody lost.

        :raises StorageError: the database can't be asked, and could not before.
        """
        coordinator = self._coordinators.coordinator()
        return await AsyncPlace(coordinator).run(coordinator.roster.view)

    def watch(self, since: View | None = None, *, interval: float | None = None) -> AsyncIterator[Change]:
        """Yield who joins, leaves and is lost, since a view or from now on, until the container ends.

        `interval`: seconds between two looks, by default that of the beats.

        :raises StorageError: the database can't be asked at the beginning; later it is waited for.
        """
        return async_watch(self._coordinators.coordinator(), since, interval)

    async def shard(self, keys: Iterable[K]) -> list[K]:
        """Return the keys, of str or bytes, that belong to this process by the view at hand.

        When nodes come or go, only keys of theirs move. It is advice, as views differ for a moment: work that must be
        exclusive takes a lock for each shard.

        :raises CoordinationError: this process has not joined.
        """
        return (await self.nodes()).shard(keys)

    def stats(self) -> dict[str, Any]:
        """Return the numbers of this process, without asking the database: leaders by name, with their `status` (1: it
        leads), `fence` and `renew_age` (seconds); `locks_held`, `losses` and `missed_beats` so far; `nodes` and `view`
        of the last look at them, None before.

        :raises CoordinationError: the container was closed, or the store has no leases.

        >>> from p8fs_cluster import Container
        >>> from p8fs_cluster.testing import memory_coordination
        >>> container = Container()
        >>> with container.coordination.override(memory_coordination()):
        ...     container.async_cluster().stats()
        {'leaders': {}, 'locks_held': 0, 'losses': 0, 'missed_beats': 0, 'nodes': None, 'view': None}
        """
        return stats(self._coordinators.coordinator())

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
