"""The times and the session state of a pool's connection, whatever its driver; nothing here waits."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable
from typing import Any

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.providers.storage.messages import Messages

__all__ = ["SessionState"]


class SessionState:
    """A part of a driver's connection: how long its waits may last, and whether its session is clean."""

    messages: Messages
    limit: float | None = None
    """Seconds that a wait may take where there is no deadline."""
    slow: float | None = None
    """Seconds from which on a statement is logged."""
    deadline: float | None = None
    """The end of the block's last wait, by the monotonic clock."""
    has_pending_data: Callable[[], int]
    """Says whether an idle connection has something to read, as one that the server closed has."""
    dirty = False
    """True if the session may not be what it was when it was lent."""
    outdated = False
    """True if it showed that it, and any connection from before, is of no use: a failover, or a changed table."""
    born = 0.0
    """The time at which it was made, by the monotonic clock."""
    expires = math.inf
    """The time from which on it is too old to be lent."""
    idle_since = 0.0
    """Since when nobody has borrowed it."""
    holder: weakref.ref[Any] | None = None
    """The borrower."""

    def bound(self, settings: P8FSConfig, messages: Messages) -> None:
        """Note how long waits may last, and what is said of one that lasts longer."""
        self.messages = messages
        self.limit, self.slow = settings.query_timeout, settings.slow_query

    def begin_life(self, has_pending_data: Callable[[], int]) -> None:
        """Note that the connection is made; what connecting did is its session's beginning."""
        self.has_pending_data = has_pending_data
        self.deadline, self.holder = None, None
        self.dirty = self.outdated = False
        self.born = self.idle_since = time.monotonic()
        self.expires = math.inf
