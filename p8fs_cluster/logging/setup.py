"""Attaches the shared logging to the root logger: stdout always, a file when the settings name one."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Any

from p8fs_cluster.config import secrets
from p8fs_cluster.config.settings import P8FSConfig, config
from p8fs_cluster.exceptions import ConfigurationError
from p8fs_cluster.forking import Stage, after_fork, around_fork
from p8fs_cluster.logging.background import Background, writing
from p8fs_cluster.logging.files import LogFile
from p8fs_cluster.logging.formats import JsonFormatter, TextFormatter
from p8fs_cluster.logging.handlers import FileHandler, StdoutHandler
from p8fs_cluster.logging.levels import Levels, Servers
from p8fs_cluster.logging.redaction import Redactor

__all__ = ["LoggingSetup", "check_log_file"]


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
    _servers = Servers()
    _lock = threading.RLock()

    @classmethod
    def configure_logging(cls, settings: P8FSConfig | None = None) -> None:
        """Log as `settings` say, or those in force when none are given. Handlers of others are left alone.

        Except for those that servers (uvicorn, gunicorn, …) print with: call it again when one has set up its own.

        :raises ConfigurationError: `log_file` can't be written or rotated; what was set up before stays.
        """
        snapshot = config.current if settings is None else settings
        with cls._lock:
            if cls._applied != _relevant(snapshot):
                handlers = _handlers(snapshot, cls.redact, cls._background if snapshot.log_queue else None)
                before = cls._handlers
                cls._attach(handlers)
                cls._detach(before)
                cls._levels.apply(snapshot)
                cls._applied = _relevant(snapshot)
            cls._servers.take()

    @classmethod
    def reset(cls) -> None:
        """Take away what was set up, close the file, and give loggers their former levels and handlers."""
        with cls._lock:
            cls._detach(cls._handlers)
            cls._handlers, cls._applied = (), None
            cls._levels.give_back()
            cls._servers.give_back()

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
    """In Kubernetes, a pod's name is its host's."""
    pod = settings.pod_name or (os.environ.get("HOSTNAME", "") if "KUBERNETES_SERVICE_HOST" in os.environ else "")
    told = {
        "service": settings.service_name,
        "version": settings.service_version,
        "node": settings.node_name,
        "pod": pod,
        "environment": settings.environment,
    }
    return {name: value for name, value in told.items() if value}


def _handlers(settings: P8FSConfig, redact: Redactor, background: Background | None) -> tuple[logging.Handler, ...]:
    stdout = StdoutHandler(redact, background)
    stdout.setFormatter(_formatter(settings, redact, stdout))
    if settings.log_file is None:
        return (stdout,)
    file = FileHandler(_log_file(settings, settings.log_file), redact, background)
    file.setFormatter(_formatter(settings, redact))
    return stdout, file


def _formatter(settings: P8FSConfig, redact: Redactor, stdout: StdoutHandler | None = None) -> logging.Formatter:
    if settings.log_format == "json":
        return JsonFormatter(_static(settings), redact)
    return TextFormatter(settings.log_format, redact, stdout.coloured if stdout else bool)


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
