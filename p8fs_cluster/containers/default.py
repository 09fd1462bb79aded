"""The process's default container, made at first use, and the active one."""

from __future__ import annotations

from typing import Any

from p8fs_cluster.config.settings import config
from p8fs_cluster.config.store import Once
from p8fs_cluster.containers.container import Container
from p8fs_cluster.di import context

__all__ = ["active", "default"]


class _Default:
    """Keeps the live view `config` in step with the settings of the default container."""

    def __init__(self) -> None:
        self.container = Container()
        self.container.config.share(config.store)
        self.container.config.follow(self._follow)

    def _follow(self) -> None:
        settings = self.container.config
        config.follow(lambda: settings.everywhere() if settings.overridden else None)


_default = Once(_Default)


def default() -> Container:
    """Return the container that `from p8fs_cluster import container` gives, made once a process."""
    return _default().container


def active() -> Any:
    """Return the container that `@inject` resolves against: the innermost entered one, else the default."""
    return context.innermost(context.here())[0] or default()
