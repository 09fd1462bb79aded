"""The end of a lease as an event, for asyncio.

`lost.py` is made of this file by `scripts/threads.py`.
"""

from __future__ import annotations

from p8fs_cluster.coordination.async_calling import AsyncEvent, AsyncPlace
from p8fs_cluster.coordination.holding import Holding
from p8fs_cluster.coordination.terms import Term
from p8fs_cluster.exceptions import CoordinationError

__all__ = ["AsyncLost"]


class AsyncLost:
    """The end of a term that its holder did not choose. Past the deadline it is set, whoever has noticed."""

    def __init__(self, holding: Holding | None = None, place: AsyncPlace | None = None) -> None:
        self._holding = holding
        self.term: Term | None = None
        self._event: AsyncEvent | None = None
        if holding is not None and place is not None and holding.term is not None:
            self.term = holding.term
            self._event = AsyncEvent(place)
            holding.watch(self.term, self._event.set)

    def is_set(self) -> bool:
        """Return whether the lease is lost."""
        if self._holding is None or self.term is None:
            return False
        now = self._holding.coordinator.clock.now()
        return self.term.lost or (self.term.ended is None and not self.term.is_held(now))

    async def wait(self, timeout: float | None = None) -> bool:
        """Return whether it is lost, when it is or so many seconds have passed.

        :raises CoordinationError: the lock was never acquired.
        """
        if self._event is None:
            raise CoordinationError("there is no lease yet that could be lost: acquire the lock first")
        return await self._event.wait(timeout) or self.is_set()
