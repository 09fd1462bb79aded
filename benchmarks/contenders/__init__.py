"""The same five things, in each contender's fastest documented way. What they are given is defined here.

Every module has `RESOLVE`, the expression that gives the singleton `Service`; `one()` and `three()`, which are given
singletons; `one_async()`; and `with_resource()`, for whose call `transaction()` is opened and closed.
A peer's own injection is used where it has one; for the resource, its scope entered by hand where that is faster.
"""

from __future__ import annotations

from collections.abc import Iterator


class Service:
    """A singleton."""


class Cache:
    """A singleton."""


class Mailer:
    """A singleton."""


class Transaction:
    """Knows how often it was closed."""

    def __init__(self) -> None:
        self.closed = 0


def transaction() -> Iterator[Transaction]:
    """Give a transaction, and close it."""
    opened = Transaction()
    try:
        yield opened
    finally:
        opened.closed += 1
