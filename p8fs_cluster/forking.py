"""The one hook for forks: what a child does to the state of its process, in a named order.

Modules keep their state where it is used, and name here the function that renews it in a child.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import IntEnum

__all__ = ["Stage", "after_fork", "around_fork"]

Hook = Callable[[], object]


class Stage(IntEnum):
    """The stages of hooks in the child: each may use what the stages before it have renewed."""

    LOCKS = 1
    """Locks that a thread of the parent may have held, which the child does not have."""
    LOGGING = 2
    """Handlers and their threads, so that the hooks that follow can log."""
    SETTINGS = 3
    """The stores of settings, and those who read them."""
    STORAGE = 4
    """Engines, connections and the threads that watch them."""
    CONTAINERS = 5
    """Scopes, cached objects and containers, which hold all of the above."""


_in_child: list[tuple[Stage, Hook]] = []
_before: list[Hook] = []
_in_parent: list[Hook] = []


def after_fork(stage: Stage, hook: Hook) -> None:
    """Call the hook in every forked child, after those of earlier stages."""
    _in_child.append((stage, hook))
    _in_child.sort(key=lambda entry: entry[0])  # stable: hooks of one stage run as they were named


def around_fork(before: Hook, in_parent: Hook) -> None:
    """Call the first hook before each fork, and the second one after it in the parent."""
    _before.insert(0, before)
    _in_parent.append(in_parent)


def _run_before() -> None:
    for hook in tuple(_before):
        hook()


def _run_in_parent() -> None:
    for hook in tuple(_in_parent):
        hook()


def _run_in_child() -> None:
    for _, hook in tuple(_in_child):
        hook()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(before=_run_before, after_in_parent=_run_in_parent, after_in_child=_run_in_child)
