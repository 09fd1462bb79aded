"""Keys and values as JSON Lines: one object a line, with base64 where bytes are no text."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any

from p8fs_cluster.exceptions import KVError, StorageError
from p8fs_cluster.kv.changes import require_value
from p8fs_cluster.kv.keys import Space, microseconds, new_version, seconds
from p8fs_cluster.kv.running import Runner
from p8fs_cluster.providers.storage.keys import Span
from p8fs_cluster.providers.storage.kv import Put, Stored, Stretch

__all__ = ["EVERYTHING", "BadLine", "exported", "imported", "line_of", "named", "of_base64", "spelt", "stretches"]

EVERYTHING = Span(b"", b"\xff")
"""All keys that users can have: they begin with a namespace, which is UTF-8 and has no such byte."""
ROWS = 5000
"""Values that are read at once, or fewer where they are large."""
SIZE = 4 << 20
"""Bytes that are read at once, or one value that is larger."""

_KNOWN = {"namespace", "key", "key_base64", "value", "value_base64", "ttl"}


class BadLine(KVError):
    """A line can't be brought in."""


def spelt(name: str, value: bytes) -> dict[str, str]:
    """Return bytes as an entry of JSON, as text if they are UTF-8.

    >>> spelt("key", b"token"), spelt("key", b"\\xff")
    ({'key': 'token'}, {'key_base64': '/w=='})
    """
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def named(physical: bytes) -> dict[str, str]:
    """Return namespace and key of a key as the store has it.

    >>> named(b"auth\\0token")
    {'namespace': 'auth', 'key': 'token'}
    """
    namespace, _, key = physical.partition(b"\0")
    return {"namespace": namespace.decode(errors="backslashreplace"), **spelt("key", key)}


def line_of(record: Stored) -> str:
    """Return a value as a line, with the seconds that it has left, if it expires."""
    key, value, _, left = record
    told = {**named(key), **spelt("value", value)}
    return json.dumps(told if left is None else {**told, "ttl": seconds(left)}, ensure_ascii=False)


def stretches(runner: Runner, span: Span = EVERYTHING, size: int = SIZE) -> Iterator[list[Stored]]:
    """Yield the values of a range in order, as many at once as memory has room for."""
    rest: Span | None = span
    while rest is not None:
        values, last = _stretch(runner, rest, size)
        yield values
        rest = None if last is None else rest.after(last)


def _stretch(runner: Runner, span: Span, size: int) -> Stretch:
    return runner.run(lambda store: store.stretch(span, ROWS, size))


def exported(runner: Runner, span: Span = EVERYTHING) -> Iterator[str]:
    """Yield the lines of all values in a range."""
    for values in stretches(runner, span):
        yield from map(line_of, values)


def imported(runner: Runner, lines: Iterable[bytes]) -> int:
    """Write the values of lines, over those that are there, and return how many there were.

    :raises BadLine: a line can't be used, or its batch was not written; the lines before were, as the message tells.
    """
    batch = _Batch(runner)
    for number, line in enumerate(lines, 1):
        if text := line.strip():
            batch.take(number, text)
    batch.write()
    return batch.count


class _Batch:
    """The lines that were read and not yet written, as a whole."""

    def __init__(self, runner: Runner) -> None:
        self.count = 0
        self._runner = runner
        self._puts: dict[bytes, Put] = {}
        self._size = 0
        self._written = 0
        """The number of the last line that was written."""
        self._last = 0

    def take(self, number: int, line: bytes) -> None:
        """Take one more line in, after what is there was written, if there is no room for it."""
        limits = self._runner.stores.limits()
        try:
            put = _put(line)
            require_value(put.value, limits)
        except KVError as exc:
            self.write()
            raise BadLine(f"line {number}: {exc}; {_told(number - 1)}") from None
        size = len(put.key) + len(put.value)
        if len(self._puts) == ROWS or self._size + size > min(SIZE, limits.call_bytes):
            self.write()
        self._puts[put.key] = put
        self._size += size
        self._last = number
        self.count += 1

    def write(self) -> None:
        """Write what is there."""
        if self._puts:
            puts = tuple(self._puts.values())
            try:
                self._runner.run(lambda store: store.put(puts))
            except StorageError as exc:
                told = f"lines {self._written + 1} to {self._last}: {exc}; {_told(self._written)}"
                raise BadLine(told) from exc
        self._puts, self._size, self._written = {}, 0, self._last


def _told(lines: int) -> str:
    return f"the {lines:,} lines before it were brought in" if lines else "nothing was brought in"


def _put(line: bytes) -> Put:
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        raise KVError('it is no JSON: write {"namespace": …, "key": …, "value": …}') from None
    if not isinstance(told, dict):
        raise KVError('it is no object: write {"namespace": …, "key": …, "value": …}')
    if unknown := sorted(told.keys() - _KNOWN):
        raise KVError(f"{unknown[0]!r} is none of {', '.join(sorted(_KNOWN))}")
    key = Space(told.get("namespace", "")).physical(_bytes(told, "key"))
    return Put(key, _bytes(told, "value"), new_version(), microseconds(told.get("ttl")))


def _bytes(told: dict[str, Any], name: str) -> bytes:
    given = [each for each in (name, f"{name}_base64") if each in told]
    if len(given) != 1:
        raise KVError(f"it needs either {name!r}, or '{name}_base64'")
    text = told[given[0]]
    if not isinstance(text, str):
        raise KVError(f"{given[0]!r} is text, not {type(text).__name__}")
    if given[0] != name:
        return of_base64(text, given[0])
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise KVError(f"{name!r} holds half of a surrogate pair: write '{name}_base64'") from None


def of_base64(text: str, what: str) -> bytes:
    """Return the bytes that base64 stands for.

    :raises KVError: it is none.
    """
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise KVError(f"{what!r} is no base64") from None
