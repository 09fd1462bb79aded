"""The formats of records: text by a format of `logging`, or one JSON object a line. Both without secrets."""

from __future__ import annotations

import functools
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from p8fs_cluster.logging.context import bound, marked
from p8fs_cluster.logging.fields import as_text, message_of, of_record, plain
from p8fs_cluster.logging.redaction import Redactor

__all__ = ["JsonFormatter", "TextFormatter"]

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=as_text, separators=(",", ":")).encode
_BREAKS = re.compile("[\x85\u2028\u2029\ud800-\udfff]")  # JSON may hold them; readers split lines there, or fail
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_BARE = re.compile(r"[^\s\"'=]+")
_COLOURS = {"TRACE": "2", "DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}


class TextFormatter(logging.Formatter):
    """A `logging.Formatter` for people: fields follow the message, levels have colours if `coloured()`, no secrets.

    What a message brings can't pass for another record: its further lines are indented, control characters escaped.

    >>> record = logging.makeLogRecord({"msg": "to mysql://root:x@db", "levelname": "INFO", "note_id": 7})
    >>> TextFormatter("%(levelname)s %(message)s", Redactor(frozenset)).format(record)
    'INFO to mysql://root:***@db note_id=7'
    """

    def __init__(self, log_format: str, redact: Redactor, coloured: Callable[[], bool] = bool) -> None:
        super().__init__(log_format)
        self._format = log_format
        self._redact = redact
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        message, fault = message_of(record)
        fields = {**_bound(record), **of_record(record), **fault}
        message = self._safe(message + "".join(f" {name}={_shown(value)}" for name, value in fields.items()))
        values = {**vars(record), "message": message}
        if self.usesTime():
            values["asctime"] = self.formatTime(record, self.datefmt)
        if self._coloured() and record.levelname in _COLOURS:
            values["levelname"] = f"\x1b[{_COLOURS[record.levelname]}m{record.levelname}\x1b[0m"
        text = self._format % values
        for more in _traces(self, record).values():
            text += "\n" + self._safe(more)
        return self._redact(text)

    def _safe(self, text: str) -> str:
        """Secrets first: they may hold what is escaped."""
        if text.isprintable():
            return text
        return _CONTROLS.sub(_escaped, self._redact(text)).replace("\n", "\n    ")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC, ISO 8601), level, logger, message, `static`, context, fields, exception.

    >>> record = logging.makeLogRecord({"name": "p8fs_api", "msg": "saved", "levelname": "INFO", "note_id": 7})
    >>> entry = json.loads(JsonFormatter({"service": "notes"}, Redactor(frozenset)).format(record))
    >>> entry["message"], entry["service"], entry["note_id"]
    ('saved', 'notes', 7)
    """

    def __init__(self, static: Mapping[str, str], redact: Redactor) -> None:
        super().__init__()
        self._static = dict(static)
        self._tail = "," + _encode(self._static)[1:-1] if static else ""
        self._redact = redact
        self._second = (0, "")

    def format(self, record: logging.LogRecord) -> str:
        message, fault = message_of(record)
        fields = {**_bound(record), **of_record(record), **_traces(self, record), **fault}
        head = f'{{"time":"{self._time(record.created)}",{_level_and_logger(record.levelname, record.name)}'
        line = f"{head}{_encode(message)}{self._tail}{_rest(fields)}}}"
        if self._redact.concerns(line):
            line = self._clean(record, message, fields)
        return line if line.isascii() else _BREAKS.sub(_code, line)

    def _clean(self, record: logging.LogRecord, message: str, fields: dict[str, Any]) -> str:
        """The names of our own keys are never masked; what stands in them is, but for time and level."""
        told = {"logger": as_text(record.name), "message": message, **self._static}
        clean = {name: self._redact(text) for name, text in told.items()}
        when = {"time": self._time(record.created), "level": record.levelname}
        return _encode({**when, **clean, **self._redact.value(plain(fields))})

    def _time(self, created: float) -> str:
        second, text = self._second
        if second != (now := int(created)):
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
            self._second = now, text
        return f"{text}.{int((created - now) * 1000):03d}+00:00"


@functools.lru_cache(1024)
def _level_and_logger(level: str, logger: str) -> str:
    return f'"level":{_encode(level)},"logger":{_encode(logger)},"message":'


def _rest(fields: dict[str, Any]) -> str:
    if not fields:
        return ""
    try:
        return "," + _encode(fields)[1:-1]
    except Exception:  # NaN, keys that are no text, a circle, an int of 5,000 digits
        return "," + _encode(plain(fields))[1:-1]


def _bound(record: logging.LogRecord) -> Mapping[str, Any]:
    """Return what is bound here, and beneath it what the record's exception was marked with."""
    return {**marked(record.exc_info[1]), **bound()} if record.exc_info else bound()


def _traces(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, str]:
    """Return the exception and the stack of a record, if it has them."""
    traces: dict[str, str] = {}
    if record.exc_info and record.exc_info[0]:
        try:
            traces["exception"] = formatter.formatException(record.exc_info)
        except Exception as exc:
            traces["exception"] = f"{record.exc_info[0].__name__} whose traceback raises {type(exc).__name__}"
    elif record.exc_text:
        traces["exception"] = record.exc_text
    if record.stack_info:
        traces["stack"] = record.stack_info
    return traces


def _shown(value: Any) -> str:
    text = as_text(value)
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _escaped(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def _code(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
