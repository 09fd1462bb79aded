"""The leader of a cluster under a name, for asyncio.

`leader.py` is made of this file by `scripts/threads.py`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from p8fs_cluster.coordination.async_calling import AsyncEvent, AsyncPlace
from p8fs_cluster.coordination.async_claiming import async_guard
from p8fs_cluster.coordination.async_lost import AsyncLost
from p8fs_cluster.coordination.async_running import async_run
from p8fs_cluster.coordination.candidacy import Callback, Candidacy, follow, watched
from p8fs_cluster.coordination.terms import Token

__all__ = ["AsyncLeader"]


class AsyncLeader:
    """A candidate under a name; one process of the cluster leads at a time.

    It stands from the beginning, and until its block or its container ends. Past its own deadline `is_leader` is false,
    whether anybody has noticed or not.
    """

    def __init__(
        self, candidacy: Callable[[Candidacy | None], Candidacy], name: str, callbacks: Sequence[Callback | None]
    ) -> None:
        self._resolve = candidacy
        self._name = name
        self._callbacks = callbacks
        self._followed: Candidacy | None = None
        self._lost = AsyncLost()
        self._candidacy()

    @property
    def name(self) -> str:
        """The name under which it stands."""
        return self._name

    @property
    def is_leader(self) -> bool:
        """Return whether this process leads now: computed by its deadline, at each use."""
        return self._candidacy().holding.is_held

    @property
    def fault(self) -> Exception | None:
        """The fault of the last attempt to be elected; None if it had none, whoever leads."""
        return self._candidacy().fault

    @property
    def token(self) -> Token:
        """The fencing token `(timeline, fence)` of this term; a later leader's is greater.

        :raises LeaseLost: this process does not lead.
        """
        return self._candidacy().holding.require().token

    @property
    def fence(self) -> int:
        """The number for other resources: let them refuse a smaller one than they have seen.

        :raises LeaseLost: this process does not lead.
        """
        return self.token.fence

    @property
    def lost(self) -> AsyncLost:
        """An event of the term at hand, which is set when it is over otherwise than by resigning."""
        holding = self._candidacy().holding
        if holding.term is not None and self._lost.term is not holding.term:
            self._lost = AsyncLost(holding, AsyncPlace(holding.coordinator))
        return self._lost

    async def wait(self, timeout: float | None = None) -> bool:
        """Return whether this process leads, when it does or so many seconds have passed; None: for ever.

        It stands again, if it was withdrawn.
        """
        return (await self._waited(lambda candidacy: candidacy.holding.is_held, timeout)).holding.is_held

    async def wait_for_attempt(self) -> None:
        """Return when it was tried once whether this process is to lead."""
        await self._waited(lambda candidacy: candidacy.was_tried, None)

    async def resign(self) -> None:
        """Give up leading, and leave it to others for one ttl; nothing happens if somebody else leads."""
        candidacy = self._candidacy()
        place = AsyncPlace(candidacy.coordinator)
        await place.run(functools.partial(candidacy.resign, candidacy.holding.timing.interval))

    async def withdraw(self) -> None:
        """Give up leading, and stand no longer, until `wait` or `run_while_leader` is called."""
        await self._withdraw(self._candidacy())

    async def run_while_leader(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Wait until this process leads, call the function, and return what it returns.

        Its end, or its exception, releases the lease at once, and this process stands no longer. If the term is lost
        meanwhile, that is told to the operator as long as the function runs. The end of the container ends the term:
        a coroutine is cancelled, and a plain function should look at `is_leader` or `lost`. It is waited for, and the
        lease given up then.

        :raises LeaseLost: the term was lost before the function ended, or the container was closed.
        :raises CoordinationError: the container was closed before this process led.
        """
        candidacy = await self._waited(lambda candidacy: candidacy.holding.is_held, None)
        holding = candidacy.holding
        with holding.working(holding.cut):
            try:
                return await self._run(candidacy, functools.partial(fn, *args, **kwargs))
            finally:
                await self._withdraw(candidacy)

    async def run_if_leader(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call the function if this process leads, and return what it returns; None if somebody else does.

        :raises StorageError: nobody knows who leads, as the store can't be asked.
        :raises LeaseLost: the term was lost before the function ended.
        """
        candidacy = await self._waited(lambda candidacy: candidacy.was_tried, None)
        if not candidacy.holding.is_held:
            if candidacy.fault is not None:
                raise candidacy.fault
            return None
        with candidacy.holding.working():
            return await self._run(candidacy, functools.partial(fn, *args, **kwargs))

    async def guard(self, connection: Any) -> None:
        """Tie the transaction of a borrowed connection to this term, as `AsyncLock.guard` does.

        :raises LeaseLost: the term is over; roll back.
        :raises CoordinationError: the connection commits each statement by itself, or the store has no transactions.
        """
        await async_guard(self._candidacy().holding, connection)

    async def __aenter__(self) -> Self:
        self._candidacy().stand()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.withdraw()

    async def _withdraw(self, candidacy: Candidacy) -> None:
        if not candidacy.coordinator.closed:  # which has ended it
            place = AsyncPlace(candidacy.coordinator)
            await place.run(functools.partial(candidacy.withdraw, candidacy.holding.timing.interval))

    async def _run(self, candidacy: Candidacy, call: Callable[[], Any]) -> Any:
        candidacy.coordinator.require_open()
        term = candidacy.holding.require()
        with watched(candidacy.holding, term, call):
            return await async_run(AsyncPlace(candidacy.coordinator), candidacy.holding, term, call)

    async def _waited(self, condition: Callable[[Candidacy], bool], timeout: float | None) -> Candidacy:
        """Return the candidacy, of which the condition is true, or the time is over."""
        candidacy = self._candidacy()
        candidacy.stand()
        coordinator = candidacy.coordinator
        until = math.inf if timeout is None else coordinator.clock.now() + timeout
        place = AsyncPlace(coordinator)
        event = AsyncEvent(place)
        candidacy.changed.append(event.set)
        try:
            while not condition(candidacy) and (left := until - coordinator.clock.now()) > 0:
                coordinator.require_open()
                await place.pause(min(left, candidacy.holding.timing.ttl), event)
        finally:
            candidacy.changed.remove(event.set)
        return candidacy

    def _candidacy(self) -> Candidacy:
        """Return the candidacy of this process on the engine in force, which calls back from now on."""
        candidacy = self._resolve(self._followed)
        if candidacy is not self._followed:
            self._followed = candidacy
            place = AsyncPlace(candidacy.coordinator) if any(self._callbacks) else None
            follow(candidacy, place, *self._callbacks)
        return candidacy
