"""The live view of the settings in force, and the store that it shares with the default container."""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Callable
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from p8fs_cluster.config.store import SettingsStore, Snapshot
from p8fs_cluster.config.watching import Watch
from p8fs_cluster.forking import Stage, after_fork

if TYPE_CHECKING:
    from p8fs_cluster.config.explanation import Explanation

__all__ = ["LiveConfig"]


class _Settings(Snapshot, Protocol):
    """The methods that the view calls on a snapshot."""

    def explain(self, name: str, /) -> Explanation: ...
    def live_values(self) -> dict[str, Any]: ...


S = TypeVar("S", bound=_Settings)

_changing = threading.RLock()

_TEST_TOOLS = ("unittest.mock", "mock.mock", "_pytest.monkeypatch")
"""Modules whose assignments are overrides for the time of a test."""


class _Patch(NamedTuple):
    """An attribute that a test has patched, what was there before, and what ends the override."""

    name: str
    before: Any
    end: Callable[[], None]


class LiveConfig(Generic[S]):
    """Reads like a snapshot, and always shows the settings in force. `current` is the frozen snapshot itself.

    `name` is where the view itself is found, as `pkgutil.resolve_name` takes it: a pickled view is that of the process
    that reads it. `override` is where the override of the settings shown is found: what `unittest.mock.patch` and
    pytest's `monkeypatch` assign is in force through it, until they take it back.

    Its `__dict__` holds the fields of the snapshot and is swapped as a whole, so that a read costs what an attribute
    costs and never sees half of a change. It is empty until the first read.
    """

    __slots__ = ("__dict__", "__weakref__", "_changes", "_in_force", "_name", "_override", "_patches", "_store")

    current: S

    def __init__(self, load: Callable[[], S], name: str = "", override: str = "") -> None:
        object.__setattr__(self, "_store", SettingsStore(load))
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_override", override)
        object.__setattr__(self, "_patches", [])
        object.__setattr__(self, "_changes", 0)
        object.__setattr__(self, "_in_force", _base_only)
        self._store.follow(self._refresh)

    @property
    def store(self) -> SettingsStore[S]:
        """Return what keeps the settings that are in force when nothing overrides them."""
        store: SettingsStore[S] = self._store
        return store

    def explain(self, name: str) -> Explanation:
        """Return why a setting has its value; also, if the last reload failed, why it is not a newer one.

        :raises ConfigurationError: there is no such setting.
        """
        explained = self.current.explain(name)
        fault = self._store.fault
        return dataclasses.replace(explained, stale=str(fault)) if fault else explained

    def watch(self) -> Watch:
        """Follow changed files from now on, as `P8FS_RELOAD` says, and SIGHUP; see `docs/configuration.md`.

        :raises ConfigurationError: the settings can't be used.
        """
        return self.store.watch()

    def follow(self, in_force: Callable[[], S | None]) -> None:
        """Show what `in_force` returns; None: what the store loads at the next read. The last caller wins."""
        with _changing:
            object.__setattr__(self, "_in_force", in_force)
            self._refresh()

    def _refresh(self) -> None:
        with _changing:
            snapshot = self._in_force()
            object.__setattr__(self, "_changes", self._changes + 1)
            object.__setattr__(self, "__dict__", {} if snapshot is None else _fields(snapshot))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        snapshot = vars(self).get("current") or self._load()
        return snapshot if name == "current" else getattr(snapshot, name)

    def _load(self) -> S:
        while True:
            changes = self._changes
            snapshot = self.store()
            with _changing:
                if changes == self._changes:  # else what was loaded may be out of date by now
                    if not vars(self):
                        object.__setattr__(self, "__dict__", _fields(snapshot))
                    current: S = vars(self)["current"]
                    return current

    def __setattr__(self, name: str, value: object) -> None:
        if not _is_test_tool():
            raise AttributeError(f"settings are frozen: use container.config.override({{{name!r}: …}})")
        last = self._last_patch(name)
        if last is not None and last.before is value:
            self._patches.remove(last)
            last.end()
            return
        before = getattr(self, name)
        if before is value:  # taken back, after it was refused
            return
        overriding = resolve_name(self._override)(value if name == "current" else {name: value})
        self._patches.append(_Patch(name, before, overriding.end))

    def __delattr__(self, name: str) -> None:
        if not _is_test_tool():
            raise AttributeError(f"settings are frozen: {name!r} can't be deleted")
        last = self._last_patch(name)
        if last is not None:  # else what it takes back was refused
            self._patches.remove(last)
            last.end()

    def _last_patch(self, name: str) -> _Patch | None:
        patches: list[_Patch] = self._patches
        return next((patch for patch in reversed(patches) if patch.name == name), None)

    def __dir__(self) -> list[str]:
        return sorted({"current", *dir(self.current)})

    def __repr__(self) -> str:
        loaded = vars(self).get("current")
        return f"<live view of {loaded!r}>" if loaded else "<live view of settings that were not read yet>"

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return resolve_name, (self._name,)


def _is_test_tool() -> bool:
    """Return whether whoever assigns to the view, or deletes from it, does so for the time of a test."""
    return sys._getframe(2).f_globals.get("__name__") in _TEST_TOOLS


def _base_only() -> None:
    """Nothing overrides the settings of the store."""


def _after_fork() -> None:
    global _changing  # noqa: PLW0603
    _changing = threading.RLock()


after_fork(Stage.LOCKS, _after_fork)


def _fields(snapshot: Any) -> dict[str, Any]:
    computed = [name for name in vars(type(snapshot)) if name.endswith("_connection_string")]
    return {"current": snapshot, **snapshot.live_values(), **{name: getattr(snapshot, name) for name in computed}}
