"""BEGIN goes with the first statement on PostgreSQL: counted on the wire, and as psycopg does it in all else."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy

from p8fs_cluster import Container
from p8fs_cluster.exceptions import NotCommitted, StorageError
from tests.conformance.awaited import Awaited, Handle, Loop
from tests.relays import Turns, relay
from tests.servers import Server

RESET = 1


class Wire:
    """A handle over one connection, and the round trips of that."""

    def __init__(self, container: Container, storage: Any, turns: Turns) -> None:
        self.container = container
        self.storage = storage
        self._turns = turns

    @contextlib.contextmanager
    def takes(self, round_trips: int) -> Iterator[None]:
        before = self._turns.count
        yield
        assert self._turns.count - before == round_trips


@pytest.fixture(params=["threads", "asyncio"])
def wire(request: pytest.FixtureRequest, postgresql_server: Server) -> Iterator[Wire]:
    turns = Turns()
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(relay("127.0.0.1", 0, postgresql_server.settings["pg_port"], turns=turns))
        settings = {**postgresql_server.settings, "pg_port": port, "pg_sslmode": "disable", "pool_max_size": 1}
        loop = stack.enter_context(Loop().running()) if request.param == "asyncio" else None
        container = stack.enter_context(Container(config=settings))
        storage: Any = Handle(loop, container.async_storage(), "") if loop else container.storage()
        for statement in ("DROP TABLE IF EXISTS trips", "CREATE TABLE trips (id INTEGER PRIMARY KEY, name TEXT)"):
            storage.execute(statement)
        yield Wire(container, storage, turns)


def rows(cursor: Any) -> Any:
    return cursor.fetchall()


@pytest.mark.parametrize("parameters", [None, ("a",)], ids=["without", "with"])
def test_two_for_a_block_with_one_statement(wire: Wire, parameters: Any) -> None:
    text = "SELECT 'a'" if parameters is None else "SELECT %s"
    for _ in range(8):  # from the sixth on it is a prepared statement
        with wire.takes(2), wire.storage.connection() as connection:
            assert rows(connection.execute(text, parameters)) == [("a",)]


def test_one_for_each_further_statement(wire: Wire) -> None:
    for further in (1, 3):
        with wire.takes(2 + further), wire.storage.connection() as connection:
            connection.execute("INSERT INTO trips VALUES (%s, 'a')", (further,))
            for _ in range(further):
                connection.execute("SELECT 1")
    assert wire.storage.execute("SELECT count(*) FROM trips") == [(2,)]


def test_a_preparation_goes_along(wire: Wire) -> None:
    with wire.takes(2), wire.storage.connection() as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT %s::int + 1", (1,), prepare=True)
        assert rows(cursor) == [(2,)]
    with wire.takes(2), wire.storage.connection() as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT %s::int + 1", (2,), prepare=True)
        assert rows(cursor) == [(3,)]


def test_binary_results_go_along(wire: Wire) -> None:
    with wire.takes(2), wire.storage.connection() as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT 7", binary=True)
        assert rows(cursor) == [(7,)]


def test_a_level_of_isolation_goes_along(wire: Wire) -> None:
    with wire.takes(2 + RESET), wire.storage.connection() as connection:
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        assert rows(connection.execute("SHOW transaction_isolation")) == [("serializable",)]


def test_a_transaction_that_is_run_again(wire: Wire) -> None:
    def work(connection: Any) -> Any:
        return rows(connection.execute("SELECT %s", ("a",)))

    with wire.takes(2):
        assert wire.storage.run_in_transaction(work) == [("a",)]


@pytest.mark.parametrize("wire", ["threads"], indirect=True)
def test_sessions_of_sqlalchemy(wire: Wire) -> None:
    with wire.container.session() as session:
        session.execute(sqlalchemy.text("SELECT 1"))
    with wire.takes(2), wire.container.session() as session:
        session.execute(sqlalchemy.text("INSERT INTO trips VALUES (:id, :name)"), {"id": 1, "name": "a"})
        session.commit()
    assert wire.storage.execute("SELECT * FROM trips") == [(1, "a")]


class TestBeginAlone:
    """Each form: three round trips, or as many more as it has of its own, and the reset of what it may have done."""

    def test_several_statements_in_one_text(self, wire: Wire) -> None:
        with wire.takes(3 + RESET), wire.storage.connection() as connection:
            cursor = connection.execute("INSERT INTO trips VALUES (1, 'a'); SELECT 2")
            assert cursor.nextset()
            assert rows(cursor) == [(2,)]

    def test_a_semicolon_within_a_text(self, wire: Wire) -> None:
        with wire.takes(3 + RESET), wire.storage.connection() as connection:
            assert rows(connection.execute("SELECT 'a;b'")) == [("a;b",)]

    @pytest.mark.parametrize("text", ["", "-- nothing", "/* nothing */", ";"])
    def test_a_text_without_a_statement(self, wire: Wire, text: str) -> None:
        with wire.storage.connection() as connection:
            cursor = connection.execute(text)
            assert cursor.description is None
            assert connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.INTRANS

    def test_copy(self, wire: Wire) -> None:
        if isinstance(wire.storage, Handle):

            async def copied() -> None:
                storage = wire.container.async_storage()
                async with storage as connection, connection.cursor().copy("COPY trips FROM STDIN") as copy:
                    await copy.write_row((1, "a"))

            wire.storage._loop.call(copied)
        else:
            block = wire.storage.connection()
            with wire.takes(4 + RESET), block as connection, connection.cursor().copy("COPY trips FROM STDIN") as copy:
                copy.write_row((1, "a"))
        assert wire.storage.execute("SELECT * FROM trips") == [(1, "a")]

    def test_copy_by_mistake(self, wire: Wire) -> None:
        for text in ("COPY trips TO STDOUT", "/* all */ copy trips to stdout"):
            refused = pytest.raises(psycopg.ProgrammingError, match="use copy")
            with refused, wire.storage.connection() as connection:
                connection.execute(text)
        assert wire.storage.execute("SELECT 1") == [(1,)]

    def test_a_stream_and_a_cursor_of_the_server(self, wire: Wire) -> None:
        if isinstance(wire.storage, Handle):

            async def read() -> list[Any]:
                async with wire.container.async_storage().connection() as connection:
                    streamed = [row async for row in connection.cursor().stream("SELECT generate_series(1, 3)")]
                    async with connection.cursor(name="there") as cursor:
                        await cursor.execute("SELECT generate_series(1, 3)")
                        return streamed + await cursor.fetchall()

            found = wire.storage._loop.call(read)
        else:
            with wire.takes(3 + RESET), wire.storage.connection() as connection:
                found = list(connection.cursor().stream("SELECT generate_series(1, 3)"))
            with wire.storage.connection() as connection, connection.cursor(name="there") as cursor:
                cursor.execute("SELECT generate_series(1, 3)")
                found += cursor.fetchall()
        assert found == [(1,), (2,), (3,)] * 2

    def test_a_pipeline(self, wire: Wire) -> None:
        if isinstance(wire.storage, Handle):

            async def piped() -> Any:
                async with wire.container.async_storage().connection() as connection, connection.pipeline():
                    return await (await connection.execute("SELECT %s", ("a",))).fetchall()

            assert wire.storage._loop.call(piped) == [("a",)]
        else:
            with wire.storage.connection() as connection, connection.pipeline():
                assert rows(connection.execute("SELECT %s", ("a",))) == [("a",)]
        assert wire.storage.execute("SELECT 1") == [(1,)]

    def test_many_at_once(self, wire: Wire) -> None:
        with wire.storage.connection() as connection:
            connection.cursor().executemany("INSERT INTO trips VALUES (%s, 'a')", [(1,), (2,)])
        assert wire.storage.execute("SELECT count(*) FROM trips") == [(2,)]

    def test_another_kind_of_cursor(self, wire: Wire) -> None:
        if isinstance(wire.storage, Handle):

            async def asked() -> Any:
                async with wire.container.async_storage().connection() as connection:
                    return await (await psycopg.AsyncClientCursor(connection).execute("SELECT %s", ("a",))).fetchall()

            with wire.takes(3 + RESET):
                assert wire.storage._loop.call(asked) == [("a",)]
        else:
            with wire.takes(3 + RESET), wire.storage.connection() as connection:
                assert rows(psycopg.ClientCursor(connection).execute("SELECT %s", ("a",))) == [("a",)]


FAILING = {
    "syntax": ("SELEKT 1", None),
    "syntax in the second line": ("SELECT 1\n FROM FROM trips", None),
    "a column": ("SELECT id,\n nothing\nFROM trips", None),
    "a column in line ten": ("\n" * 9 + "SELECT nothing", None),
    "a long line": ("SELECT " + "1 + " * 40 + "nothing + 1" + " + 1" * 40, None),
    "letters of other alphabets": ("SELECT 'äöü€', nothing", None),
    "a table": ("INSERT INTO no_trips VALUES (1)", None),
    "while it runs": ("SELECT 1 / 0", None),
    "within a function": ("DO $$ BEGIN PERFORM nothing FROM trips", None),
    "an open quote": ("SELECT 'a", None),
    "a column, with parameters": ("SELECT id, nothing FROM trips WHERE id = %s", (1,)),
    "syntax, with parameters": ("SELEKT %s", (1,)),
    "while it runs, with parameters": ("SELECT 1 / %s", (0,)),
    "outside a transaction": ("CREATE DATABASE never", None),
}


@pytest.mark.parametrize("failing", FAILING)
@pytest.mark.parametrize("prepare", [None, True], ids=["", "prepared"])
def test_an_error_of_the_first_statement(
    wire: Wire, postgresql_server: Server, failing: str, prepare: bool | None
) -> None:
    """It says what psycopg's says, and the transaction has failed."""
    text, parameters = FAILING[failing]
    dsn = postgresql_server.settings
    with psycopg.connect(
        host=dsn["pg_host"], port=dsn["pg_port"], user=dsn["pg_user"], dbname=dsn["pg_database"],
        password=dsn["pg_password"],
    ) as bare:  # fmt: skip
        with pytest.raises(psycopg.Error) as expected:
            bare.cursor().execute(text, parameters, prepare=prepare)
        bare_status = bare.pgconn.transaction_status
        bare.rollback()

    def swallowed() -> Any:
        with wire.storage.connection() as connection:
            with pytest.raises(psycopg.Error) as caught:
                connection.cursor().execute(text, parameters, prepare=prepare)
            assert connection.pgconn.transaction_status == bare_status
            return caught.value

    with pytest.raises(NotCommitted) as refused:
        swallowed()
    found = refused.value.__cause__
    assert isinstance(found, type(expected.value))
    assert str(found) == str(expected.value)
    for field in psycopg.pq.DiagnosticField:
        name = field.name.lower()
        if name not in ("source_line",):
            assert getattr(found.diag, name, None) == getattr(expected.value.diag, name, None), name
    assert wire.storage.execute("SELECT 1") == [(1,)]


