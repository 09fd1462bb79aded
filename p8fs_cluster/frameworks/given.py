"""The `container` parameter of every framework's module, and what a client hears of a storage that is down."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

from p8fs_cluster.containers.container import Container

__all__ = ["Given", "container_of", "unavailable"]

log = logging.getLogger(__name__)

Given: TypeAlias = Container | Callable[[], Container] | None
"""A container, a Container class or another function that makes one, or None for a new `Container()`."""


def container_of(given: Given) -> Container:
    """Return the container that is meant: the very one, or a new one.

    >>> container = Container()
    >>> container_of(container) is container, container_of(lambda: container) is container
    (True, True)
    """
    if given is None:
        return Container()
    return given() if callable(given) else given


def unavailable(exc: Exception) -> dict[str, str]:
    """Log the fault, which names the server, and return the answer of status 503, which does not.

    >>> unavailable(OSError("postgresql at postgres@db:5438/app: refused"))
    {'detail': 'the storage does not answer'}
    """
    log.error("%s", exc)
    return {"detail": "the storage does not answer"}
