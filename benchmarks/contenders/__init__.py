"""The same things, in each contender's fastest documented way. What they are given is defined here.

Every module has `RESOLVE`, the expression that gives the singleton `Service`, and `GRAPH`, which makes a `Handler` of
four parts; `one()` and `three()`, which are given singletons; `mixed()`, which is given two of them and new `Notes`;
`one_async()` and `mixed_async()`; `with_resource()`, for whose call `transaction()` is opened and closed; and, if the
contender has scopes, `in_scope()`, which opens one for a request, calls what is given its transaction, and closes it.
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


class Repo:
    """A singleton."""


class Notes:
    """Made anew each time, of a singleton."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo


class Handler:
    """Made anew each time, with notes of its own."""

    def __init__(self, notes: Notes, mailer: Mailer) -> None:
        self.notes = notes
        self.mailer = mailer


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
