"""Attaches the shared logging to the root logger: stdout always, a file when the settings name one."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar, TextIO

from p8fs_cluster.config import secrets
from p8fs_cluster.config.settings import P8FSConfig, config
from p8fs_cluster.exceptions import ConfigurationError
from p8fs_cluster.logging.formats import JsonFormatter, TextFormatter
from p8fs_cluster.logging.redaction import Redactor

__all__ = ["LoggingSetup", "check_log_file"]

MODULES = ("p8fs_api", "p8fs", "p8fs_node", "p8fs_auth")
"""The service modules, whose loggers have the level of the settings."""

_CHATTY = ("psycopg.pool",)
"""Libraries that log each borrowed connection at INFO: heard at INFO only when the level is DEBUG."""


class LoggingSetup:
    """The one set-up of `logging` in a process; it may be called again, with the same settings or with others.

    >>> LoggingSetup.configure_logging(P8FSConfig(log_level="DEBUG"))
    >>> logging.getLogger("p8fs_api").level == logging.DEBUG
    True
    >>> LoggingSetup.reset()
    """

    redact = Redactor(secrets.known)
    _handlers: tuple[logging.Handler, ...] = ()
    _applied: object = None
    _levels_before: ClassVar[dict[str, int]] = {}
    _lock = threading.Lock()

    @classmethod
    def configure_logging(cls, settings: P8FSConfig | None = None) -> None:
        """Log as `settings` say, or those in force when none are given. Handlers of others are left alone.

        :raises ConfigurationError: `log_file` can't be written; what was set up before stays.
        """
        snapshot = config.current if settings is None else settings
        with cls._lock:
            if cls._applied != _relevant(snapshot):
                handlers = _handlers(snapshot, cls.redact)
                cls._detach()
                cls._attach(handlers, snapshot.log_level)
                cls._applied = _relevant(snapshot)

    @classmethod
    def reset(cls) -> None:
        """Take away what was set up, close the file, and give the loggers their former levels."""
        with cls._lock:
            cls._detach()
            for name, level in cls._levels_before.items():
                logging.getLogger(name).setLevel(level)
            cls._levels_before.clear()

    @classmethod
    def _attach(cls, handlers: tuple[logging.Handler, ...], level: str) -> None:
        for name in ("", *MODULES, *_CHATTY):
            cls._levels_before.setdefault(name, logging.getLogger(name).level)
        for handler in handlers:
            logging.getLogger().addHandler(handler)
        for name in ("", *MODULES):
            logging.getLogger(name).setLevel(level)
        for name in _CHATTY:
            logging.getLogger(name).setLevel("INFO" if level == "DEBUG" else max("WARNING", level, key=_number))
        cls._handlers = handlers

    @classmethod
    def _detach(cls) -> None:
        for handler in cls._handlers:
            logging.getLogger().removeHandler(handler)
            handler.close()
        cls._handlers, cls._applied = (), None


class _StdoutHandler(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stdout` is when a record comes, not to what it was at set-up."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stdout


def _relevant(settings: P8FSConfig) -> tuple[Any, ...]:
    return settings.log_level, settings.log_format, settings.log_file, settings.service_name, settings.environment


def _handlers(settings: P8FSConfig, redact: Redactor) -> tuple[logging.Handler, ...]:
    handlers: list[logging.Handler] = [_StdoutHandler()]
    if settings.log_file is not None:
        handlers.append(_file_handler(settings, settings.log_file))
    formatter = _formatter(settings, redact)
    for handler in handlers:
        handler.setFormatter(formatter)
    return tuple(handlers)


def _formatter(settings: P8FSConfig, redact: Redactor) -> logging.Formatter:
    if settings.log_format == "json":
        return JsonFormatter({"service": settings.service_name, "environment": settings.environment}, redact)
    return TextFormatter(settings.log_format, redact)


def check_log_file(settings: P8FSConfig) -> str:
    """Return which file records are appended to, made if it is missing; an empty text when there is none.

    :raises ConfigurationError: it can't be written.
    """
    if settings.log_file is None:
        return ""
    _file_handler(settings, settings.log_file).close()
    return str(settings.log_file)


def _file_handler(settings: P8FSConfig, path: Path) -> logging.FileHandler:
    try:
        return logging.FileHandler(path, encoding="utf-8")
    except OSError as exc:
        where = settings.describe("log_file")
        raise ConfigurationError(f"the log file {path} can't be written: {exc.strerror}: {where}") from exc


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level]
