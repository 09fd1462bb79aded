"""The levels of loggers, as the settings say; what was there before is given back."""

from __future__ import annotations

import logging

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.logging.loggers import made

__all__ = ["MODULES", "Levels"]

MODULES = ("p8fs_api", "p8fs", "p8fs_node", "p8fs_auth")
"""The service modules, whose loggers have the level of the settings."""


class Levels:
    """Levels by logger, which remembers those that were there before.

    >>> levels = Levels()
    >>> levels.apply(P8FSConfig(log_levels="some.library=DEBUG"))
    >>> logging.getLogger("some.library").level == logging.DEBUG
    True
    >>> levels.give_back()
    >>> logging.getLogger("some.library").level == logging.NOTSET
    True
    """

    def __init__(self) -> None:
        self._before: dict[str, int] = {}

    def apply(self, settings: P8FSConfig) -> None:
        """Set the levels that `settings` ask for; loggers that they no longer name get their own back."""
        wanted = _wanted(settings)
        self._give_back([name for name in self._before if name not in wanted])
        for name, level in wanted.items():
            logger = made(name)
            self._before.setdefault(name, logger.level)
            logger.setLevel(level)

    def give_back(self) -> None:
        """Set the levels that were there before."""
        self._give_back(list(self._before))

    def _give_back(self, names: list[str]) -> None:
        for name in names:
            logging.getLogger(name).setLevel(self._before.pop(name))


def _wanted(settings: P8FSConfig) -> dict[str, str]:
    """psycopg_pool tells each borrowed connection at INFO; SQLAlchemy's statements hold what users entered."""
    level = settings.log_level
    quiet = max("WARNING", level, key=logging.getLevelNamesMapping().__getitem__)
    pool = "INFO" if level in ("TRACE", "DEBUG") else quiet
    named = {"" if name == "root" else name: wanted for name, wanted in settings.log_levels.items()}
    under = {"psycopg.pool": pool, "sqlalchemy": quiet}
    parents = {name for name in under for one in named if name.startswith(f"{one}.")}
    return {
        **dict.fromkeys(("", *MODULES), level),
        **{name: wanted for name, wanted in under.items() if name not in parents},
        **named,
    }
