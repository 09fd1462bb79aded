"""The private names of aiomysql that this engine uses. `tests/unit/test_compat.py` fails when aiomysql changes one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiomysql  # type: ignore[import-untyped]

__all__ = ["PRIVATE", "AsyncCursor", "AsyncDriverConnection", "abort", "arrived_packet", "end_wait", "is_at_end"]

if TYPE_CHECKING:

    class AsyncDriverConnection:
        """aiomysql has no types."""

        def __init__(self, **given: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...
        async def _request_authentication(self) -> None: ...
        def close(self) -> None: ...
        async def autocommit(self, value: bool) -> None: ...
        async def query(self, sql: Any, unbuffered: bool = ...) -> int: ...
        async def _execute_command(self, command: int, sql: Any) -> None: ...
        async def _read_query_result(self, unbuffered: bool = ...) -> int: ...
        async def _read_packet(self, packet_type: Any = ...) -> Any: ...

else:
    AsyncDriverConnection = aiomysql.Connection

PRIVATE = (
    *("_charset", "_connect", "_encoding", "_execute_command", "_host", "_loop", "_next_seq_id", "_read_ok_packet"),
    *("_read_packet", "_read_query_result", "_reader", "_request_authentication", "_ssl_context", "_unix_socket"),
    "_writer",
)
"""The names of a connection that are called, replaced or read."""


class AsyncCursor(aiomysql.Cursor):  # type: ignore[misc]
    """As PyMySQL's own, it does not ask for the server's warnings after each statement."""

    async def _show_warnings(self, conn: Any) -> None:
        pass


def arrived_packet(connection: Any, packet_type: Any) -> Any:
    """Return the next packet if all of it has come, without aiomysql's four coroutines; None: read it as always.

    So an error is read, which starts with 255, and what is split, or has another number than is expected.
    """
    reader = connection._reader
    arrived: bytearray = reader._buffer if reader else bytearray()
    if len(arrived) < 5:
        return None
    end = 4 + int.from_bytes(arrived[:3], "little")
    if not 4 < end <= len(arrived) or end >= _SPLIT or arrived[3] != connection._next_seq_id or arrived[4] == _ERROR:
        return None
    data = bytes(arrived[4:end])
    del arrived[:end]
    reader._maybe_resume_transport()
    connection._next_seq_id = (connection._next_seq_id + 1) % 256
    return packet_type(data, connection._encoding)


_SPLIT = 4 + 0xFFFFFF
_ERROR = 0xFF


def is_at_end(connection: Any) -> bool:
    """Return whether the server has closed a connection, as far as the event loop has seen it."""
    return bool(connection._reader.at_eof())


def end_wait(connection: Any) -> None:
    """End what a task waits for. The reader meets the end of the stream; it would not look for an exception again."""
    connection._writer.transport.abort()


def abort(connection: Any) -> None:
    """Close a connection at once, whatever it is doing, and whether its loop runs or not."""
    writer = connection._writer
    if writer and not connection._loop.is_closed():
        writer.transport.abort()
    elif writer and getattr(writer.transport, "_sock", None):  # uvloop has closed its own with the loop
        writer.transport._closing = True
        writer.transport._sock.close()
        writer.transport._sock = None  # its finalizer warns, and the loop that could close it is gone
    connection._writer = connection._reader = None
