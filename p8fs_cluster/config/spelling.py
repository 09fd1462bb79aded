"""Names that begin as ours do and are none: most often a slip of the pen, which would otherwise go unseen."""

from __future__ import annotations

import logging

from p8fs_cluster.config import secrets
from p8fs_cluster.config.problems import nearest_setting, unknown_setting, variable_of
from p8fs_cluster.config.reading import CODE, LOCATORS, Reading
from p8fs_cluster.config.section import load_installed, names
from p8fs_cluster.config.sources.environment import ORIGIN
from p8fs_cluster.exceptions import Problem

__all__ = ["misspelt", "warn"]

log = logging.getLogger("p8fs_cluster.config")

_warned: set[Problem] = set()


def misspelt(reading: Reading) -> list[Problem]:
    """Return each name in a source that is no setting, with the nearest one.

    What installed packages tell of their sections is only looked up when there is such a name.
    """
    if not _suspects(reading):
        return []
    load_installed()
    suspects = _suspects(reading)
    for name, _, value in suspects:
        _remember_if_secret(name, value)
    return [Problem(variable_of(name), origin, unknown_setting(name, names())) for name, origin, _ in suspects]


def warn(problems: list[Problem]) -> None:
    """Log each problem, once a process."""
    for problem in problems:
        if problem not in _warned:
            _warned.add(problem)
            log.warning("%s", problem)


def _suspects(reading: Reading) -> list[tuple[str, str, object]]:
    known = names()
    return [
        (name, entry.origin, entry.value)
        for name, entry in reading.found()
        if name not in known and entry.origin != CODE and not (name in LOCATORS and entry.origin == ORIGIN)
    ]


def _remember_if_secret(name: str, value: object) -> None:
    """A password under a misspelt name is one all the same."""
    meant = nearest_setting(name, names()) or name
    if any(word in f"{name} {meant}" for word in ("password", "secret", "token", "key")):
        secrets.remember(secrets.within(value))
