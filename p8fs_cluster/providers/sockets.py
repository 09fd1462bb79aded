"""What can be told and done about a connection by its socket alone, without a round trip."""

from __future__ import annotations

import contextlib
import os
import select
import socket

__all__ = ["is_quiet", "is_whole", "shut_down"]


def is_quiet(fileno: int) -> bool:
    """Return whether an idle connection is fit for use: nothing to read. A closed one is readable at once.

    It costs about a microsecond and no round trip.
    """
    poller = select.poll()
    poller.register(fileno, select.POLLIN | select.POLLPRI)
    return not poller.poll(0)


def is_whole(fileno: int) -> bool:
    """Return whether the other side has not closed a connection, whatever there is to read."""
    poller = select.poll()
    poller.register(fileno, select.POLLRDHUP)
    return not poller.poll(0)


def shut_down(fileno: int) -> None:
    """End a connection that somebody may be waiting on: the wait ends at once, in whatever driver."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fileno)) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)
