"""The private names of the drivers: a test is red when a new version of a driver changes one, so the bound holds."""

from __future__ import annotations

import asyncio
import inspect
import sys
import tomllib
from collections import OrderedDict, deque
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiomysql  # type: ignore[import-untyped]
import psycopg
import psycopg._cursor_base
import psycopg._preparing
import pymysql
import pytest
from packaging.requirements import Requirement

from p8fs_cluster import Container
from p8fs_cluster.providers.storage.postgresql import compat as of_psycopg
from p8fs_cluster.providers.storage.tidb import async_compat as of_aiomysql
from p8fs_cluster.providers.storage.tidb import compat as of_pymysql
from tests.servers import Server

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.mark.parametrize("driver", ["psycopg", "PyMySQL", "aiomysql"])
def test_a_driver_has_an_upper_bound_and_is_within_it(driver: str) -> None:
    [requirement] = [
        requirement
        for requirement in map(Requirement, PROJECT["dependencies"])
        if requirement.name.lower() == driver.lower()
    ]
    assert [bound for bound in requirement.specifier if bound.operator == "<"], "what is private may change"
    assert version(driver) in requirement.specifier


def parameters_of(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


class TestPsycopg:
    """`statement_steps` does what `_execute_gen` does, step by step."""

    BASE = psycopg._cursor_base.BaseCursor

    @pytest.mark.parametrize(
        ("name", "parameters"),
        [
            ("_execute_gen", ["self", "query", "params", "prepare", "binary"]),
            ("_executemany_gen_pipeline", ["self", "query", "params_seq", "returning"]),
            ("_executemany_gen_no_pipeline", ["self", "query", "params_seq", "returning"]),
            ("_maybe_prepare_gen", ["self", "pgq", "prepare", "binary"]),
            ("_convert_query", ["self", "query", "params"]),
            ("_get_prepared", ["self", "pgq", "prepare"]),
            ("_check_results", ["self", "results"]),
            ("_set_results", ["self", "results"]),
            ("_start_query", ["self", "query"]),
            ("_reset", ["self", "reset_query"]),
        ],
    )
    def test_a_cursor_has_these_steps(self, name: str, parameters: list[str]) -> None:
        assert parameters_of(getattr(self.BASE, name)) == parameters

    @pytest.mark.parametrize("connection", [psycopg.Connection, psycopg.AsyncConnection])
    def test_execute_runs_the_steps_that_are_replaced(self, connection: Any) -> None:
        cursor = psycopg.Cursor if connection is psycopg.Connection else psycopg.AsyncCursor
        assert "_execute_gen(" in inspect.getsource(cursor.execute)
        assert "_executemany_gen_pipeline(" in inspect.getsource(cursor.executemany)
        assert "_commit_gen(" in inspect.getsource(connection.commit)

    def test_what_execute_does_is_what_it_did(self) -> None:
        """If this is red, compare `BaseCursor._execute_gen` with `SessionCursor.statement_steps`."""
        calls = ("_start_query(", "_convert_query(", "_maybe_prepare_gen(", "_last_query = ", "maintain_gen(")
        source = inspect.getsource(self.BASE._execute_gen)
        assert [source.find(call) >= 0 for call in calls] == [True] * len(calls)
        assert [source.find(call) for call in calls] == sorted(source.find(call) for call in calls)

    def test_the_names_of_steps_without_state(self) -> None:
        generators = {
            name
            for cls in (
                psycopg.Connection,
                psycopg.AsyncConnection,
                psycopg.Transaction,
                psycopg.AsyncTransaction,
                psycopg.Cursor,
            )
            for name in dir(cls)
        }
        assert generators >= of_psycopg.STATELESS_STEPS

    def test_the_state_of_a_connection(self, postgresql_server: Server) -> None:
        with Container(config=postgresql_server.settings) as container, container.storage() as connection:
            kinds = {
                "_autocommit": bool,
                "_pipeline": type(None),
                "_tpc": type(None),
                "_read_only": type(None),
                "_closed": bool,
                "_num_transactions": int,
                "_notice_handlers": list,
                "_notify_handlers": list,
                "_notifies_backlog": deque,
            }
            assert {name: type(getattr(connection, name)) for name in kinds} == kinds
            statements = connection._prepared
            assert isinstance(statements._counts, OrderedDict)
            assert isinstance(statements._to_flush, deque)
            assert len(of_psycopg.tables(connection)) == 3 + 2 + 2 + 1
            connection.execute("SELECT 1")
            [(text, *_)] = statements._counts
            assert text == b"SELECT 1", "the text is what a long statement is known by"
            assert connection._get_tx_start_command() == b"BEGIN"
            assert connection.adapters is not None
            assert connection._adapters is not None
            connection._adapters = None
            assert connection.adapters is not None

    def test_an_error_that_was_read_can_be_moved(self, postgresql_server: Server) -> None:
        with Container(config=postgresql_server.settings) as container, container.storage() as connection:
            connection.execute("SELECT 1")
            with pytest.raises(psycopg.errors.UndefinedColumn) as caught:
                connection.execute("SELECT\n nothing")
            of_psycopg.moved(caught.value, 2)
            assert caught.value.diag.statement_position == "7"
            assert caught.value.diag.message_primary == 'column "nothing" does not exist'
            assert "LINE 1:  nothing" in str(caught.value)
            connection.rollback()


class TestPyMySQL:
    def test_no_python_code_runs_when_a_result_goes(self, mysql_server: Server) -> None:
        """An exception that a signal handler raises in a finalizer is lost."""
        called: list[str] = []
        with Container(config=mysql_server.settings) as container, container.storage() as connection:
            sys.setprofile(lambda frame, event, _: called.append(frame.f_code.co_name) if event == "call" else None)
            try:
                for _ in range(3):
                    with connection.cursor() as cursor:
                        cursor.execute("SELECT 1")
                    del cursor
            finally:
                sys.setprofile(None)
        assert "_read_query_result" in called
        assert "__del__" not in called

    def test_the_names(self) -> None:
        source = inspect.getsource(pymysql.connections)
        assert [name for name in of_pymysql.PRIVATE if name not in source] == []

    @pytest.mark.parametrize(
        ("name", "parameters"),
        [
            ("_execute_command", ["self", "command", "sql"]),
            ("_read_packet", ["self", "packet_type"]),
            ("_read_query_result", ["self", "unbuffered"]),
            ("_write_bytes", ["self", "data"]),
            ("_create_ssl_ctx", ["self", "sslp"]),
            ("query", ["self", "sql", "unbuffered"]),
        ],
    )
    def test_what_is_replaced(self, name: str, parameters: list[str]) -> None:
        assert parameters_of(getattr(pymysql.connections.Connection, name)) == parameters

    def test_a_timeout_is_asked_for_before_each_wait(self) -> None:
        source = inspect.getsource(pymysql.connections.Connection._read_bytes)
        assert source.index("self._read_timeout") < source.index("self._rfile.read(")


class TestAiomysql:
    def test_the_names(self) -> None:
        source = inspect.getsource(aiomysql.connection)
        assert [name for name in of_aiomysql.PRIVATE if name not in source] == []

    @pytest.mark.parametrize(
        ("name", "parameters"),
        [
            ("_execute_command", ["self", "command", "sql"]),
            ("_read_packet", ["self", "packet_type"]),
            ("_read_query_result", ["self", "unbuffered"]),
            ("_request_authentication", ["self"]),
            ("query", ["self", "sql", "unbuffered"]),
        ],
    )
    def test_what_is_replaced(self, name: str, parameters: list[str]) -> None:
        assert parameters_of(getattr(aiomysql.Connection, name)) == parameters

    @pytest.mark.parametrize(
        ("arrived", "number", "packet"),
        [
            (b"", 0, None),
            (b"\x02\x00\x00\x00a", 0, None),
            (b"\x02\x00\x00\x00ab", 0, b"ab"),
            (b"\x02\x00\x00\x00abrest", 0, b"ab"),
            (b"\x02\x00\x00\x00ab", 1, None),
            (b"\x02\x00\x00\xffab", 255, b"ab"),
            (b"\x02\x00\x00\x00\xffb", 0, None),
            (b"\x00\x00\x00\x00a", 0, None),
        ],
    )
    def test_a_packet_that_has_come(self, arrived: bytes, number: int, packet: bytes | None) -> None:
        class Connection:
            _encoding, _next_seq_id = "utf-8", number

        async def taken() -> tuple[bytes | None, bytes]:
            connection: Any = Connection()
            connection._reader = asyncio.StreamReader()
            connection._reader.feed_data(arrived)
            found = of_aiomysql.arrived_packet(connection, lambda data, encoding: data)
            assert connection._next_seq_id == ((number + 1) % 256 if found else number)
            return found, bytes(connection._reader._buffer)

        assert asyncio.run(taken()) == (packet, arrived[4 + len(packet) :] if packet else arrived)