def test_a_block_that_ends_its_transaction_first(wire: Wire) -> None:
    """A statement that is no query, and one that begins what has begun."""
    with wire.storage.connection() as connection:
        for text in ("COMMIT", "BEGIN", "ROLLBACK", "SET LOCAL work_mem = '1MB'", "LISTEN trips"):
            connection.execute(text)
            connection.commit()
    assert wire.storage.execute("SELECT 1") == [(1,)]


class Interrupt(Exception):
    """Raised by a signal handler."""


@pytest.mark.parametrize("wire", ["threads"], indirect=True)
@pytest.mark.parametrize("parameters", [None, (5,)], ids=["without", "with"])
def test_a_first_statement_that_a_signal_interrupts(wire: Wire, parameters: Any) -> None:
    """Its answer is never taken for that of the next one, though the block goes on while the error is at hand."""

    def strike(*_: object) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGALRM, strike)
    try:
        with pytest.raises(StorageError), wire.storage.connection() as connection:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.2)
                connection.execute("SELECT pg_sleep(5)" if parameters is None else "SELECT pg_sleep(%s)", parameters)
            except Interrupt:
                with pytest.raises(psycopg.OperationalError):
                    connection.execute("INSERT INTO trips VALUES (%s, 'a')", (1,))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert wire.storage.execute("SELECT * FROM trips") == []


def test_how_values_are_converted_is_of_a_block(wire: Wire) -> None:
    class Upper(psycopg.adapt.Loader):
        def load(self, data: Any) -> str:
            return bytes(data).decode().upper()

    for register in (
        lambda adapters: adapters.register_loader("text", Upper),
        lambda adapters: adapters.types.add(psycopg.types.TypeInfo("mine", 999999, 0)),
    ):
        with wire.storage.connection() as connection:
            assert rows(connection.execute("SELECT 'a'::text")) == [("a",)]
            adapters = connection.behind.adapters if isinstance(connection, Awaited) else connection.adapters
            register(adapters)
            found = rows(connection.execute("SELECT 'a'::text"))
        with wire.storage.connection() as connection:
            adapters = connection.behind.adapters if isinstance(connection, Awaited) else connection.adapters
            assert adapters.types.get("mine") is None
            assert rows(connection.execute("SELECT 'a'::text")) == [("a",)]
    assert found == [("a",)]


def test_awaited_is_what_it_stands_for(wire: Wire) -> None:
    """The helper must not make round trips of its own."""
    with wire.takes(0), wire.storage.connection() as connection:
        assert isinstance(wire.storage, Handle) is isinstance(connection, Awaited)
