"""What commands of MySQL's protocol do to a session, and what its errors mean for the connection."""

from __future__ import annotations

import re
from typing import Any

import pymysql
from pymysql.constants import COMMAND, CR

from p8fs_cluster.exceptions import StorageTimeout

__all__ = [
    "RESET_CONNECTION",
    "TimedOut",
    "keeps_session",
    "tells_shutdown",
    "text_of",
    "touches_session",
    "without_values",
]

RESET_CONNECTION = 0x1F
"""COM_RESET_CONNECTION, which PyMySQL does not name."""

_SHUTTING_DOWN = re.compile(r"shut ?down|shutting down", re.IGNORECASE)
"""What a server says that is going away: its connections answer for a while, and are of no use."""

_BEGINNINGS = (
    r"\s*(?:set\b(?!\s+(?:autocommit|transaction)\b)|lock|unlock|prepare|deallocate|use|handler|load|call|do|flush|xa"
    r"|/\*|--|\#)"
)
_BEGINS = re.compile(_BEGINNINGS, re.IGNORECASE)
_STATEFUL = re.compile(
    rf"^{_BEGINNINGS}|:=|\binto\s+@|\btemporary\b|\b(?:get_lock|release_lock|release_all_locks)\s*\(", re.IGNORECASE
)
"""Statements after which a session is not what it was."""

_LITERAL = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_LONG = 10_000
"""Characters from which on a statement costs more than a reset, and is not looked through."""

_STATELESS_COMMANDS = (COMMAND.COM_PING, COMMAND.COM_QUIT)


def keeps_session(statement: str) -> bool:
    """Return whether a statement leaves the session as it was; what stands in its texts does not count.

    >>> keeps_session("INSERT INTO notes VALUES ('SET @x := 1')"), keeps_session("SET @x = 1")
    (True, False)
    """
    if len(statement) > _LONG:
        return False
    if not _BEGINS.match(statement):
        text = statement.lower()  # four looks at it take a tenth of the time of one search
        if not (":=" in text or "@" in text or "temporary" in text or "_lock" in text):
            return True
    return not _STATEFUL.search(statement) or not _STATEFUL.search(_LITERAL.sub("''", statement))


def touches_session(command: int, sql: Any) -> bool:
    """Return whether a command of the protocol, or the statement that it carries, may change the session."""
    if command != COMMAND.COM_QUERY:
        return command not in _STATELESS_COMMANDS
    return not keeps_session(sql if isinstance(sql, str) else bytes(sql[: _LONG + 1]).decode("latin-1"))


def without_values(sql: Any) -> Any:
    """Return a statement to show: the driver has put the parameters into it.

    >>> without_values("SELECT 'hunter2'")
    'SELECT ?'
    """
    return _LITERAL.sub("?", sql[:_LONG]) if isinstance(sql, str) else sql


def tells_shutdown(exc: pymysql.MySQLError) -> bool:
    """Return whether an error is of a server that is shutting down, in order.

    >>> tells_shutdown(pymysql.OperationalError(1053, "Server shutdown in progress"))
    True
    """
    return bool(_SHUTTING_DOWN.search(text_of(exc)))


class TimedOut(StorageTimeout, pymysql.OperationalError):
    """Raised where the wait is, so that both handlers of ours and of the driver's errors see it."""

    def __init__(self, message: str) -> None:
        super().__init__(CR.CR_SERVER_LOST, message)

    def __str__(self) -> str:
        return str(self.args[1])


def text_of(exc: BaseException) -> str:
    """Return an error of the driver in words, its number first."""
    return " ".join(str(argument) for argument in exc.args) or type(exc).__name__
