"""Which container is active: the innermost `with container:` of this task or thread, else of the process."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Any, Protocol

__all__ = ["enter", "innermost", "leave"]


class _Entered(Protocol):
    entered: int


_Stack = tuple[Any, Any] | None
_here: ContextVar[_Stack] = ContextVar("p8fs_cluster_active", default=None)
_everywhere: list[Any] = []
_lock = threading.Lock()


def enter(container: _Entered) -> None:
    """Make `container` the active one, here and wherever nothing else was entered (a server's other threads)."""
    _here.set((container, _here.get()))
    with _lock:
        _everywhere.append(container)


def leave(container: _Entered) -> None:
    """Take back the latest `enter(container)`."""
    _here.set(_without(container, _here.get()))
    with _lock:
        position = len(_everywhere) - 1 - _everywhere[::-1].index(container)
        del _everywhere[position]


def innermost() -> Any | None:
    """Return the active container, None when none is entered."""
    stack = _here.get()
    while stack is not None:
        if stack[0].entered:
            return stack[0]
        stack = stack[1]
    with _lock:
        return _everywhere[-1] if _everywhere else None


def _without(container: _Entered, stack: _Stack) -> _Stack:
    if stack is None:
        return None
    inner, outer = stack
    return outer if inner is container else (inner, _without(container, outer))
