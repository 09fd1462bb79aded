"""Sources of an application's own, such as a secret manager, and its defaults for settings of the core."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from p8fs_cluster.config.sources.source import Entry, Source, entry_of, unprefixed
from p8fs_cluster.exceptions import ConfigurationError, Problem
from p8fs_cluster.forking import Stage, after_fork

__all__ = ["APPLICATION", "Registered", "application_defaults", "registered", "remove_source"]

APPLICATION = "the application's defaults"

clock = time.monotonic


class Registered:
    """A source of an application's own. What `read` has returned counts for `every` seconds, unless `asked_anew`."""

    def __init__(self, name: str, read: Callable[[], Mapping[str, Any]], every: float) -> None:
        self.name = name
        self._read = read
        self._every = every
        self._lock = threading.RLock()
        self._kept: tuple[float, Source] | None = None

    def source(self) -> Source:
        """Return what the source has. A fault of it is told in `problems`, without its words: they may hold secrets."""
        with self._lock:
            if self._kept is None or clock() - self._kept[0] >= self._every:
                self._kept = clock(), self._asked()
            return self._kept[1]

    def ask_anew(self) -> None:
        """Forget what was read."""
        self._kept = None

    def forked(self) -> None:
        """Go on in a forked child."""
        self._lock = threading.RLock()

    def _asked(self) -> Source:
        try:
            values = dict(self._read())
        except Exception as exc:
            return Source(problems=(Problem(f"the source {self.name}", None, f"fails with {type(exc).__name__}"),))
        wrong = [repr(name) for name in values if not isinstance(name, str)]
        if wrong:
            fault = f"has names that are no text: {', '.join(wrong)}"
            return Source(problems=(Problem(f"the source {self.name}", None, fault),))
        entries = {unprefixed(name) or name.lower(): entry_of(value, self.name) for name, value in values.items()}
        return Source(entries, others=entries)


_registered: dict[str, Registered] = {}
_defaults: dict[str, Entry] = {}


def registered() -> tuple[Registered, ...]:
    """Return the sources that were added, the strongest first."""
    return tuple(_registered.values())


def register(source: Registered) -> None:
    """Add a source.

    :raises ConfigurationError: there is one of this name.
    """
    if _registered.setdefault(source.name, source) is not source:
        raise ConfigurationError(f"there is a source {source.name!r} already: remove_source({source.name!r}) first")


def remove_source(name: str) -> None:
    """Take a source of the application's away; the next reload does without it. There need not be one."""
    _registered.pop(name, None)


def application_defaults() -> dict[str, Entry]:
    """Return the application's own defaults, to be read and changed."""
    return _defaults


def _after_fork() -> None:
    for source in _registered.values():
        source.forked()


after_fork(Stage.LOCKS, _after_fork)
