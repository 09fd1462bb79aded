"""Running a function for as long as a lease is held, in the caller's thread, which nobody can end."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from p8fs_cluster.coordination.calling import Place
from p8fs_cluster.coordination.holding import Holding
from p8fs_cluster.coordination.terms import Term
from p8fs_cluster.exceptions import CoordinationError

__all__ = ["run"]


def run(place: Place, holding: Holding, term: Term, call: Callable[[], Any]) -> Any:
    """Return what a call returns.

    :raises LeaseLost: the term was lost meanwhile.
    :raises CoordinationError: it returns something to await.
    """
    result = call()
    if inspect.iscoroutine(result):
        result.close()
        raise CoordinationError("a coroutine function was given: container.async_cluster() runs those")
    if not term.is_held(holding.coordinator.clock.now()):
        raise holding.over(term)
    return result
