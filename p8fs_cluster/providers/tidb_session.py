"""What commands of MySQL's protocol do to a session, and what its errors mean for the connection."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pymysql
from pymysql.constants import COMMAND, CR

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import StorageError, StorageTimeout

__all__ = [
    "QUESTIONS",
    "RESET_CONNECTION",
    "TimedOut",
    "beginning",
    "failed",
    "inspected",
    "keeps_session",
    "tells_shutdown",
    "text_of",
    "touches_session",
    "without_values",
]

RESET_CONNECTION = 0x1F
"""COM_RESET_CONNECTION, which PyMySQL does not name."""

QUESTIONS = (
    "SELECT VERSION()",
    "SHOW GLOBAL VARIABLES WHERE Variable_name LIKE 'tidb_%' OR Variable_name = 'max_allowed_packet'",
    "SHOW SESSION VARIABLES WHERE Variable_name LIKE 'tidb_%'",
)
"""Statements whose answers `inspected` reads. TiDB has some of these variables for sessions alone."""

_STALE = "statements read data of the past"
_HARMFUL = {
    "tidb_read_staleness": ("0", _STALE),
    "tidb_snapshot": ("", _STALE),
    "tidb_low_resolution_tso": ("OFF", _STALE),
    "tidb_enable_external_ts_read": ("OFF", _STALE),
    "tidb_enable_noop_functions": ("OFF", "SELECT … FOR SHARE takes no lock, and says nothing"),
}
"""TiDB's variable → the value that does no harm, and what any other does."""

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

_LARGE = 1 << 20

_STATELESS_COMMANDS = (COMMAND.COM_PING, COMMAND.COM_QUIT)


def beginning(settings: P8FSConfig) -> str:
    """Return the statement that gives a session its state. What only TiDB knows is a comment to other servers.

    >>> beginning(P8FSConfig())
    "SET NAMES utf8mb4, autocommit = 0 /*T!, tidb_txn_mode = 'pessimistic' */"
    """
    return f"SET NAMES utf8mb4, autocommit = 0 /*T!, tidb_txn_mode = '{settings.tidb_txn_mode}' */"


def inspected(answers: Sequence[Sequence[tuple[Any, ...]]]) -> str:
    """Return what the server is and what of its settings matters here, from the answers to `QUESTIONS`.

    :raises StorageError: its settings make reads stale or locks empty.

    >>> variables = [("max_allowed_packet", "67108864"), ("tidb_txn_mode", "pessimistic")]
    >>> inspected([[("8.0.11-TiDB-v8.5.6",)], variables, []])
    'TiDB v8.5.6; packets of up to 64 MiB; transactions are pessimistic unless a client says otherwise'
    >>> inspected([[("10.11.6-MariaDB",)], [("max_allowed_packet", "16777216")], []])
    'MySQL protocol, no TiDB: 10.11.6-MariaDB; packets of up to 16 MiB'
    """
    [[(version,)], for_all, here] = answers
    faults = [
        f"{scope} {name} is {value or 'empty'!r}: {harm}; SET {scope} {name} = {harmless!r}"
        for scope, variables in (("GLOBAL", for_all), ("SESSION", here))
        for name, value in variables
        for harmless, harm in [_HARMFUL.get(name, (value, ""))]
        if value != harmless
    ]
    if faults:
        raise StorageError(f"tidb: the server's settings: {'; '.join(faults)}")
    _, tidb, number = version.partition("-TiDB-")
    shown, known = f"TiDB {number}" if tidb else f"MySQL protocol, no TiDB: {version}", dict(for_all)
    mode = f"; transactions are {known['tidb_txn_mode']} unless a client says otherwise" if tidb else ""
    return f"{shown}; packets of up to {int(known['max_allowed_packet']) >> 20} MiB{mode}"


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


def failed(exc: BaseException, size: int) -> StorageError:
    """Return the error for a statement that failed; `size`: the bytes that were sent.

    A server that gets more than it takes closes the connection in the midst of it, often before its reason is read.
    """
    text = text_of(exc)
    number = exc.args[0] if exc.args else None
    cut_off = isinstance(exc, pymysql.InternalError) or number in (CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST)
    if cut_off and size > _LARGE:
        text = f"{text}; {size / _LARGE:.0f} MiB were sent: is that more than the server's max_allowed_packet?"
    return StorageError(f"tidb: the statement failed: {text}")


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
