"""The effect of a statement on a session of MySQL's protocol, judged by its text."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from pymysql.constants import COMMAND

__all__ = ["RESET_CONNECTION", "effects", "ends_transaction", "keeps_session", "touches_session", "without_values"]

RESET_CONNECTION = 0x1F
"""COM_RESET_CONNECTION, which PyMySQL does not name."""

_STATELESS = re.compile(
    r"[\s(]*(?:select|insert|replace|update|delete|with|values|table|show|desc(?:ribe)?|explain|begin|start\s+transaction"
    r"|commit|rollback|savepoint|release|truncate|set\s+autocommit\s*=\s*\d\s*$)\b",
    re.IGNORECASE,
)
"""The beginnings of statements that leave the session alone, unless something in them says otherwise."""

_STATEFUL = re.compile(
    r":=|\binto\s+@|/\*[!+MT]|;\s*\S"
    r"|\b(?:get_lock|release_lock|release_all_locks|last_insert_id)[`\"]?(?:\s|/\*.*?\*/|(?:--\s|\#).*?\n)*\(\s*[^)\s]",
    re.IGNORECASE | re.DOTALL,
)
"""The parts of such statements that change a session all the same. A match by mistake costs a reset, no more."""

_LITERAL = re.compile(r"'(?:[^'\\]|\\.)*(?:'|\\?\Z)|\"(?:[^\"\\]|\\.)*(?:\"|\\?\Z)", re.DOTALL)
"""A text, or the beginning of one where a statement was cut off."""
_LONG = 10_000
"""Characters from which on a statement costs more than a reset, and is not looked through."""

_ENDS = re.compile(
    r"(?:\s|/\*(?![!+MT]).*?\*/|(?:--\s|\#)[^\n]*\n)*(?:(commit)|rollback(?!\s+(?:work\s+)?to\b))\b",
    re.IGNORECASE | re.DOTALL,
)

_START = 200
"""Characters in which a COMMIT is looked for, comments before it included."""

_STATELESS_COMMANDS = (COMMAND.COM_PING, COMMAND.COM_QUIT)


def keeps_session(statement: str) -> bool:
    """Return whether a statement leaves the session as it was; what stands in its texts does not count.

    >>> keeps_session("INSERT INTO notes VALUES ('SET @x := 1')"), keeps_session("SET @x = 1")
    (True, False)
    """
    if len(statement) > _LONG or not _STATELESS.match(statement):
        return False
    text = statement.lower()  # these looks at it take a tenth of the time of one search
    if not ("@" in text or ":=" in text or "_lock" in text or "/*" in text or ";" in text or "last_insert" in text):
        return True
    return not _STATEFUL.search(statement) or not _STATEFUL.search(_LITERAL.sub("''", statement))


def touches_session(command: int, sql: Any) -> bool:
    """Return whether a command of the protocol, or the statement that it carries, may change the session."""
    if command != COMMAND.COM_QUERY:
        return command not in _STATELESS_COMMANDS
    return not keeps_session(sql if isinstance(sql, str) else bytes(sql[: _LONG + 1]).decode("latin-1"))


def ends_transaction(command: int, sql: Any) -> str:
    """Return "commit" or "rollback" for a command that ends the transaction so, else "".

    >>> ends_transaction(COMMAND.COM_QUERY, "COMMIT"), ends_transaction(COMMAND.COM_QUERY, "ROLLBACK TO a")
    ('commit', '')
    """
    if command != COMMAND.COM_QUERY:
        return ""
    start = sql[:_START] if isinstance(sql, str) else bytes(sql[:_START]).decode("latin-1")
    found = _ENDS.match(start)
    return "" if found is None else "commit" if found[1] else "rollback"


def effects(command: int, sql: Any) -> tuple[bool, str]:
    """Return what `touches_session` and `ends_transaction` say of a command.

    >>> effects(COMMAND.COM_QUERY, "COMMIT")
    (False, 'commit')
    """
    short = len(sql) <= _START and isinstance(sql, str | bytes)
    return _looked_up(command, sql) if short else (touches_session(command, sql), ends_transaction(command, sql))


@lru_cache(1024)
def _looked_up(command: int, sql: Any) -> tuple[bool, str]:
    return touches_session(command, sql), ends_transaction(command, sql)


def without_values(sql: Any) -> Any:
    """Return a statement to show: the driver has put the parameters into it.

    >>> without_values("SELECT 'hunter2'"), without_values("SELECT '" + "hunter2" * 5000)
    ('SELECT ?', 'SELECT ?')
    """
    return _LITERAL.sub("?", sql[:_LONG]) if isinstance(sql, str) else sql
