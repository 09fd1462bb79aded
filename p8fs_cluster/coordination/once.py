"""Work that is done once in a cluster, for ever, for threads.

Made by `scripts/threads.py`: edit `once.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from p8fs_cluster.coordination import ledger
from p8fs_cluster.coordination.calling import Place
from p8fs_cluster.coordination.claiming import claimed
from p8fs_cluster.coordination.coordinator import Connected
from p8fs_cluster.coordination.holding import Holding
from p8fs_cluster.coordination.running import run
from p8fs_cluster.exceptions import LockTimeout

__all__ = ["once"]


def once(holding: Holding, timeout: float | None, call: Callable[[], Any]) -> bool:
    """Call, unless it was done; whoever else does it now, is waited for. Return whether it was done here.

    :raises LockTimeout: somebody else did it all that time.
    :raises LeaseLost: the lease was lost meanwhile, so that it is not recorded, and will be done again.
    """
    coordinator = holding.coordinator
    place, seconds = Place(coordinator), holding.timing.interval

    def is_done(connected: Connected) -> bool:
        return ledger.is_done(connected, holding.key, seconds)

    look = functools.partial(coordinator.ask, is_done, seconds)
    if place.run(look):
        return False
    with holding.working():
        if not claimed(place, holding, timeout):
            raise LockTimeout(f"{holding.key}: somebody else was doing it for {timeout:g} s")
        try:
            if place.run(look):
                return False
            coordinator.require_open()
            run(place, holding, holding.require(), call)
            place.run(functools.partial(ledger.record, holding))
        finally:
            if not coordinator.closed:  # which has left the lease to end by itself
                place.run(functools.partial(holding.give_up, seconds))
    return True
