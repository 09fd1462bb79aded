"""The private names of psycopg that this engine uses. `tests/unit/test_compat.py` fails when psycopg changes one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import generators
from psycopg._preparing import Prepare
from psycopg.adapt import AdaptersMap, Transformer

__all__ = [
    "STATELESS_STEPS",
    "Prepare",
    "Steps",
    "WaitTimeout",
    "adapt",
    "begin_statement",
    "begun",
    "commit_each",
    "committing",
    "convert",
    "error_of",
    "execute",
    "fetch_many",
    "forget_last_text",
    "handles_notices",
    "in_two_phases",
    "is_read_only",
    "maintained",
    "mark_closed",
    "moved",
    "prepared",
    "restart",
    "restored",
    "run",
    "send",
    "tables",
    "take",
]

Steps = Iterator[Any]
"""The values that psycopg's generators yield: the event to wait for."""

WaitTimeout = psycopg.errors._WaitTimeout

_OK = psycopg.pq.ConnStatus.OK
_COMMAND_OK = psycopg.pq.ExecStatus.COMMAND_OK

STATELESS_STEPS = frozenset(
    ("_commit_gen", "_rollback_gen", "_enter_gen", "_exit_gen", "_set_autocommit_gen", "_stream_fetchone_gen")
)
"""The steps of a connection that leave no state in its session. A step that is not known costs a reset, no more."""


def commit_each(connection: Any, value: bool) -> None:
    """Let an idle connection commit each statement, or not: psycopg takes its lock and two generators for that."""
    connection._autocommit = value


def begin_statement(connection: Any) -> bytes | None:
    """Return the BEGIN that the next statement has to come after; None: there is none, or a pipeline sends it."""
    if connection._autocommit or connection._pipeline or connection.pgconn.transaction_status:
        return None
    statement: bytes = connection._get_tx_start_command()
    return statement


def begun(connection: Any) -> Steps:
    """Send BEGIN, if it has to be, and wait for the answer."""
    return connection._start_query()  # type: ignore[no-any-return]


if TYPE_CHECKING:
    from psycopg._connection_base import BaseConnection
    from psycopg._cursor_base import BaseCursor

    _Connection = BaseConnection[Any]
    _Cursor = BaseCursor[Any, Any]
else:
    _Connection = _Cursor = object


class ConnectionSteps(_Connection):
    """A part of psycopg's connections, that names what is done in place of their own steps."""

    def commit_steps(self) -> Steps:
        """Return the steps of a commit."""
        raise NotImplementedError

    def _commit_gen(self) -> Any:
        return self.commit_steps()


class CursorSteps(_Cursor):
    """A part of psycopg's cursors, that names what is done in place of their own steps."""

    __slots__ = ()

    def statement_steps(self, query: Any, params: Any, prepare: bool | None, binary: bool | None) -> Steps:
        """Return the steps of one statement."""
        raise NotImplementedError

    def statements_steps(self, query: Any, steps: Any) -> Steps:
        """Return the steps of one statement that is run many times, for which `steps` are psycopg's."""
        raise NotImplementedError

    def psycopgs_steps(self, query: Any, params: Any, prepare: bool | None, binary: bool | None) -> Any:
        """Return psycopg's own steps of one statement."""
        return super()._execute_gen(query, params, prepare=prepare, binary=binary)

    def _execute_gen(
        self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool | None = None
    ) -> Any:
        return self.statement_steps(query, params, prepare, binary)

    def _executemany_gen_pipeline(self, query: Any, *args: Any) -> Any:
        return self.statements_steps(query, super()._executemany_gen_pipeline(query, *args))

    def _executemany_gen_no_pipeline(self, query: Any, *args: Any) -> Any:
        return self.statements_steps(query, super()._executemany_gen_no_pipeline(query, *args))


def committing(connection: Any) -> Any:
    """Return the steps of a commit: of a plain one in a quarter of psycopg's calls, else psycopg's own."""
    if connection._num_transactions or connection._tpc or connection._pipeline:
        return psycopg.Connection._commit_gen(connection)
    return commit_steps(connection.pgconn)


def rolling_back(connection: Any) -> Any:
    """Return the steps of a rollback."""
    return connection._rollback_gen()


def check(cursor: Any, results: Sequence[Any]) -> None:
    """Raise the error that the results of a command are.

    :raises psycopg.Error: the server answered with it.
    """
    cursor._check_results(results)


def connection_of(cursor: Any) -> Any:
    """Return the connection of a cursor, whichever kind it is."""
    return cursor._conn


def commit_steps(pgconn: Any) -> Steps:
    """Send COMMIT, if a transaction is open.

    :raises psycopg.Error: the server could not commit.
    """
    if not pgconn.transaction_status:
        return
    pgconn.send_query(b"COMMIT")
    [result] = yield from generators.execute(pgconn)
    if result.status != _COMMAND_OK:
        raise psycopg.errors.error_from_result(result, encoding=pgconn._encoding)


