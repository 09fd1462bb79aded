"""A value that depends on what is in force, and is asked for anew only after a change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar, cast

from p8fs_cluster.di import context
from p8fs_cluster.di.settings import SettingsSource

__all__ = ["UNKNOWN", "Followed"]

T = TypeVar("T")

UNKNOWN = object()


class Followed(Generic[T]):
    """Return what a function returns, and the same again as long as no setting and no override has changed.

    It is asked each time where changes are not announced: in an isolated override, or where somebody's own provider
    gives the settings.
    """

    __slots__ = ("_ask", "_kept", "_settings")

    def __init__(self, settings: SettingsSource, ask: Callable[[], T]) -> None:
        self._settings = settings
        self._ask = ask
        self._kept: tuple[object, T] | None = None

    def forget(self) -> None:
        """Ask the function at the next call."""
        self._kept = None

    def known(self) -> T:
        """Return the value in force, or `UNKNOWN` where the function would have to be asked."""
        kept = self._kept
        if kept is not None and kept[0] is context.epoch and not context.in_force.get().isolated:
            return kept[1]
        return cast("T", UNKNOWN)

    def __call__(self) -> T:
        """Return the value in force."""
        value = self.known()
        if value is not UNKNOWN:
            return value
        epoch, value = context.epoch, self._ask()
        if self._settings.announced:
            self._kept = epoch, value
        return value
