"""What a server cannot do, with the page that says so: a test that needs it is skipped on that server, and says why."""

from __future__ import annotations

import pytest

from tests.servers.server import Server

__all__ = ["LACKING", "needs"]

_COMPATIBILITY = "https://docs.pingcap.com/tidb/stable/mysql-compatibility"

LACKING = {
    "tidb": {
        "stored functions": f"{_COMPATIBILITY}#unsupported-features",
    },
}
"""Kind of server → what it has not → the page or ticket that says so."""


def needs(server: Server, capability: str) -> None:
    """Skip the test where the server is declared to lack what the test needs."""
    page = LACKING.get(server.kind, {}).get(capability)
    if page is not None:
        pytest.skip(f"{server.kind} has no {capability}: {page}")
