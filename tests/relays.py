"""Another address for a server of this machine, which may let its answers trickle, be late, or count them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

AT_ONCE = 2000
"""Bytes of a large answer that come without delay, so that what trickles is the middle of a packet."""


class Turns:
    """How often a client has sent something that it then waited for an answer of: the round trips, of one client."""

    def __init__(self) -> None:
        self.count = 0
        self._is_the_clients = False

    def passed(self, from_client: bool) -> None:
        self.count += from_client and not self._is_the_clients
        self._is_the_clients = from_client


@contextlib.contextmanager
def relay(
    host: str, port: int, to: int, trickling: threading.Event | None = None, turns: Turns | None = None
) -> Iterator[int]:
    """Give the port, a free one for 0, that leads to `to`; once `trickling` is set answers come a byte each 10 ms."""
    over = threading.Event()
    ends: list[socket.socket] = []
    never = threading.Event()

    def pump(source: socket.socket, sink: socket.socket, slow: threading.Event | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if turns is not None:
                    turns.passed(slow is None)
                if slow is not None and slow.is_set():
                    sink.sendall(data[:AT_ONCE])
                    data = data[AT_ONCE:]
                    while data and not over.wait(0.01):
                        sink.sendall(data[:1])
                        data = data[1:]
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", to))
                ends.extend((client, server))
                for source, sink, slow in ((client, server, None), (server, client, trickling or never)):
                    threading.Thread(target=pump, args=(source, sink, slow), daemon=True).start()

    with socket.create_server((host, port)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for end in ends:
                end.close()
