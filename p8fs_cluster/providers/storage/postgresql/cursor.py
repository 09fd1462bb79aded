"""Cursors of either kind, which judge what statements leave behind, and send BEGIN along.

psycopg sends BEGIN, waits for the answer, and then sends the first statement. Here both go in one round trip: in one
text if the statement has no parameters, in libpq's pipeline mode if it has some or is prepared. What may not be sent so
comes after a BEGIN of its own. All is written as psycopg writes it, in generators that the connection's `wait` runs, so
threads and asyncio share it.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import psycopg
from psycopg.pq import ExecStatus, Format, TransactionStatus

from p8fs_cluster.providers.storage.observability import tell_slow
from p8fs_cluster.providers.storage.postgresql import compat
from p8fs_cluster.providers.storage.postgresql.session import Session, is_of_a_cached_plan

__all__ = ["SessionCursor"]

_NO = compat.Prepare.NO
_SHOULD = compat.Prepare.SHOULD
_IDLE = TransactionStatus.IDLE
_INERROR = TransactionStatus.INERROR
_FATAL_ERROR = ExecStatus.FATAL_ERROR
_AFTER_BEGIN = b";\n"
"""Ends BEGIN, and its line: so an error shows the statement's own line."""


class SessionCursor(compat.CursorSteps):
    """The cursor of every borrower who names no other."""

    __slots__ = ()

    def statements_steps(self, query: Any, steps: Generator[Any, Any, None]) -> Generator[Any, Any, None]:
        """Run one statement many times."""
        connection: Session = compat.connection_of(self)
        does = connection.starts(query)
        try:
            yield from steps
        finally:
            if does.is_long:
                connection.ended()

    def statement_steps(
        self, query: Any, params: Any, prepare: bool | None, binary: bool | None
    ) -> Generator[Any, Any, None]:
        """Run one statement.

        :raises NotCommitted: it was to commit a transaction that had failed.
        """
        connection: Session = compat.connection_of(self)
        does = connection.starts(query)
        before = connection.pgconn.transaction_status
        started = time.monotonic() if connection.slow else 0.0
        begin = None if before else compat.begin_statement(connection)
        try:
            if begin is None:
                yield from self.psycopgs_steps(query, params, prepare, binary)
            else:
                yield from self._first(begin if does.takes_begin_along else b"", query, params, prepare, binary)
        except psycopg.errors.FeatureNotSupported as exc:
            if before or not is_of_a_cached_plan(exc):
                raise
            connection.note(exc)
            yield from compat.rolling_back(connection)  # nothing was done before, nor by the statement
            yield from self.psycopgs_steps(query, params, False, binary)
        finally:
            if does.is_long:
                connection.ended()
            if connection.slow:
                tell_slow("postgresql", query, time.monotonic() - started, connection.slow)
        if before == _INERROR and connection.was_undone(query):
            raise connection.undone()

    def _first(
        self, begin: bytes, query: Any, params: Any, prepare: bool | None, binary: bool | None
    ) -> Generator[Any, Any, None]:
        """Run the statement that begins a transaction; `begin` goes along with it, or alone if it is empty.

        The server reads all of a text before it runs any of it: a syntax error leaves no transaction. Then, as after a
        text that holds comments alone, the statement is sent by itself, so that what it leads to is as always.
        """
        connection = compat.connection_of(self)
        compat.restart(self, query)
        converted = compat.convert(self, query, params)
        prep, name = compat.prepared(self, converted, prepare)
        form = self.format if binary is None else Format.BINARY if binary else Format.TEXT
        done = False
        if begin and (prep is _SHOULD or converted.params or form == Format.BINARY):
            yield from self._first_in_a_pipeline(begin, converted, prep, name, form)
            done = True
        elif begin:
            pgconn = connection.pgconn
            pgconn.send_query(begin + _AFTER_BEGIN + (b"EXECUTE " + name if name else converted.query))
            began, *results = yield from compat.execute(pgconn)
            if results or (began.status == _FATAL_ERROR and pgconn.transaction_status != _IDLE):
                self._take(begin, converted, prep, name, results or [began])
                done = True
        if not done:
            yield from compat.begun(connection)
            yield from compat.run(self, converted, prepare, binary)
        yield from compat.maintained(self, query)

    def _take(self, begin: bytes, query: Any, prep: Any, name: bytes, results: list[Any]) -> None:
        try:
            compat.take(self, query, prep, name, results)
        except psycopg.Error as exc:
            compat.moved(exc, len(begin + _AFTER_BEGIN))
            raise

    def _first_in_a_pipeline(
        self, begin: bytes, query: Any, prep: Any, name: bytes, form: Format
    ) -> Generator[Any, Any, None]:
        """Send BEGIN, the statement's preparation if it is due, and the statement, for one answer."""
        pgconn = compat.connection_of(self).pgconn
        answered = False
        pgconn.enter_pipeline_mode()
        try:
            pgconn.send_query_params(begin, None)
            if prep is _SHOULD:
                pgconn.send_prepare(name, query.query, param_types=query.types)
            if prep is _NO:
                pgconn.send_query_params(
                    query.query, query.params,
                    param_formats=query.formats, param_types=query.types, result_format=form,
                )  # fmt: skip
            else:
                pgconn.send_query_prepared(name, query.params, param_formats=query.formats, result_format=form)
            pgconn.pipeline_sync()
            yield from compat.send(pgconn)
            answers = []
            for _ in range(4 if prep is _SHOULD else 3):  # the last one is the Sync's
                answers.append((yield from compat.fetch_many(pgconn)))
            answered = True
        finally:
            if answered:
                pgconn.exit_pipeline_mode()
            else:
                pgconn.finish()  # in the middle of an answer nothing else can be asked
        *before, results, _ = answers
        for answer in before:
            compat.check(self, answer)
        compat.take(self, query, prep, name, results)
