"""What can be told and done about a connection by its socket alone, without a round trip."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Callable

__all__ = ["is_whole", "quiet_check", "shut_down"]


def quiet_check(fileno: int) -> Callable[[int], object]:
    """Return what gives something true, called with 0, when an idle connection is not fit for use: there is to read.

    A closed one is readable at once. A call costs half a microsecond and no round trip.
    """
    poller = select.poll()
    poller.register(fileno, select.POLLIN | select.POLLPRI)
    return poller.poll


def is_whole(fileno: int) -> bool:
    """Return whether the other side has not closed a connection, whatever there is to read."""
    poller = select.poll()
    poller.register(fileno, select.POLLRDHUP)
    return not poller.poll(0)


def shut_down(fileno: int) -> None:
    """End a connection that somebody may be waiting on: the wait ends at once, in whatever driver."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fileno)) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)
