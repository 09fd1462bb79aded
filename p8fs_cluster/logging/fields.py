"""The fields of a record beside its message: what is bound, what a call gave, and what keeps their names apart."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["apart", "as_text", "message_of", "of_record", "plain"]

_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({})))
_STANDARD = _ATTRIBUTES | {"message", "asctime", "taskName", "color_message"}  # the last: uvicorn's, for terminals
_KEYS = {"time", "level", "logger", "service", "version", "node", "pod", "environment", "exception", "stack"}
_RESERVED = _STANDARD | _KEYS | {"format_error"}


def apart(*groups: Mapping[str, Any]) -> dict[str, Any]:
    """Return all fields of all groups; a name that a record, or a field before, has already gets an underscore.

    >>> apart({"name": "Ann", "note": 7}, {"note": 8})
    {'name_': 'Ann', 'note': 7, 'note_': 8}
    """
    kept: dict[str, Any] = {}
    for name, value in (item for fields in groups for item in fields.items()):
        while name in _RESERVED or name in kept:
            name += "_"  # noqa: PLW2901
        kept[name] = value
    return kept


def of_record(record: logging.LogRecord) -> dict[str, Any]:
    """Return what was given to a record as `extra`, or as keyword fields.

    >>> of_record(logging.makeLogRecord({"msg": "saved", "note_id": 7}))
    {'note_id': 7}
    """
    values = vars(record)
    if len(values) == len(_ATTRIBUTES):
        return {}
    return apart({str(name): value for name, value in values.items() if name not in _STANDARD})


def message_of(record: logging.LogRecord) -> tuple[str, dict[str, str]]:
    """Return the message; when its arguments don't fit, the raw one and a field that says what is wrong.

    >>> message_of(logging.makeLogRecord({"msg": "%d notes", "args": ("x",)}))
    ('%d notes', {'format_error': "TypeError: %d format: a real number is required, not str: ('x')"})
    """
    try:
        return record.getMessage(), {}
    except Exception as exc:
        args = record.args if isinstance(record.args, tuple) else (record.args,)
        told = ", ".join(map(_told, args))
        return as_text(record.msg), {"format_error": f"{type(exc).__name__}: {as_text(exc)}: ({told})"}


def plain(value: Any, depth: int = 8) -> Any:
    """Return `value` made of what JSON knows; what is nested deeper than `depth`, and all else, becomes text.

    >>> plain({(1, 2): float("nan"), "when": b"now"})
    {'(1, 2)': 'nan', 'when': "b'now'"}
    """
    if isinstance(value, dict) and depth:
        return {as_text(key): plain(item, depth - 1) for key, item in tuple(value.items())}
    if isinstance(value, (list, tuple)) and depth:
        return [plain(item, depth - 1) for item in tuple(value)]
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int) and abs(value) < 1 << 64:
        return value
    return value if isinstance(value, float) and math.isfinite(value) else as_text(value)


def as_text(value: object) -> str:
    """Return `str(value)`, or what it is when it has none.

    >>> class Broken:
    ...     def __str__(self) -> str:
    ...         raise ValueError
    >>> as_text(Broken())
    '<Broken whose text raises ValueError>'
    """
    try:
        return repr(value) if isinstance(value, (bytes, bytearray)) else str(value)
    except Exception as exc:
        return f"<{type(value).__name__} whose text raises {type(exc).__name__}>"


def _told(argument: object) -> str:
    """Others are named only: asking for their text is what may have failed, or may log in its turn."""
    if type(argument) in (str, int, float, bool, type(None)):
        return repr(argument)
    return f"a {type(argument).__name__}"
