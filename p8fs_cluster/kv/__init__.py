"""A portable key-value store: bytes, or models, under names, on every engine alike.

Importing this loads nothing. The classes are for annotations: `container.kv()` and `.async_kv()` make them.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from p8fs_cluster.di.settings import SettingsSource
    from p8fs_cluster.kv.async_cached import AsyncCached as AsyncCached
    from p8fs_cluster.kv.async_kv import AsyncKV as AsyncKV
    from p8fs_cluster.kv.async_transaction import AsyncAtomic as AsyncAtomic
    from p8fs_cluster.kv.async_transaction import AsyncTransaction as AsyncTransaction
    from p8fs_cluster.kv.cached import Cached as Cached
    from p8fs_cluster.kv.kv import KV as KV
    from p8fs_cluster.kv.py_key_value import PyKeyValue as PyKeyValue
    from p8fs_cluster.kv.transaction import Atomic as Atomic
    from p8fs_cluster.kv.transaction import Transaction as Transaction
    from p8fs_cluster.kv.values import Counted as Counted
    from p8fs_cluster.kv.values import Entry as Entry
    from p8fs_cluster.providers.storage.async_handle import AsyncStorage
    from p8fs_cluster.providers.storage.handle import Storage
    from p8fs_cluster.providers.storage.kv import Limits as Limits

_PLACES = {
    "AsyncAtomic": "p8fs_cluster.kv.async_transaction",
    "AsyncCached": "p8fs_cluster.kv.async_cached",
    "AsyncKV": "p8fs_cluster.kv.async_kv",
    "AsyncTransaction": "p8fs_cluster.kv.async_transaction",
    "Atomic": "p8fs_cluster.kv.transaction",
    "Cached": "p8fs_cluster.kv.cached",
    "Counted": "p8fs_cluster.kv.values",
    "Entry": "p8fs_cluster.kv.values",
    "KV": "p8fs_cluster.kv.kv",
    "Limits": "p8fs_cluster.providers.storage.kv",
    "PyKeyValue": "p8fs_cluster.kv.py_key_value",
    "Transaction": "p8fs_cluster.kv.transaction",
}

__all__ = [*_PLACES, "make_async_kv", "make_kv"]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def make_kv(settings: SettingsSource, storage: Callable[[], Storage]) -> KV[bytes]:
    """Return the handle for threads; nothing is connected."""
    from p8fs_cluster.di.followed import Followed
    from p8fs_cluster.kv.codecs import BYTES
    from p8fs_cluster.kv.keys import Space
    from p8fs_cluster.kv.kv import KV
    from p8fs_cluster.kv.running import Runner
    from p8fs_cluster.kv.stores import Stores

    followed = Followed(settings, storage)
    return KV(Runner(Stores(settings, followed), followed), Space(), BYTES)


def make_async_kv(
    settings: SettingsSource, storage: Callable[[], AsyncStorage], synchronous: Callable[[], Storage]
) -> AsyncKV[bytes]:
    """Return the handle for asyncio; nothing is connected."""
    from p8fs_cluster.di.followed import Followed
    from p8fs_cluster.kv.async_kv import AsyncKV
    from p8fs_cluster.kv.async_running import AsyncRunner
    from p8fs_cluster.kv.codecs import BYTES
    from p8fs_cluster.kv.keys import Space
    from p8fs_cluster.kv.stores import Stores

    stores = Stores(settings, Followed(settings, synchronous))
    return AsyncKV(AsyncRunner(stores, Followed(settings, storage)), Space(), BYTES)
