"""Attaches the shared logging to the root logger: the console always, a file when the settings name one."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

from p8fs_cluster.config import secrets
from p8fs_cluster.config.problems import variable_of
from p8fs_cluster.config.reading import Reading, read
from p8fs_cluster.config.section import NAMES
from p8fs_cluster.config.settings import P8FSConfig, config
from p8fs_cluster.config.sources.source import Source
from p8fs_cluster.exceptions import ConfigurationError
from p8fs_cluster.forking import Stage, after_fork, around_fork
from p8fs_cluster.logging.background import Background, writing
from p8fs_cluster.logging.files import LogFile
from p8fs_cluster.logging.formats import JsonFormatter, TextFormatter
from p8fs_cluster.logging.handlers import ConsoleHandler, FileHandler, Stream
from p8fs_cluster.logging.levels import Levels
from p8fs_cluster.logging.redaction import Redactor
from p8fs_cluster.logging.takeover import Consoles, Uncaught, hear_again

__all__ = ["LoggingSetup", "check_log_file", "usable"]

_LOGGING = ("service_name", "service_version", "node_name", "pod_name", "environment")


class LoggingSetup:
    """The one set-up of `logging` in a process; it may be called again, with the same settings or with others.

    >>> LoggingSetup.configure_logging(P8FSConfig(log_level="DEBUG"))
    >>> logging.getLogger("p8fs_api").level == logging.DEBUG
    True
    >>> LoggingSetup.reset()
    """

    redact = Redactor(secrets.known)
    _background = Background()
    _handlers: tuple[logging.Handler, ...] = ()
    _applied: object = None
    _levels = Levels()
    _consoles = Consoles()
    _uncaught = Uncaught()
    _stream: Stream = "stdout"
    _lock = threading.RLock()

    @classmethod
    def configure_logging(cls, settings: P8FSConfig | None = None) -> None:
        """Log as `settings` say, by default those in force, whatever others have set up since the last call.

        Console handlers of others are taken off, so that each record comes once; other handlers are left alone. Call it
        again when somebody has set up logging of their own (`basicConfig`, `dictConfig`, alembic, a server): what they
        have replaced is put back, and loggers of ours that they have switched off are heard again.

        :raises ConfigurationError: `log_file` can't be written or rotated; what was set up before stays.
        """
        snapshot = config.current if settings is None else settings
        with cls._lock:
            wanted = {**_relevant(snapshot), "stream": snapshot.log_stream or cls._stream}
            if cls._applied != wanted:
                handlers = _handlers(snapshot, wanted["stream"], cls.redact, cls._background)
                before = cls._handlers
                cls._attach(handlers)
                cls._detach(before)
                cls._applied = wanted
            elif not cls.in_place():
                cls._attach(cls._handlers)
            cls._levels.apply(snapshot)
            hear_again()
            cls._consoles.take()
            cls._uncaught.take(logs_json=snapshot.log_format == "json")

    @classmethod
    def in_place(cls) -> bool:
        """Return whether what was set up is still there."""
        return bool(cls._handlers) and all(handler in logging.root.handlers for handler in cls._handlers)

    @classmethod
    def default_stream(cls, stream: Stream) -> Stream:
        """Write to this stream where `log_stream` does not say which, and return which one it was before.

        A command's output is its stdout, so its records go to stderr.
        """
        before, cls._stream = cls._stream, stream
        return before

    @classmethod
    def reset(cls) -> None:
        """Take away what was set up, close the file, and give loggers their former levels and handlers."""
        with cls._lock:
            cls._detach(cls._handlers)
            cls._handlers, cls._applied, cls._stream = (), None, "stdout"
            cls._levels.give_back()
            cls._consoles.give_back()
            cls._uncaught.give_back()

    @classmethod
    def _attach(cls, handlers: tuple[logging.Handler, ...]) -> None:
        """The list of handlers is swapped as a whole: a record meanwhile is neither lost nor written twice."""
        root = logging.getLogger()
        root.handlers = [*(handler for handler in root.handlers if handler not in cls._handlers), *handlers]
        cls._handlers = handlers

    @classmethod
    def _detach(cls, handlers: tuple[logging.Handler, ...]) -> None:
        for handler in handlers:
            logging.getLogger().removeHandler(handler)
        if handlers:
            cls._background.flush()
        for handler in handlers:
            handler.close()


def _relevant(settings: P8FSConfig) -> dict[str, Any]:
    names = (name for name in P8FSConfig.model_fields if name.startswith("log_"))
    return {**{name: getattr(settings, name) for name in names}, "static": _static(settings)}


def _static(settings: P8FSConfig) -> dict[str, str]:
    told = {
        "service": settings.service_name,
        "version": settings.service_version,
        "node": settings.node_name,
        "pod": settings.pod,
        "environment": settings.environment,
    }
    return {name: value for name, value in told.items() if value}


def _handlers(
    settings: P8FSConfig, stream: Stream, redact: Redactor, background: Background
) -> tuple[logging.Handler, ...]:
    used = background if settings.log_queue else None
    console = ConsoleHandler(stream, redact, used)
    console.setFormatter(_formatter(settings, redact, console))
    if settings.log_file is None:
        return (console,)
    file = FileHandler(_log_file(settings, settings.log_file), redact, used)
    file.setFormatter(_formatter(settings, redact))
    return console, file


def _formatter(settings: P8FSConfig, redact: Redactor, console: ConsoleHandler | None = None) -> logging.Formatter:
    if settings.log_format == "json":
        return JsonFormatter(_static(settings), redact)
    return TextFormatter(settings.log_format, redact, console.coloured if console else bool)


def usable() -> P8FSConfig:
    """Return the settings of logging, as far as they can be used, where the settings as a whole can't.

    >>> usable().log_level
    'INFO'
    """
    reading, names = (
        read(NAMES),
        {*_LOGGING, *(name for name in P8FSConfig.model_fields if name.startswith("log_"))},
    )
    while True:
        found = {name: entry for name, entry in reading.winning.items() if name in names}
        try:
            return P8FSConfig.of(Reading((Source(found),)))
        except ConfigurationError as exc:
            names -= {name for name in found if variable_of(name) in {problem.variable for problem in exc.problems}}


def check_log_file(settings: P8FSConfig) -> str:
    """Return which file records are appended to, made if it is missing; an empty text when there is none.

    :raises ConfigurationError: it can't be written.
    """
    if settings.log_file is None:
        return ""
    _log_file(settings, settings.log_file).close()
    return str(settings.log_file)


def _log_file(settings: P8FSConfig, path: Path) -> LogFile:
    try:
        return LogFile(path, settings.log_file_max_bytes, settings.log_file_backups)
    except ConfigurationError as exc:
        raise ConfigurationError(f"{exc}: {settings.describe('log_file', 'log_file_max_bytes')}") from exc
    except OSError as exc:
        where = settings.describe("log_file")
        raise ConfigurationError(f"the log file {path} can't be written: {exc.strerror}: {where}") from exc


def _before_fork() -> None:
    LoggingSetup._lock.acquire()
    writing.acquire()


def _after_fork_in_parent() -> None:
    writing.release()
    LoggingSetup._lock.release()


def _after_fork_in_child() -> None:
    LoggingSetup._background.forget()
    _after_fork_in_parent()


around_fork(_before_fork, _after_fork_in_parent)
after_fork(Stage.LOGGING, _after_fork_in_child)
