"""How records are written: text by a format of `logging`, or one JSON object a line. Both without secrets."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from p8fs_cluster.logging.redaction import Redactor

__all__ = ["JsonFormatter", "TextFormatter"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class TextFormatter(logging.Formatter):
    """A `logging.Formatter` whose output holds no secret.

    >>> record = logging.makeLogRecord({"msg": "to mysql://root:x@db", "levelname": "INFO"})
    >>> TextFormatter("%(levelname)s %(message)s", Redactor(frozenset)).format(record)
    'INFO to mysql://root:***@db'
    """

    def __init__(self, log_format: str, redact: Redactor) -> None:
        super().__init__(log_format)
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        return self._redact(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC, ISO 8601), level, logger, message, service, environment, `extra`, exception.

    >>> record = logging.makeLogRecord({"name": "p8fs_api", "msg": "saved", "levelname": "INFO", "note_id": 7})
    >>> entry = json.loads(JsonFormatter({"service": "notes"}, Redactor(frozenset)).format(record))
    >>> entry["message"], entry["service"], entry["note_id"]
    ('saved', 'notes', 7)
    """

    def __init__(self, static: dict[str, str], redact: Redactor) -> None:
        super().__init__()
        self._static = static
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self._static,
            **{name: value for name, value in vars(record).items() if name not in _STANDARD},
        }
        if record.exc_info and record.exc_info[0]:
            entry["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            entry["stack"] = record.stack_info
        clean = {name: self._redact.value(value) for name, value in entry.items()}
        return json.dumps(clean, ensure_ascii=False)
