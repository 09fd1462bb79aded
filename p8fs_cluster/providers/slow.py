"""What takes longer than the settings allow is logged."""

from __future__ import annotations

import logging

__all__ = ["tell_slow"]

log = logging.getLogger("p8fs_cluster.storage")
_SHOWN = 200
"""Characters of a statement that are logged; its parameters never are."""


def tell_slow(provider: str, statement: object, seconds: float, limit: float) -> None:
    """Log a statement that took at least `limit` seconds."""
    if seconds >= limit:
        text = statement if isinstance(statement, str) else type(statement).__name__
        log.warning("%s: a statement took %.3f s: %s", provider, seconds, " ".join(text.split())[:_SHOWN])
