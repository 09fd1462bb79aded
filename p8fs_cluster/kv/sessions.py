"""Blocks of many calls on one store."""

from __future__ import annotations

import asyncio
from copy import copy
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from p8fs_cluster.providers.storage.operations import Checkout

if TYPE_CHECKING:
    from p8fs_cluster.di.followed import Followed
    from p8fs_cluster.kv.async_kv import AsyncKV
    from p8fs_cluster.kv.direct import Reader, Writer
    from p8fs_cluster.kv.kv import KV
    from p8fs_cluster.kv.stores import Stores

__all__ = ["AsyncSession", "Session"]

V = TypeVar("V")


class Session(Generic[V]):
    """A block in which an embedded store is held; settings that change are followed by the next one."""

    _checkout: Checkout | None = None

    def __init__(
        self, kv: KV[V], stores: Stores, reader: Followed[Reader[V] | None], writer: Followed[Writer[V] | None]
    ) -> None:
        self._kv, self._stores = kv, stores
        self._reader, self._writer = reader, writer

    def __enter__(self) -> KV[V]:
        """Hold the store, whose calls then stand in place of the handle's methods."""
        self._checkout = self._stores.hold()
        if self._checkout is None:
            return self._kv
        held = copy(self._kv)
        calls = {"get": self._reader(), "put": self._writer()}
        held.__dict__.update({name: call for name, call in calls.items() if call is not None})
        return held

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._checkout is not None:
            self._checkout.__exit__(exc_type, exc, traceback)


class AsyncSession(Generic[V]):
    """The same for asyncio, where each call goes to a thread all the same."""

    _checkout: Checkout | None = None

    def __init__(self, kv: AsyncKV[V], stores: Stores, *_: object) -> None:
        self._kv, self._stores = kv, stores

    async def __aenter__(self) -> AsyncKV[V]:
        self._checkout = await asyncio.to_thread(self._stores.hold)
        return self._kv

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._checkout is not None:
            await asyncio.to_thread(self._checkout.__exit__, exc_type, exc, traceback)
