"""The provider of the settings in force: typed, validated, overridable, and heard by what is built from them."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from dependency_injector import providers

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.config.store import SettingsStore
from p8fs_cluster.config.watching import Watch
from p8fs_cluster.di import context
from p8fs_cluster.di.layers import Layer, put_in_force
from p8fs_cluster.di.overriding import Overridable, Override
from p8fs_cluster.exceptions import ConfigurationError
from p8fs_cluster.forking import Stage, after_fork

__all__ = ["SettingsProvider", "SettingsSource", "Subscriber"]

log = logging.getLogger(__name__)

Subscriber = Callable[[P8FSConfig, P8FSConfig, frozenset[str]], object]
"""Is told the old snapshot, the new one, and the names of the settings that differ."""


_all: weakref.WeakSet[SettingsProvider] = weakref.WeakSet()


class SettingsSource(Protocol):
    """The settings as a handle sees them: those in force now, all that may come back, and word of every change.

    `announced` is whether those in force are the process's and followers hear of every change of them.
    """

    @property
    def announced(self) -> bool: ...
    def __call__(self) -> P8FSConfig: ...
    def everywhere(self) -> P8FSConfig: ...
    def in_use(self) -> tuple[P8FSConfig, ...]: ...
    def follow(self, changed: Callable[[], None]) -> None: ...
    def verify(self, check: Callable[[P8FSConfig], None]) -> None: ...


class SettingsProvider(Overridable[P8FSConfig]):
    """Provides the frozen snapshot in force: the innermost override, else the base read from the environment.

    >>> settings = SettingsProvider()
    >>> with settings.override({"pg_host": "db", "pg_port": 5432}) as snapshot:
    ...     snapshot.pg_connection_string
    'postgresql://postgres:postgres@db:5432/app'
    """

    def __init__(self, base: SettingsStore[P8FSConfig] | None = None) -> None:
        self._followers: list[weakref.WeakMethod[Callable[[], None]]] = []
        self._checks: list[weakref.WeakMethod[Callable[[P8FSConfig], None]]] = []
        self._subscribers: list[Subscriber] = []
        self._told: P8FSConfig | None = None
        self._telling = threading.RLock()
        self.share(base or SettingsStore(P8FSConfig))
        _all.add(self)
        self._isolated: weakref.WeakSet[Layer] = weakref.WeakSet()
        super().__init__()

    @property
    def announced(self) -> bool:
        """Return whether what is in force is the same for the whole process and followers hear of every change of it.

        Not so when somebody's provider gives the settings, which may change in silence, nor in an isolated override.
        """
        return not context.in_force.get().isolated and (
            not self.layers or self.last_overriding is None or isinstance(self.last_overriding, providers.Object)
        )

    is_frozen = True

    @property
    def is_constant(self) -> bool:
        return self.announced

    @property
    def fault(self) -> Exception | None:
        """Return why the last reload failed, None if it did not: then the last good settings are in force."""
        return self._base.fault

    def share(self, base: SettingsStore[P8FSConfig]) -> None:
        """Take the base from elsewhere: the default container shares it with the live view `config`."""
        self._base = base
        base.follow(self._reloaded)
        base.verify(self._verify)

    def reload(self) -> P8FSConfig:
        """Read every source anew and return the snapshot then in force. Overrides stay on top.

        :raises ConfigurationError: the sources can't be used, or not be followed; the last good base stays in force.
        """
        self._base.reload()
        return self()

    def watch(self) -> Watch:
        """Reload when files change from now on, as `P8FS_RELOAD` says, and at SIGHUP where nobody else has taken it.

        :raises ConfigurationError: the settings can't be used.
        """
        return self._base.watch()

    def unwatch(self) -> None:
        """End what `watch` has begun."""
        self._base.unwatch()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber(old, new, names)` after each change for the whole process; return what ends that.

        What it raises is logged, and changes nothing.

        :raises ConfigurationError: the settings can't be used.

        >>> settings = SettingsProvider()
        >>> end = settings.subscribe(lambda old, new, names: print(old.pg_host, new.pg_host, set(names)))
        >>> with settings.override({"pg_host": "db"}):
        ...     end()
        localhost db {'pg_host'}
        """
        with self._telling:
            if not self._subscribers:
                self._told = self.everywhere()
            self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber) if subscriber in self._subscribers else None

    def everywhere(self) -> P8FSConfig:
        """Return the snapshot in force for the process, whatever is isolated here."""
        overriding = self.last_overriding
        return self._base() if overriding is None else _checked(overriding())

    def in_use(self) -> tuple[P8FSConfig, ...]:
        """Return the base, if it was read, and every override in force or to come back when inner ones end."""
        isolated = [layer.replaced[self] for layer in tuple(self._isolated) if layer.active]
        overriding = (provider() for provider in (*self.overridden, *isolated))
        return (*self._base.loaded, *(value for value in overriding if isinstance(value, P8FSConfig)))

    def follow(self, changed: Callable[[], None]) -> None:
        """Call the bound method `changed` after each change, for as long as its object lives.

        What it raises takes the change back.
        """
        self._followers.append(weakref.WeakMethod(changed))

    def verify(self, check: Callable[[P8FSConfig], None]) -> None:
        """Call the bound method `check` with each snapshot that a reload brings, before it is in force.

        What it raises keeps the last good one. An override is not asked about: it is in force, or fails, where it is
        used.
        """
        self._checks.append(weakref.WeakMethod(check))

    def override(self, value: Any, *, isolated: bool = False) -> Override[P8FSConfig]:  # type: ignore[override]
        """Put changes (a mapping), a whole `P8FSConfig` or another provider in force; nests.

        Use it with `with`, or call it and undo it with `reset_last_overriding()` or `reset_override()`. `isolated`:
        only this task or thread sees it, and what it awaits.

        :raises ConfigurationError: the result would not be valid; nothing is changed then.
        """
        replacement = self.replacement(value)
        return Override(put_in_force(Layer({self: replacement}, isolated)), replacement)

    def replacement(self, value: Any) -> providers.Provider[Any]:
        """Return the provider of the settings that `override(value)` puts in force."""
        if isinstance(value, providers.Object):
            value = value()
        if isinstance(value, providers.Provider):
            return providers.Callable(_checked, value)
        if isinstance(value, Mapping):
            return providers.Object(self().with_changes(value))
        return providers.Object(_checked(value))

    def on_change(self) -> None:
        """Let those follow that are built from the settings, then tell the subscribers."""
        layer = self.layer()
        if layer is not None and layer.isolated:
            self._isolated.add(layer)
        for reference in tuple(self._followers):
            follow = reference()
            if follow is None:
                self._followers.remove(reference)
            else:
                follow()
        self._tell()

    def _verify(self, snapshot: P8FSConfig) -> None:
        """Under an override the base serves nobody, and is not asked about."""
        for reference in tuple(self._checks) if self.last_overriding is None else ():
            if check := reference():
                check(snapshot)
            else:
                self._checks.remove(reference)

    def _reloaded(self) -> None:
        context.changed()
        self.on_change()

    def _tell(self) -> None:
        with self._telling:
            if not self._subscribers:
                return
            new = self.everywhere()
            old, self._told = self._told or new, new
            names = new.differing(old)
            for subscriber in tuple(self._subscribers) if names else ():
                try:
                    subscriber(old, new, names)
                except Exception:
                    log.exception("a subscriber of the settings failed")

    def _provide(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> P8FSConfig:
        return self._base()


def _after_fork() -> None:
    for provider in tuple(_all):
        provider._telling = threading.RLock()


after_fork(Stage.LOCKS, _after_fork)


def _checked(value: object) -> P8FSConfig:
    if isinstance(value, P8FSConfig):
        return value
    kind = type(value).__name__
    raise ConfigurationError(
        f"settings are overridden by a mapping, a P8FSConfig or a provider of a P8FSConfig, not by a {kind}"
    )
