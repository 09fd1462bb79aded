"""Leases, locks, leaders and nodes: what many processes need to work together.

Importing this loads nothing. The classes are for annotations: `container.cluster()` and `.async_cluster()` make them.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from p8fs_cluster.coordination.async_cluster import AsyncCluster as AsyncCluster
    from p8fs_cluster.coordination.async_leader import AsyncLeader as AsyncLeader
    from p8fs_cluster.coordination.async_lock import AsyncLock as AsyncLock
    from p8fs_cluster.coordination.cluster import Cluster as Cluster
    from p8fs_cluster.coordination.coordinators import Coordinators as Coordinators
    from p8fs_cluster.coordination.leader import Leader as Leader
    from p8fs_cluster.coordination.lock import Lock as Lock
    from p8fs_cluster.coordination.terms import Token as Token
    from p8fs_cluster.coordination.views import Change as Change
    from p8fs_cluster.coordination.views import Node as Node
    from p8fs_cluster.coordination.views import View as View
    from p8fs_cluster.di.settings import SettingsSource
    from p8fs_cluster.providers.storage.handle import Storage

_PLACES = {
    "AsyncCluster": "async_cluster",
    "AsyncLeader": "async_leader",
    "AsyncLock": "async_lock",
    "Change": "views",
    "Cluster": "cluster",
    "Coordinators": "coordinators",
    "Leader": "leader",
    "Lock": "lock",
    "Node": "views",
    "Token": "terms",
    "View": "views",
}

__all__ = [*_PLACES, "make_async_cluster", "make_cluster", "make_coordinators"]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def make_coordinators(settings: SettingsSource, storage: Callable[[], Storage]) -> Coordinators:
    """Return what the handles of a container share; nothing is connected."""
    from p8fs_cluster.coordination.coordinators import Coordinators

    return Coordinators(settings, storage)


def make_cluster(coordinators: Coordinators) -> Cluster:
    """Return the handle for threads."""
    from p8fs_cluster.coordination.cluster import Cluster

    return Cluster(coordinators)


def make_async_cluster(coordinators: Coordinators) -> AsyncCluster:
    """Return the handle for asyncio."""
    from p8fs_cluster.coordination.async_cluster import AsyncCluster

    return AsyncCluster(coordinators)
