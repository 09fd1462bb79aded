"""The effects of MySQL's commands on a session, and of its errors on the connection."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import pymysql
from pymysql.constants import COMMAND, CR, ER, SERVER_STATUS

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import NotCommitted, StorageError, StorageTimeout
from p8fs_cluster.providers.storage.messages import Messages
from p8fs_cluster.providers.storage.session import SessionState
from p8fs_cluster.providers.storage.tidb.statements import effects, ends_transaction

__all__ = [
    "LARGE",
    "QUESTIONS",
    "Refused",
    "Session",
    "TimedOut",
    "beginning",
    "described",
    "inspected",
    "retry_pause",
    "tells_shutdown",
    "text_of",
]

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
"""The errors of a server that is going away: its connections answer for a while, and are of no use."""

_READ_ONLY = (1290, 1792, 1836)
"""Errors of a server that only reads."""

LARGE = 1 << 20
"""Bytes from which on a command may be more than the server takes."""

_RETRIED = dict.fromkeys((1020, 1213, 8002, 8005, 8022, 8028, 9007), 0.01) | dict.fromkeys(range(9001, 9006), 0.1)
"""Errors after which a transaction may be run again as a whole → seconds to begin with; the cluster is busy at 900x."""
_GAVE_UP = "pessimistic lock retry limit reached"
"""The text of TiDB's error 1105, which has many meanings, after 256 conflicts over one row."""


def retry_pause(exc: BaseException) -> float | None:
    """Return the pause after a code that TiDB documents for it, a deadlock, or MariaDB's conflict of snapshots."""
    if not isinstance(exc, pymysql.MySQLError):
        return None
    number = number_of(exc)
    return 0.01 if number == ER.UNKNOWN_ERROR and _GAVE_UP in text_of(exc) else _RETRIED.get(number)


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


SILENT = (CR.CR_CONN_HOST_ERROR, CR.CR_SERVER_LOST)
"""The driver's own errors of an address where no server answers, so that the next one is tried."""


def described(exc: BaseException, size: int) -> str:
    """Return what to say of a statement that failed; `size`: the bytes that were sent.

    A server that gets more than it takes closes the connection in the midst of it, often before its reason is read.
    """
    text = text_of(exc)
    cut_off = isinstance(exc, pymysql.InternalError) or number_of(exc) in (CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST)
    if cut_off and size > LARGE:
        text = f"{text}; {size / LARGE:.0f} MiB were sent: is that more than the server's max_allowed_packet?"
    return text


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


class Refused(NotCommitted, pymysql.OperationalError):
    """Raised in place of a commit that would not commit all that the block wrote."""

    def __str__(self) -> str:
        return str(self.args[1])


