"""The live view of the settings in force, and the loader that it shares with the default container."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from p8fs_cluster.config.base import Base
from p8fs_cluster.config.watching import Watch
from p8fs_cluster.forking import Stage, after_fork

if TYPE_CHECKING:
    from p8fs_cluster.config.explanation import Explanation
    from p8fs_cluster.config.settings import P8FSConfig

    _View = P8FSConfig
else:
    _View = object

__all__ = ["LiveConfig"]

_changing = threading.RLock()


class LiveConfig(_View):
    """Reads like a `P8FSConfig`, and always shows the settings in force. `current` is the frozen snapshot itself.

    Its `__dict__` holds the fields of the snapshot and is swapped as a whole, so that a read costs what an attribute
    costs and never sees half of a change. It is empty until the first read.
    """

    __slots__ = ("__dict__", "__weakref__", "_base", "_changes", "_in_force")

    current: P8FSConfig

    def __init__(self, load: Callable[[], P8FSConfig]) -> None:
        object.__setattr__(self, "_base", Base(load))
        object.__setattr__(self, "_changes", 0)
        object.__setattr__(self, "_in_force", _base_only)
        self._base.follow(self._refresh)

    @property
    def base(self) -> Base:
        """Return what is in force when nothing overrides it."""
        base: Base = self._base
        return base

    def explain(self, name: str) -> Explanation:
        """Return why a setting has its value; also, if the last reload failed, why it is not a newer one.

        :raises ConfigurationError: there is no such setting.
        """
        explained = self.current.explain(name)
        fault = self._base.fault
        return dataclasses.replace(explained, stale=str(fault)) if fault else explained

    def watch(self) -> Watch:
        """Follow changed files from now on, as `P8FS_RELOAD` says, and SIGHUP; see `docs/configuration.md`.

        :raises ConfigurationError: the settings can't be used.
        """
        watch: Watch = self._base.watch()
        return watch

    def follow(self, in_force: Callable[[], P8FSConfig | None]) -> None:
        """Show what `in_force` returns; None: the base, loaded at the next read. The last to call has the last word."""
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

    def _load(self) -> P8FSConfig:
        while True:
            changes = self._changes
            snapshot = self._base()
            with _changing:
                if changes == self._changes:  # else what was loaded may be out of date by now
                    if not vars(self):
                        object.__setattr__(self, "__dict__", _fields(snapshot))
                    current: P8FSConfig = vars(self)["current"]
                    return current

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"settings are frozen: use container.config.override({{{name!r}: …}})")

    def __delattr__(self, name: str) -> NoReturn:
        self.__setattr__(name, None)

    def __dir__(self) -> list[str]:
        return sorted({"current", *dir(self.current)})

    def __repr__(self) -> str:
        loaded = vars(self).get("current")
        return f"<live view of {loaded!r}>" if loaded else "<live view of settings that were not read yet>"

    def __reduce__(self) -> tuple[Callable[[], LiveConfig], tuple[()]]:
        return _of_this_process, ()


def _base_only() -> None:
    """Nothing overrides the base."""


def _of_this_process() -> LiveConfig:
    from p8fs_cluster.config.settings import config

    return config


def _after_fork() -> None:
    global _changing  # noqa: PLW0603
    _changing = threading.RLock()


after_fork(Stage.LOCKS, _after_fork)


def _fields(snapshot: P8FSConfig) -> dict[str, Any]:
    computed = [name for name in vars(type(snapshot)) if name.endswith("_connection_string")]
    return {"current": snapshot, **dict(snapshot), **{name: getattr(snapshot, name) for name in computed}}
