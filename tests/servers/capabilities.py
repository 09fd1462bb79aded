"""What a store cannot do, with the page that says so: a test that needs it is skipped on that server, and says why."""

from __future__ import annotations

import pytest

__all__ = ["LACKING", "needs"]

_COMPATIBILITY = "https://docs.pingcap.com/tidb/stable/mysql-compatibility"

LACKING = {
    "tidb": {
        "stored functions": f"{_COMPATIBILITY}#unsupported-features",
    },
    "sqlite": {
        "two writers at once": "https://www.sqlite.org/faq.html#q5",
        "connections that end when they are dropped": "https://github.com/python/cpython/blob/3.13/Modules/_sqlite/connection.c#L133",
    },
}
"""Kind of store → what it has not → the page or ticket that says so."""


def needs(kind: str, capability: str) -> None:
    """Skip the test where the store is declared to lack what the test needs."""
    page = LACKING.get(kind, {}).get(capability)
    if page is not None:
        pytest.skip(f"{kind} has no {capability}: {page}")
