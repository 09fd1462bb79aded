"""Keep the settings that are in force without an override: loaded once, reloaded as a whole, or the last good ones."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, Protocol, Self, TypeVar

from p8fs_cluster.config.problems import variable_of
from p8fs_cluster.config.reading import Reading, read, watched
from p8fs_cluster.config.section import NAMES
from p8fs_cluster.config.sources.registered import registered
from p8fs_cluster.config.watching import Watch
from p8fs_cluster.exceptions import ClusterError
from p8fs_cluster.forking import Stage, after_fork

__all__ = ["Once", "SettingsStore", "Snapshot"]


class Snapshot(Protocol):
    """The methods that a store calls on the settings that it keeps."""

    @property
    def reloads(self) -> bool: ...
    def differing(self, other: Self, /) -> frozenset[str]: ...


T = TypeVar("T")
S = TypeVar("S", bound=Snapshot)

log = logging.getLogger("p8fs_cluster.config")

_SETTLED = 0.005
"""Seconds in which nothing changes in what was read before it is believed: somebody may be half-way through writing."""
_TRIES = 40

_stores: weakref.WeakSet[SettingsStore[Any]] = weakref.WeakSet()


class Once(Generic[T]):
    """Loads once at the first call, under any number of threads. A load that fails is tried again at the next call.

    >>> once = Once(dict)
    >>> once() is once()
    True
    """

    def __init__(self, load: Callable[[], T]) -> None:
        self._load = load
        self._lock = threading.RLock()
        self._loaded: tuple[T, ...] = ()

    def __call__(self) -> T:
        if not self._loaded:
            with self._lock:
                if not self._loaded:
                    self._loaded = (self._load(),)
        return self._loaded[0]

    @property
    def loaded(self) -> tuple[T, ...]:
        """The loaded value in a tuple, or an empty one before the first load. It never loads."""
        return self._loaded


class SettingsStore(Once[S]):
    """The settings as the sources have them. `fault` is why the last reload failed, None if it did not.

    >>> from p8fs_cluster.config.settings import P8FSConfig
    >>> store = SettingsStore(P8FSConfig)
    >>> store.reload() == store()
    True
    """

    def __init__(self, load: Callable[[], S]) -> None:
        super().__init__(load)
        self.fault: Exception | None = None
        self._followers: list[weakref.WeakMethod[Callable[[], None]]] = []
        self._checks: list[weakref.WeakMethod[Callable[[S], None]]] = []
        self._tried: Reading | None = None
        self._watch = Watch(self._look, watched)
        _stores.add(self)

    def follow(self, changed: Callable[[], None]) -> None:
        """Call the bound method `changed` after each reload, for as long as its object lives.

        What it raises takes the reload back: then it is called once more.
        """
        self._followers.append(weakref.WeakMethod(changed))

    def verify(self, check: Callable[[S], None]) -> None:
        """Call the bound method `check` with what each reload has read, before it is in force; it may raise."""
        self._checks.append(weakref.WeakMethod(check))

    def reload(self) -> S:
        """Read every source anew, and return the new snapshot.

        :raises ConfigurationError: the sources can't be used; the last good snapshot stays in force.
        :raises StorageUnavailable: they lead to a store that can't be reached, while one is in use; likewise.
        """
        with self._lock:
            for source in registered():
                source.ask_anew()
            before = self._loaded
            try:
                self._put((self._verified(self._load()),))
            except Exception as exc:
                self.fault = exc
                if before:
                    self._put(before)
                raise
            self.fault = None
            if before:
                _tell(self._loaded[0].differing(before[0]))
            return self._loaded[0]

    def watch(self) -> Watch:
        """Reload when a file changes, if the settings say so, and at SIGHUP where nobody else has taken it."""
        self._watch.start(files=self().reloads)
        return self._watch

    def unwatch(self) -> None:
        """End what `watch` has begun."""
        self._watch.stop()

    def _verified(self, snapshot: S) -> S:
        for reference in tuple(self._checks):
            if check := reference():
                check(snapshot)
            else:
                self._checks.remove(reference)
        return snapshot

    def _put(self, loaded: tuple[S, ...]) -> None:
        self._loaded = loaded
        for reference in tuple(self._followers):
            changed = reference()
            if changed is None:
                self._followers.remove(reference)
            else:
                changed()

    def _look(self, force: bool) -> None:
        """Reload if a source has changed. What is wrong with it is logged, once."""
        found = self._settled()
        if found == self._tried and not force:
            return
        self._tried = found
        try:
            self.reload()
        except ClusterError as exc:
            log.error("the settings can't be loaded again; the last good ones stay in force: %s", exc)  # noqa: TRY400

    def _settled(self) -> Reading:
        found = read(NAMES)
        for _ in range(_TRIES):
            if found == self._tried:
                break
            self._watch.pause(_SETTLED)
            found, before = read(NAMES), found
            if found == before:
                break
        return found

    def _forked(self) -> None:
        self._lock = threading.RLock()
        self._tried = None
        self._watch.forked()


def _tell(names: frozenset[str]) -> None:
    if names:
        log.info("settings loaded again: %s changed", ", ".join(map(variable_of, sorted(names))))


def _after_fork() -> None:
    for store in tuple(_stores):
        store._forked()


after_fork(Stage.SETTINGS, _after_fork)
