"""The example of shared clients, between an HTTP service and a NATS server on loopback."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_examples import ask
from tests.processes import serving, until


class Service(socketserver.StreamRequestHandler):
    """Answers each line by which a request ends, on connections that stay open; notes how they begin and end."""

    def handle(self) -> None:
        seen: list[Any] = self.server.seen  # type: ignore[attr-defined]
        seen.append("http opened")
        request: list[str] = []
        for line in self.rfile:
            if line.strip():
                request.append(line.decode().strip())
                continue
            seen.append(("asked", request[0].split()[1], [each for each in request if "Bearer" in each]))
            body = json.dumps({"degrees": 21}).encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            self.wfile.write(head.encode() + body)
            request.clear()
        seen.append("http closed")


class Bus(socketserver.StreamRequestHandler):
    """Speaks as much of NATS' protocol as a client needs that only publishes."""

    def handle(self) -> None:
        seen: list[Any] = self.server.seen  # type: ignore[attr-defined]
        self.wfile.write(b'INFO {"server_id":"x","version":"2.11.0","proto":1,"max_payload":1048576}\r\n')
        for line in self.rfile:
            words = line.split()
            if words[0] == b"CONNECT":
                seen.append("bus opened")
            elif words[0] == b"PING":
                self.wfile.write(b"PONG\r\n")
            elif words[0] == b"PUB":
                seen.append(("published", words[1].decode(), self.rfile.read(int(words[-1]) + 2).decode().strip()))
        seen.append("bus closed")


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    address_family = socket.AF_INET


@contextlib.contextmanager
def listening(handler: type[socketserver.BaseRequestHandler], seen: list[Any]) -> Iterator[str]:
    with Server(("127.0.0.1", 0), handler) as server:
        server.seen = seen  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


@pytest.mark.parametrize("with_bus", [True, False], ids=["with a bus", "without nats-py"])
def test_clients_are_shared_and_closed_in_order(
    with_bus: bool, tmp_path: Path, rocksdb_settings: dict[str, Any]
) -> None:
    seen: list[Any] = []
    if not with_bus:
        (tmp_path / "nats.py").write_text("raise ImportError('nats-py is not installed')")
    with listening(Service, seen) as service, listening(Bus, seen) as bus:
        settings = {**rocksdb_settings, "weather_url": f"http://{service}", "weather_token": "s3cret"}
        settings |= {"bus_servers": f"nats://{bus}"} if with_bus else {}
        command = ("uvicorn", "--app-dir", tmp_path, "examples.shared_clients:app")
        with serving(tmp_path / "log", *command, settings=settings) as (server, url):
            for city in ("oslo", "rome"):
                assert ask(f"{url}/weather/{city}") == (200, {"degrees": 21})
            opened = sorted(each for each in seen if "opened" in each)
            assert opened == ["bus opened", "http opened"][not with_bus :], "one connection each"
            server.end()
            assert "s3cret" not in server.output
        closed = ["bus closed", "http closed"][not with_bus :]
        until(lambda: len([each for each in seen if "closed" in each]) == len(closed), "all is closed")
    closings = sorted(each for each in seen if "closed" in each)  # each noted by a thread of its own, in any order
    assert closings == closed, "each is closed once; in which order, test_closing.py shows"
    asked = [each for each in seen if each[0] == "asked"]
    assert asked == [("asked", f"/{city}", ["Authorization: Bearer s3cret"]) for city in ("oslo", "rome")]
    published = [each for each in seen if each[0] == "published"]
    assert published == [("published", "weather.asked", city) for city in ("oslo", "rome") if with_bus]
