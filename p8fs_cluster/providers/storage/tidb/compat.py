"""The private names of PyMySQL that this engine uses. `tests/unit/test_compat.py` fails when PyMySQL changes one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pymysql.connections
import pymysql.cursors

__all__ = ["PRIVATE", "Cursor", "DriverConnection", "ReadResult"]

Cursor = pymysql.cursors.Cursor

PRIVATE = (
    *("_closed", "_create_ssl_ctx", "_execute_command", "_force_close", "_read_ok_packet", "_read_packet"),
    *("_read_query_result", "_read_timeout", "_result", "_rfile", "_sock", "_write_bytes", "_write_timeout"),
)
"""The names of a connection that are called, replaced or read. `_rfile` is where it reads from; `_read_timeout` is
asked for before each wait."""

if TYPE_CHECKING:

    class DriverConnection(pymysql.connections.Connection):
        """The names that its stubs leave out."""

        connect_timeout: float
        unix_socket: str | None
        host: str
        port: int
        _sock: Any
        _result: Any
        _rfile: Any
        _closed: bool
        _read_timeout: float | None
        _write_timeout: float | None

        def _force_close(self) -> None: ...
        def _read_ok_packet(self) -> None: ...
        def _read_packet(self, packet_type: Any = ...) -> Any: ...
        def _read_query_result(self, unbuffered: bool = ...) -> int: ...
        def _write_bytes(self, data: Any) -> None: ...
        def _execute_command(self, command: int, sql: Any) -> None: ...

else:
    DriverConnection = pymysql.connections.Connection


class ReadResult(pymysql.connections.MySQLResult):
    """A result that was read to its end. Nothing is left to do when it goes, and no Python code runs then, in which an
    exception of a signal handler would be lost."""

    __del__ = object  # type: ignore[assignment]