class Session(SessionState):
    """The state of a connection of either kind: how long its waits may last, and what became of its session."""

    beginning: str
    """The statement that gives a session its state."""
    used = False
    """True if anything but a ping was sent since it was lent."""
    alone = False
    """True if it is lent for one statement, which is a transaction."""
    commits_itself = False
    """True if the session commits each statement, as the last borrower left it; the next one changes that first."""
    size = 0
    """Bytes or characters of the last command."""
    in_step = True
    """True if no packet is on its way that nobody has read."""
    reading = False
    """True if a result is being read, of several packets."""
    doubtful: pymysql.MySQLError | None = None
    """An error at which the server may have ended the transaction; a ping will tell."""
    ended_by: pymysql.MySQLError | None = None
    """The error at which it has."""
    pristine: dict[str, Any]
    attributes: frozenset[str]
    server_status: int = 0
    encoders: dict[Any, Any]
    decoders: dict[Any, Any]

    def bound(self, settings: P8FSConfig, messages: Messages) -> None:
        super().bound(settings, messages)
        self.beginning = beginning(settings)

    def begin_life(self, has_pending_data: Callable[[], int]) -> None:
        super().begin_life(has_pending_data)
        self.used = False
        self.pristine = {name: self.__dict__[name] for name in _DRIVERS_OWN if name in self.__dict__}
        self.encoders, self.decoders = dict(self.encoders), dict(self.decoders)
        self.attributes = frozenset(self.__dict__) | _OURS

    def lend(self, deadline: float | None) -> None:
        """Note until when its borrower may wait."""
        self.deadline, self.used, self.alone = deadline, False, False

    def sending(self, command: int, sql: Any) -> None:
        """Note a command that is about to be sent.

        :raises Refused: it is a commit that would not commit all that the block wrote.
        """
        self.size = len(sql)
        if command != COMMAND.COM_PING:
            touches, end = effects(command, sql)
            self.dirty = self.dirty or touches
            if end:
                self._ending(end)
            self.used = True
        self.in_step = False

    def keep_step(self) -> None:
        """End a connection whose last answer was not read to its end, which would be taken for the next command's.

        :raises OperationalError: it was so.
        :raises TimedOut: the deadline has passed; nothing is sent then.
        """
        if self.deadline is not None and self.deadline <= time.monotonic():
            self.drop()
            raise self.too_late()
        if self.reading or not self.in_step:
            self.end()
            told = f"{self.messages}: the connection was interrupted in the middle of an answer, and has been closed"
            raise pymysql.OperationalError(CR.CR_SERVER_LOST, told)

    def is_in_doubt(self, command: int, sql: Any) -> bool:
        """Return whether a ping must tell, before a command, if the server has ended the transaction."""
        return self.doubtful is not None and ends_transaction(command, sql) != "rollback"

    def doubt(self, exc: pymysql.MySQLError) -> None:
        """Note an error that the server answered: it may have ended the transaction, as it does at a deadlock."""
        number = number_of(exc)
        read_only = number in _READ_ONLY and re.search("read.only", text_of(exc), re.IGNORECASE)
        self.outdated = self.outdated or bool(read_only and not self.dirty)
        in_transaction = self.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS
        if retry_pause(exc) is not None or (in_transaction and not is_of_driver(exc)):
            self.doubtful = self.doubtful or exc

    def decide(self) -> None:
        """Judge by the state that a ping has brought."""
        if not self.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS:
            self.ended_by = self.ended_by or self.doubtful
        self.doubtful = None

    def restore_driver(self) -> None:
        """Give the driver's object the state of its beginning."""
        self.__dict__.update(self.pristine)
        self.encoders, self.decoders = dict(self.encoders), dict(self.decoders)
        for name in self.__dict__.keys() - self.attributes:
            del self.__dict__[name]
        self.doubtful = self.ended_by = None

    def is_otherwise(self, command: int) -> bool:
        """Return whether the session commits each statement, and is not to, or the other way round."""
        return not self.used and self.commits_itself is not self.alone and command != COMMAND.COM_PING

    def get_autocommit(self) -> bool:
        """Return whether the session commits each statement, from the borrower's next one on."""
        if self.is_otherwise(COMMAND.COM_QUERY):
            return self.alone
        return bool(self.server_status & SERVER_STATUS.SERVER_STATUS_AUTOCOMMIT)

    @property
    def unfinished(self) -> bool:
        """Return whether there may be something to commit."""
        return self.used and not (self.alone and not self.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)

    def answered_with(self, exc: pymysql.MySQLError) -> None:
        """Note an error that was read, or that the driver met while it read."""
        self.in_step = True
        if tells_shutdown(exc):
            self.drop()
        self.doubt(exc)

    def too_late(self) -> TimedOut:
        """Return the fault of an answer that did not come in time."""
        return TimedOut(self.messages.too_late(of_block=self.deadline is not None))

    def drop(self) -> None:
        """Close it at once, as one that was lost: its block is not committed."""
        raise NotImplementedError

    def end(self) -> None:
        """Close it at once, whatever it is doing."""
        raise NotImplementedError

    def is_closed_by_server(self) -> bool:
        """Return whether the server has closed it, told without a round trip."""
        raise NotImplementedError

    def _ending(self, end: str) -> None:
        if end == "rollback":
            self.doubtful = self.ended_by = None
        elif self.ended_by is not None:
            why = f"the server had ended the transaction ({text_of(self.ended_by)})"
            way_out = "let the error leave the block, or call rollback() and do all of it again"
            raise self._refused(why, way_out) from self.ended_by
        elif self.used and self.is_closed_by_server():
            raise self._refused("the server had ended the session before the commit was sent", "see the server's log")

    def _refused(self, why: str, way_out: str) -> Refused:
        number = number_of(self.ended_by) if self.ended_by else CR.CR_SERVER_LOST
        return Refused(number, self.messages.not_committed(why, way_out))


_DRIVERS_OWN = (
    *("autocommit_mode", "client_flag", "cursorclass", "decoders", "encoders", "sql_mode", "use_unicode"),
    *("charset", "collation", "db", "encoding"),  # PyMySQL's
    *("_charset", "_db", "_encoding"),  # aiomysql's
)
"""Attributes of the drivers' objects that a borrower may change, and that serve the next one."""

_OURS = frozenset(
    name
    for names in (SessionState.__annotations__, vars(SessionState), Session.__annotations__, vars(Session))
    for name in names
) | {"give_back", "given_up", "is_overdue", "timer", "waits_until", "_limited", "_reader"}


def number_of(exc: BaseException) -> int:
    """Return the number of an error of the driver; 0 if it has none, as where it could not read an answer.

    >>> number_of(pymysql.OperationalError(1213, "Deadlock found")), number_of(pymysql.InternalError("Packet sequence"))
    (1213, 0)
    """
    return exc.args[0] if exc.args and isinstance(exc.args[0], int) else 0


def is_of_driver(exc: BaseException) -> bool:
    """Return whether the driver has met an error, and not read it as the server's answer.

    >>> [is_of_driver(pymysql.OperationalError(number, "")) for number in (2013, 1053)]
    [True, False]
    """
    return number_of(exc) == 0 or 2000 <= number_of(exc) < 3000


def was_cut_short(exc: BaseException) -> bool:
    """Return whether the driver could not send all of a command, which the server does not run then.

    >>> [was_cut_short(pymysql.OperationalError(number, "")) for number in (2006, 2013)]
    [True, False]
    """
    return number_of(exc) == CR.CR_SERVER_GONE_ERROR


def text_of(exc: BaseException) -> str:
    """Return an error of the driver in words, its number first."""
    return " ".join(str(argument) for argument in exc.args) or type(exc).__name__
