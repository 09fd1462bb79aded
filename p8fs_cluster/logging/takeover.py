"""Take back what others have set up: console handlers, and loggers that they switched off."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from types import TracebackType

from p8fs_cluster.logging.handlers import ConsoleHandler, prints
from p8fs_cluster.logging.loggers import FieldLogger

__all__ = ["Consoles", "Uncaught", "hear_again"]

_SERVERS = ("uvicorn", "gunicorn", "hypercorn", "celery", "sqlalchemy", "psycopg")
"""Their loggers print to the console by handlers of their own, if they are let, and don't propagate."""
_OURS = "p8fs_cluster"


class Consoles:
    """Console handlers of others, taken off so that each record comes once, and as all others."""

    def __init__(self) -> None:
        self._taken: dict[str, tuple[list[logging.Handler], bool]] = {}

    def take(self) -> None:
        """Take them off the root logger, off loggers that propagate to it, and off those of servers, which then do.

        Handlers that don't print (a file's, a tracer's, pytest's) stay. A logger that was silenced, without a handler
        and without propagation, stays silent.
        """
        for logger in _loggers():
            printing = [each for each in logger.handlers if prints(each) and not isinstance(each, ConsoleHandler)]
            if printing and (logger.propagate or logger.name.partition(".")[0] in _SERVERS):
                before, propagated = self._taken.get(logger.name, ([], logger.propagate))
                self._taken[logger.name] = [*before, *printing], propagated
                logger.handlers = [handler for handler in logger.handlers if handler not in printing]
                logger.propagate = True

    def give_back(self) -> None:
        """Put the handlers back."""
        for name, (handlers, propagate) in self._taken.items():
            logger = logging.getLogger(name)
            logger.handlers = [*logger.handlers, *handlers]
            logger.propagate = propagate
        self._taken.clear()


class Uncaught:
    """Logs an exception that ends the process, where a traceback on stderr would be no JSON."""

    def take(self, *, logs_json: bool) -> None:
        """Take the place of Python's own hook, or give it back. Somebody else's stays."""
        if logs_json and sys.excepthook is sys.__excepthook__:
            sys.excepthook = _log_uncaught
        elif not logs_json:
            self.give_back()

    def give_back(self) -> None:
        """Put Python's own hook back."""
        if sys.excepthook is _log_uncaught:
            sys.excepthook = sys.__excepthook__


def hear_again() -> None:
    """Switch loggers on that `fileConfig` or `dictConfig` has switched off, as both do if they are not told not to."""
    for logger in _loggers():
        if isinstance(logger, FieldLogger) or logger.name.partition(".")[0] == _OURS:
            logger.disabled = False


def _loggers() -> Iterator[logging.Logger]:
    yield logging.root
    for logger in tuple(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            yield logger


def _log_uncaught(kind: type[BaseException], exc: BaseException, traceback: TracebackType | None) -> None:
    log = logging.getLogger(_OURS)
    if issubclass(kind, KeyboardInterrupt) or not (log.isEnabledFor(logging.CRITICAL) and log.hasHandlers()):
        sys.__excepthook__(kind, exc, traceback)
        return
    log.critical("the process ends: %s", kind.__name__, exc_info=(kind, exc, traceback))