def restart(cursor: Any, query: Any) -> None:
    """Prepare a cursor for a query, as `_start_query` does, but for BEGIN."""
    if cursor._closed:
        raise psycopg.InterfaceError("the cursor is closed")
    connection = cursor._conn
    if connection.pgconn.status != _OK:
        connection._check_connection_ok()
    cursor._reset()
    if not cursor._last_query or cursor._last_query is not query:
        cursor._last_query = None
        cursor._tx = Transformer(cursor)


def convert(cursor: Any, query: Any, params: Any) -> Any:
    """Return the query as it is sent."""
    return cursor._convert_query(query, params)


def prepared(cursor: Any, query: Any, prepare: bool | None) -> tuple[Prepare, bytes]:
    """Return whether the server has the query as a prepared statement, or is to have it, and under what name."""
    found: tuple[Prepare, bytes] = cursor._get_prepared(query, prepare)
    return found


def run(cursor: Any, query: Any, prepare: bool | None, binary: bool | None) -> Steps:
    """Run a query in a transaction that has begun."""
    return cursor._maybe_prepare_gen(query, prepare=prepare, binary=binary)  # type: ignore[no-any-return]


def take(cursor: Any, query: Any, prep: Prepare, name: bytes, results: Sequence[Any]) -> None:
    """Give a cursor the results of its query, or raise the error that they are.

    :raises psycopg.Error: the server answered with it.
    """
    cursor._query = query
    statements = cursor._conn._prepared
    key = statements.maybe_add_to_cache(query, prep, name)
    if key is not None:
        statements.validate(key, prep, name, results)
    cursor._check_results(results)
    cursor._set_results(results)


def maintained(cursor: Any, query: Any) -> Steps:
    """Note the last query of a cursor, and do what psycopg does with prepared statements after each."""
    cursor._last_query = query
    statements = cursor._conn._prepared
    return statements.maintain_gen(cursor._conn) if statements._to_flush else iter(())


def moved(exc: psycopg.Error, characters: int) -> None:
    """Let an error say its position as if so many characters, one line of them, had not stood before the statement."""
    position = exc.diag.statement_position
    if position is None:
        return
    state: Any = psycopg.errors._info_to_dict(exc._info)
    state[psycopg.pq.DiagnosticField.STATEMENT_POSITION] = str(int(position) - characters).encode()
    exc._info = state
    if exc.args:
        exc.args = (_one_line_less(str(exc.args[0])), *exc.args[1:])


def _one_line_less(message: str) -> str:
    before, mark, rest = message.partition("\nLINE ")
    number, colon, rest = rest.partition(": ")
    if not (mark and colon and number.isdigit()):
        return message
    line = str(int(number) - 1)
    excerpt, newline, caret = rest.partition("\n")
    shorter = len(number) - len(line)  # the caret stands below the excerpt
    return f"{before}{mark}{line}{colon}{excerpt}{newline}{caret[shorter:]}"


def forget_last_text(connection: Any, characters: int) -> None:
    """Let psycopg not count the last statement if it is so long: it would keep 100 texts of any size."""
    counts = connection._prepared._counts
    if counts and len(next(reversed(counts))[0]) >= characters:
        counts.popitem()


def tables(connection: Any) -> tuple[object, ...]:
    """Return the tables by which values are converted: psycopg copies one before it changes it."""
    adapters = connection.adapters
    by_format = adapters._dumpers.values()
    return *by_format, *adapters._dumpers_by_oid, *adapters._loaders, adapters.types._registry


def restored(connection: Any, threshold: int | None, unchanged: tuple[object, ...]) -> bool:
    """Give the driver's object what it had before it was lent; return whether it is in no state that stays.

    `unchanged`: the tables that it had then.
    """
    if connection._adapters is not None and tables(connection) != unchanged:
        connection._adapters = None  # made anew when it is asked for
    if connection._notice_handlers:
        connection._notice_handlers.clear()
    if connection._notify_handlers:
        connection._notify_handlers.clear()
    if connection._notifies_backlog is None or connection._notifies_backlog:
        connection._notifies_backlog = deque()
    statements = connection._prepared
    statements.prepare_threshold = threshold
    statements.prepared_max = type(statements).prepared_max
    return not (connection._tpc or connection._pipeline)


def adapt(connection: Any, context: psycopg.abc.AdaptContext) -> None:
    """Convert values as a context does."""
    connection._adapters = AdaptersMap(context.adapters)


def in_two_phases(connection: Any) -> bool:
    """Return whether a transaction was begun that is to be committed in two phases."""
    return connection._tpc is not None


def is_read_only(connection: Any) -> bool:
    """Return whether the borrower wants transactions that only read."""
    return bool(connection._read_only)


def mark_closed(connection: Any) -> None:
    """Let the finalizer of a connection not warn."""
    connection._closed = True


def handles_notices(connection: Any, callback: Callable[..., None]) -> bool:
    """Return whether a callback was added already."""
    return callback in connection._notice_handlers


execute, fetch_many, send = generators.execute, generators.fetch_many, generators.send
error_of = psycopg.errors.error_from_result
