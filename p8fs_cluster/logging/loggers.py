"""Loggers that take keyword fields: `log.info("saved", note_id=7)`."""

from __future__ import annotations

import functools
import logging
import sys
import threading
from collections.abc import Mapping
from logging import CRITICAL, DEBUG, ERROR, INFO, WARNING
from typing import Any

from p8fs_cluster.logging.fields import apart

__all__ = ["TRACE", "FieldLogger", "get_logger", "made", "taking_fields"]

TRACE = 5
"""The level below DEBUG, for what is only of use while a fault is looked for."""

logging.addLevelName(TRACE, "TRACE")


_making = threading.RLock()


class FieldLogger(logging.Logger):
    """A `logging.Logger` whose keyword arguments go into the record; `logging`'s own keep their meaning.

    >>> log = taking_fields(logging.getLogger("doctest"))
    >>> log.debug("not heard", note_id=7)
    """

    def trace(self, msg: object, /, *args: object, **fields: Any) -> None:
        """Log at TRACE."""
        if self.isEnabledFor(TRACE):
            self._log(TRACE, msg, args, **fields)

    def debug(self, msg: object, /, *args: object, **fields: Any) -> None:  # type: ignore[override]
        """Log at DEBUG."""
        if self.isEnabledFor(DEBUG):
            self._log(DEBUG, msg, args, **fields)

    def info(self, msg: object, /, *args: object, **fields: Any) -> None:  # type: ignore[override]
        """Log at INFO."""
        if self.isEnabledFor(INFO):
            self._log(INFO, msg, args, **fields)

    def warning(self, msg: object, /, *args: object, **fields: Any) -> None:  # type: ignore[override]
        """Log at WARNING."""
        if self.isEnabledFor(WARNING):
            self._log(WARNING, msg, args, **fields)

    def error(self, msg: object, /, *args: object, **fields: Any) -> None:  # type: ignore[override]
        """Log at ERROR."""
        if self.isEnabledFor(ERROR):
            self._log(ERROR, msg, args, **fields)

    def exception(self, msg: object, /, *args: object, exc_info: Any = True, **fields: Any) -> None:  # type: ignore[override]
        """Log at ERROR, with the exception that is being handled."""
        if self.isEnabledFor(ERROR):
            self._log(ERROR, msg, args, exc_info=exc_info, **fields)

    def critical(self, msg: object, /, *args: object, **fields: Any) -> None:  # type: ignore[override]
        """Log at CRITICAL."""
        if self.isEnabledFor(CRITICAL):
            self._log(CRITICAL, msg, args, **fields)

    def log(self, level: int, msg: object, /, *args: object, **fields: Any) -> None:  # type: ignore[override]
        """Log at a level given by number.

        :raises TypeError: the level is no number.
        """
        if not isinstance(level, int):
            raise TypeError("level must be an integer")
        if self.isEnabledFor(level):
            self._log(level, msg, args, **fields)

    def _log(  # type: ignore[override]  # noqa: PLR0917
        self,
        level: int,
        msg: object,
        args: Any,
        /,
        exc_info: Any = None,
        extra: Mapping[str, object] | None = None,
        stack_info: bool = False,
        stacklevel: int = 1,
        **fields: Any,
    ) -> None:
        if fields or extra:
            extra = apart(extra or {}, fields)
        own = 2 if sys._getframe(1).f_globals is globals() else 1  # frames of this module between us and the caller
        super()._log(level, msg, args, exc_info, extra, stack_info, stacklevel + own)


def get_logger(name: str = "p8fs") -> FieldLogger:
    """Return the logger of a name, which takes keyword fields. It reads no setting, so modules may call it at import.

    Logging itself is set up when the application starts: by a framework, `container.logger()` or
    `LoggingSetup.configure_logging()`.

    >>> log = get_logger("notes.store")
    >>> log.info("saved", note_id=7)
    """
    return taking_fields(made(name))


def taking_fields(logger: logging.Logger) -> FieldLogger:
    """Return the very same logger, which takes keyword fields from now on, for everybody who has it.

    >>> taking_fields(logging.getLogger("notes")) is logging.getLogger("notes")
    True
    """
    if not isinstance(logger, FieldLogger):
        kind = type(logger)
        logger.__class__ = FieldLogger if kind is logging.Logger else _combined(kind)  # type: ignore[arg-type]
    return logger  # type: ignore[return-value]


def made(name: str) -> logging.Logger:
    """Return `logging.getLogger(name)`; a new one is a `FieldLogger` from birth, which is as fast as a plain one.

    One that changes its class later costs more at each disabled call: Python no longer knows its attributes' places.

    >>> isinstance(made("notes.new"), FieldLogger)
    True
    """
    manager = logging.root.manager
    if isinstance(manager.loggerDict.get(name), logging.Logger) or logging.getLoggerClass() is not logging.Logger:
        return logging.getLogger(name)
    with _making:
        before, manager.loggerClass = manager.loggerClass, manager.loggerClass or FieldLogger
        try:
            return logging.getLogger(name)
        finally:
            manager.loggerClass = before


@functools.cache
def _combined(kind: Any) -> Any:
    return type(f"Field{kind.__name__}", (FieldLogger, kind), {})
