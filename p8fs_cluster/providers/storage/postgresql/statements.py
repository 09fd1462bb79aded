"""The effect of a statement on a session of PostgreSQL, judged by its text."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

__all__ = ["LONG", "RESET", "Effects", "effects", "keeps_session"]

_STATELESS = re.compile(
    r"[\s(]*(?:select|insert|update|delete|merge|with|values|table|begin|start\s+transaction|commit|end|rollback|abort"
    r"|savepoint|release|show|truncate|lock|fetch|move|close|notify|set\s+(?:local|transaction))\b",
    re.IGNORECASE,
)
"""The beginnings of statements that leave the session alone, unless something in them says otherwise."""

_STATEFUL = re.compile(
    r";\s*\S|\btemp(?:orary)?\b|\bpg_temp|\bpg_settings\b|\bu&\""
    r"|\b(?:set_config|setseed|dblink\w*|lo_\w+|pg_(?:try_)?advisory_(?:un)?lock\w*)\"?(?:\s|/\*.*?\*/|--.*?\n)*\(",
    re.IGNORECASE | re.DOTALL,
)
"""The parts of such statements that change a session all the same. A match by mistake costs a reset, no more."""

_BEYOND_RESET = re.compile(r"\b(?:prepare|deallocate|discard|load)\b", re.IGNORECASE)
"""Changes that no reset undoes without psycopg's own prepared statements: the connection is thrown away."""

_COMMENTS = r"(?:\s|/\*.*?\*/|--[^\n]*\n)*"
_TWO_PHASES = re.compile(
    _COMMENTS + r"(?:(prepare)\s+transaction|(?:commit|rollback)\s+prepared)\b", re.IGNORECASE | re.DOTALL
)
_ROLLS_BACK = re.compile(_COMMENTS + r"(?:rollback|abort)\b", re.IGNORECASE | re.DOTALL)

_ENDS = "; \t\r\n"
_COPIES = re.compile(_COMMENTS + r"copy\b", re.IGNORECASE | re.DOTALL)

LONG = 10_000
"""Characters from which on a statement is not kept in memory for the next time."""

RESET = (
    "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; SELECT pg_advisory_unlock_all();"
    "DISCARD TEMP; DISCARD SEQUENCES"
)
"""DISCARD ALL without DEALLOCATE ALL and DISCARD PLANS."""


def keeps_session(statement: str) -> bool:
    """Return whether a statement leaves the session as it was. A function that changes it unseen is not recognised.

    >>> keeps_session("UPDATE notes SET title = %s"), keeps_session("SET search_path TO notes")
    (True, False)
    """
    return bool(_STATELESS.match(statement)) and not _STATEFUL.search(statement)


class Effects(NamedTuple):
    """The effect of a statement on its session and on its transaction."""

    keeps_session: bool
    beyond_reset: bool
    """True if no reset makes the session what it was."""
    two_phases: bool | None
    """True: it prepares the transaction for a commit in two phases; False: it ends a prepared one."""
    rolls_back: bool
    takes_begin_along: bool
    """True if BEGIN can be sent together with it: it is one statement, for sure, and no COPY."""
    is_long: bool
    """True if it is not to be kept in memory for the next time."""


def effects(statement: str) -> Effects:
    """Return what a statement does.

    >>> effects("PREPARE TRANSACTION 'a'").two_phases, effects("ROLLBACK").rolls_back
    (True, True)
    >>> [effects(text).takes_begin_along for text in ("SELECT 1;", "SELECT 1; SELECT 2", "copy notes to stdout")]
    [True, False, False]
    """
    return _looked_up(statement) if len(statement) < LONG else _effects(statement)


def _effects(statement: str) -> Effects:
    keeps, two_phases = keeps_session(statement), _TWO_PHASES.match(statement)
    return Effects(
        keeps,
        not keeps and bool(_BEYOND_RESET.search(statement)),
        bool(two_phases[1]) if two_phases else None,
        bool(_ROLLS_BACK.match(statement)),
        ";" not in statement.rstrip(_ENDS) and not _COPIES.match(statement),
        len(statement) >= LONG,
    )


_looked_up = lru_cache(1024)(_effects)
