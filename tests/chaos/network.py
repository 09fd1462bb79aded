"""A network between one node and its server that can be cut, silenced and slowed down."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

__all__ = ["Network", "network"]

_RESET = struct.pack("ii", 1, 0)


class Network:
    """The fates of bytes in the network: nothing is lost for good, as TCP sends again what was not confirmed."""

    def __init__(self) -> None:
        self.port = 0
        self.delay = 0.0
        """Seconds by which each answer comes late."""
        self.lost: int | None = None
        """The number of the answer, from 0, in whose place every connection is cut."""
        self._passes = threading.Event()
        self._passes.set()
        self._refuses = False
        self._ends: set[socket.socket] = set()

    def silence(self) -> None:
        """Let nothing through, and tell nobody."""
        self._passes.clear()

    def cut(self) -> None:
        """Reset every connection, and refuse new ones."""
        self._refuses = True
        for end in tuple(self._ends):
            self._reset(end)

    def heal(self) -> None:
        """Let everything through, also what was held back."""
        self._refuses, self.delay, self.lost = False, 0.0, None
        self._passes.set()

    def serve(self, listener: socket.socket, to: int) -> None:
        """Lead those who connect to the server, until the listener is shut."""
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._lead, args=(client, to), daemon=True).start()

    def end(self) -> None:
        """End every connection."""
        self.cut()
        self.heal()

    def _lead(self, client: socket.socket, to: int) -> None:
        """Carry one connection, from both its sides, to its end."""
        with client, contextlib.suppress(OSError), self._noted(client):
            self._passes.wait()
            with socket.create_connection(("127.0.0.1", to)) as server, self._noted(server):
                back = threading.Thread(target=self._pump, args=(server, client, True), daemon=True)
                back.start()
                self._pump(client, server, False)
                back.join()

    @contextlib.contextmanager
    def _noted(self, end: socket.socket) -> Iterator[None]:
        """Let `cut` know of a socket; if it came too late for that, reset it now."""
        self._ends.add(end)
        if self._refuses:
            self._reset(end)
        try:
            yield
        finally:
            self._ends.discard(end)

    def _pump(self, source: socket.socket, sink: socket.socket, late: bool) -> None:
        with contextlib.suppress(OSError):
            data = b"-"
            while data:
                data = source.recv(65536)
                if late and self.delay:
                    time.sleep(self.delay)
                self._passes.wait()
                if late and data and self._is_lost():
                    self.cut()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _is_lost(self) -> bool:
        """Return whether an answer is the one to lose, and count it."""
        if self.lost is None:
            return False
        self.lost -= 1
        return self.lost < 0

    def _reset(self, end: socket.socket) -> None:
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def network(to: int) -> Iterator[Network]:
    """Give a network that leads from its `port` to that one, both of this machine."""
    made = Network()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made.port = listener.getsockname()[1]
        thread = threading.Thread(target=made.serve, args=(listener, to), daemon=True)
        thread.start()
        try:
            yield made
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            made.end()
