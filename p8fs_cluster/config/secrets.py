"""The secrets that this process has seen in its settings, so that nothing it writes shows one."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["MASK", "forget", "known", "remember", "without_passwords"]

MASK = "***"
_DSN_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/?#@]*:)[^\s/]*(?=@)", re.IGNORECASE)
_known: frozenset[str] = frozenset()


def remember(secrets: Iterable[str]) -> None:
    """Take these values for secrets for as long as the process lives: a rotated password stays one."""
    global _known  # noqa: PLW0603
    fresh = frozenset(secrets) - {""}
    if not fresh <= _known:
        _known |= fresh


def known() -> frozenset[str]:
    """Return all secrets seen so far."""
    return _known


def forget() -> None:
    """Start anew, as a test does."""
    global _known  # noqa: PLW0603
    _known = frozenset()


def without_passwords(text: str) -> str:
    """Return `text` with the passwords of connection strings masked.

    >>> without_passwords("to mysql://root:x@db/app")
    'to mysql://root:***@db/app'
    """
    return _DSN_PASSWORD.sub(rf"\1{MASK}", text) if "://" in text else text
