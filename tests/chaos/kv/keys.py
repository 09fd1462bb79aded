"""The keys that callers compete for, by what is done with them."""

from __future__ import annotations

__all__ = [
    "ACCOUNTS",
    "CLAIMS",
    "CODES",
    "COUNTS",
    "FLEETING",
    "LEASES",
    "NAMESPACE",
    "PAIRS",
    "REGISTERS",
    "TOTAL",
    "amount_of",
]

NAMESPACE = "chaos"


def _several(name: str, number: int) -> tuple[str, ...]:
    return tuple(f"{name}:{each}" for each in range(number))


COUNTS = _several("count", 2)
"""Incremented, by 1, and read."""
REGISTERS = _several("register", 3)
"""Written and deleted by every verb but `expire`."""
CLAIMS = _several("claim", 2)
"""Written if absent, held for a moment, and deleted by who wrote."""
FLEETING = _several("fleeting", 2)
"""Written with a ttl that is soon over."""
LEASES = _several("lease", 2)
"""Written with a ttl, which `expire` changes."""
PAIRS = tuple((f"{pair}:a", f"{pair}:b") for pair in _several("pair", 2))
"""Two keys that are written together, with the same value."""
ACCOUNTS = _several("account", 6)
"""Amounts, moved in transactions."""
CODES = _several("code", 6)
"""Written if absent, and taken."""

TOTAL = 100 * len(ACCOUNTS)
"""The sum of the accounts."""


def amount_of(value: str) -> int:
    """Return the amount that the value of an account tells, beside what makes it unlike all others.

    >>> amount_of("99 n1.2.3")
    99
    """
    return int(value.split(maxsplit=1)[0])
