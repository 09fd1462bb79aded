"""The provider of the settings in force: typed, validated, overridable, and heard by what is built from them."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol

from dependency_injector import providers

from p8fs_cluster.config.live import Base
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import ConfigurationError

__all__ = ["SettingsOverride", "SettingsProvider", "SettingsSource"]


class SettingsSource(Protocol):
    """What a handle needs of the settings: those in force now, all that may come back, and word of every change.

    `announced` is whether subscribers hear of every change: not so when somebody's provider gives the settings.
    """

    @property
    def announced(self) -> bool: ...
    def __call__(self) -> P8FSConfig: ...
    def in_use(self) -> tuple[P8FSConfig, ...]: ...
    def subscribe(self, changed: Callable[[], None]) -> None: ...


class SettingsProvider(providers.Provider[P8FSConfig]):
    """Provides the frozen snapshot in force: the innermost override, else the base read from the environment.

    >>> settings = SettingsProvider()
    >>> with settings.override({"pg_host": "db", "pg_port": 5432}) as snapshot:
    ...     snapshot.pg_connection_string
    'postgresql://postgres:postgres@db:5432/app'
    """

    def __init__(self, base: Base[P8FSConfig] | None = None) -> None:
        self._base = base or Base(P8FSConfig)
        self._ended: list[providers.Provider[Any]] = []
        self._lately_ended: deque[providers.Provider[Any]] = deque(maxlen=64)
        """Held on to, because dependency-injector calls an override without a reference of its own: freed meanwhile
        by another thread, it would end the process."""
        self._subscribers: list[weakref.WeakMethod[Callable[[], None]]] = []
        super().__init__()

    @property
    def announced(self) -> bool:
        """Whether subscribers hear of every change of what is in force; another's provider changes in silence."""
        overriding = self.last_overriding
        return overriding is None or isinstance(overriding, providers.Object)

    def share(self, base: Base[P8FSConfig]) -> None:
        """Take the base from elsewhere: the default container shares it with the live view `config`."""
        self._base = base

    def reload(self) -> P8FSConfig:
        """Read every source anew and return the snapshot then in force. Overrides stay on top.

        :raises ConfigurationError: the sources can't be used, or not be followed; the last good base stays in force.
        """
        before = self._base.loaded
        self._base.reload()
        try:
            self._changed()
        except BaseException:
            self._base.restore(before)
            self._changed()
            raise
        return self()

    def in_use(self) -> tuple[P8FSConfig, ...]:
        """Return the base, if it was read, and every override in force or to come back when inner ones end."""
        overriding = (provider() for provider in self.overridden if provider not in self._ended)
        return (*self._base.loaded, *(value for value in overriding if isinstance(value, P8FSConfig)))

    def subscribe(self, changed: Callable[[], None]) -> None:
        """Call the bound method `changed` after each change, for as long as its object lives."""
        self._subscribers.append(weakref.WeakMethod(changed))

    def override(self, provider: Any) -> SettingsOverride:  # type: ignore[override]
        """Put changes (a mapping), a whole `P8FSConfig` or another provider in force; nests.

        Use it with `with`, or call it and undo it with `reset_last_overriding()` or `reset_override()`.

        :raises ConfigurationError: the result would not be valid; nothing is changed then.
        """
        overriding = self._overriding(provider)
        super().override(overriding)
        try:
            self._changed()
        except BaseException:
            self.end(overriding)
            raise
        return SettingsOverride(self, overriding)

    def reset_last_overriding(self) -> None:
        """End the innermost override."""
        self.end(self.overridden[-1]) if self.overridden else super().reset_last_overriding()

    def reset_override(self) -> None:
        """End all overrides."""
        super().reset_override()
        self._ended.clear()
        self._changed()

    def end(self, overriding: providers.Provider[Any]) -> None:
        """End one override, wherever in the nesting it is; nothing happens if it has ended before.

        One below others is only marked, and taken away with the last above it: at no moment does another thread see
        settings that are not in force.
        """
        with providers.Provider.overriding_lock:  # type: ignore[attr-defined]
            if overriding not in self.overridden or overriding in self._ended:
                return
            self._ended.append(overriding)
            self._hide_ended()
            while self.overridden and self.overridden[-1] in self._ended:
                self._ended.remove(self.overridden[-1])
                self._lately_ended.append(self.overridden[-1])
                super().reset_last_overriding()
        self._changed()

    def _hide_ended(self) -> None:
        """Let those on top that have ended, but for the very last, show what will be in force without them."""
        kept = [provider for provider in self.overridden if provider not in self._ended]
        below = kept[-1:] if kept else [providers.Object(snapshot) for snapshot in self._base.loaded]
        for provider in self.overridden[len(kept) : -1]:
            if below and provider in self._ended and isinstance(provider, providers.Object):
                provider.set_provides(below[0]())

    def _overriding(self, value: Any) -> providers.Provider[Any]:
        if isinstance(value, providers.Object):
            value = value()
        if isinstance(value, providers.Provider):
            return providers.Callable(_checked, value)
        if isinstance(value, Mapping):
            return providers.Object(self().with_changes(value))
        return providers.Object(_checked(value))

    def _changed(self) -> None:
        for reference in tuple(self._subscribers):
            subscriber = reference()
            if subscriber is None:
                self._subscribers.remove(reference)
            else:
                subscriber()

    def _provide(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> P8FSConfig:
        return self._base()


def _checked(value: object) -> P8FSConfig:
    if isinstance(value, P8FSConfig):
        return value
    kind = type(value).__name__
    raise ConfigurationError(
        f"settings are overridden by a mapping, a P8FSConfig or a provider of a P8FSConfig, not by a {kind}"
    )


class SettingsOverride:
    """An override in force; leaving its `with` block ends it, also when others were put over it since."""

    def __init__(self, settings: SettingsProvider, overriding: providers.Provider[Any]) -> None:
        self._settings = settings
        self._overriding = overriding

    def __enter__(self) -> P8FSConfig:
        snapshot: P8FSConfig = self._overriding()
        return snapshot

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._settings.end(self._overriding)

    def __repr__(self) -> str:
        return f"<override of {self._settings!r}>"
