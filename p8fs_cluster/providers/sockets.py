"""What can be told and done about a connection by its socket alone, without a round trip."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Iterator

__all__ = ["is_quiet", "shut_after"]


def is_quiet(fileno: int) -> bool:
    """Return whether an idle connection is fit for use: nothing to read. A closed one is readable at once.

    It costs about a microsecond and no round trip.
    """
    poller = select.poll()
    poller.register(fileno, select.POLLIN | select.POLLPRI)
    return not poller.poll(0)


@contextlib.contextmanager
def shut_after(seconds: float, fileno: int) -> Iterator[None]:
    """Shut the socket down if the block takes longer, which ends any driver's wait for a server that hangs."""
    with socket.socket(fileno=os.dup(fileno)) as duplicate:
        watchdog = threading.Timer(seconds, _shut, (duplicate,))
        watchdog.daemon = True
        watchdog.start()
        try:
            yield
        finally:
            watchdog.cancel()
            watchdog.join()


def _shut(duplicate: socket.socket) -> None:
    with contextlib.suppress(OSError):
        duplicate.shutdown(socket.SHUT_RDWR)
