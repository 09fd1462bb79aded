"""Names that begin as ours do and are none: most often a slip of the pen, which would otherwise go unseen.

Sections may be declared after the settings were read, so names are judged when the application is complete: at its
start in a framework, in `validate_configuration` and `check`; else when the process ends.
"""

from __future__ import annotations

import atexit
import logging
from typing import TYPE_CHECKING

from p8fs_cluster.config import secrets
from p8fs_cluster.config.problems import configuration_error, nearest, unknown_setting, variable_of
from p8fs_cluster.config.reading import CODE, LOCATORS, Reading
from p8fs_cluster.config.section import aliases, load_installed, names
from p8fs_cluster.config.sources.environment import ORIGIN
from p8fs_cluster.exceptions import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from p8fs_cluster.config.settings import P8FSConfig

__all__ = ["complete", "forget", "judge", "judged", "misspelt", "warn"]

log = logging.getLogger("p8fs_cluster.config")

_warned: set[Problem] = set()
_complete = False
_unjudged: Reading | None = None


def complete() -> None:
    """Take all sections for declared from now on: what is read is judged when it is read."""
    global _complete, _unjudged
    _complete, _unjudged = True, None


def judge(settings: Callable[[], P8FSConfig]) -> P8FSConfig:
    """Take all sections for declared from now on, and return the settings, with each misspelt name in them told.

    :raises ConfigurationError: the settings can't be used, or are to be `strict` and have such names.
    """
    complete()
    snapshot = settings()
    unknown = misspelt(snapshot._reading)
    if unknown and snapshot.strict:
        raise configuration_error(unknown)
    warn(unknown)
    return snapshot


def judged(reading: Reading) -> list[Problem]:
    """Return the misspelt names of a reading if the application is complete; else keep it until it is."""
    global _unjudged  # noqa: PLW0603
    if _complete:
        return misspelt(reading)
    for name, _, value in _suspects(reading):
        _remember_if_secret(name, value)
    if _unjudged is None:
        atexit.register(_judge_at_exit)
    _unjudged = reading
    return []


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


def forget() -> None:
    """Start anew, as a test does: nothing was told, and the application is not complete."""
    global _complete, _unjudged
    _complete, _unjudged = False, None
    _warned.clear()


def _judge_at_exit() -> None:
    if _unjudged is not None:
        warn(misspelt(_unjudged))


def _suspects(reading: Reading) -> list[tuple[str, str, object]]:
    known, others = set(names()), aliases()
    return [
        (name, entry.origin, entry.value)
        for source in reading.sources
        for name, entry in source.entries.items()
        if name not in known
        and entry.origin != CODE
        and not (name in (*LOCATORS, "prefix") and entry.origin == ORIGIN)
        and not (name in others and source.others.get(name) is entry)
        and not (entry.value == {} or any(name.startswith(f"{table}_") for table in known & source.tables.keys()))
    ]


def _remember_if_secret(name: str, value: object) -> None:
    """A password under a misspelt name is one all the same."""
    meant = nearest(name, names()) or name
    if any(word in f"{name} {meant}" for word in ("password", "secret", "token", "key")):
        secrets.remember(secrets.within(value))
