"""The handle of the key-value store, for threads.

Made by `scripts/threads.py`: edit `kv.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from p8fs_cluster.exceptions import KVConflict, KVError
from p8fs_cluster.kv.cached import Cached, cached
from p8fs_cluster.kv.changes import Changes
from p8fs_cluster.kv.codecs import JSON, codec_of
from p8fs_cluster.kv.keys import Key, Space, limit_of
from p8fs_cluster.kv.scanning import BATCH
from p8fs_cluster.kv.sessions import Session
from p8fs_cluster.kv.transaction import Atomic, Transaction
from p8fs_cluster.kv.writing import Writing
from p8fs_cluster.providers.storage.retries import pause

if TYPE_CHECKING:
    from p8fs_cluster.coordination.cluster import Cluster
    from p8fs_cluster.coordination.schedule import Schedule

__all__ = ["KV"]

T = TypeVar("T")
V = TypeVar("V")
M = TypeVar("M")
P = ParamSpec("P")

_PAUSE = 0.01
"""Seconds to begin with between two runs of a transaction."""
_BREATH = 0.05
"""Seconds between two batches of a sweep, which belong to those who use the store."""


class KV(Writing[V]):
    """Values under keys, in the store of the settings: keep it, share it, inject it.

    Keys are bytes, or text that stands for its UTF-8. Each value has a version, which no other value of its key ever
    has, not after a delete either. A value with a `ttl` is gone when the store's clock says so.

    >>> from p8fs_cluster import Container
    >>> from p8fs_cluster.testing import memory_storage
    >>> def kept() -> bytes | None:
    ...     with Container().override_providers(storage=memory_storage()) as container:
    ...         codes = container.kv().namespace("codes")
    ...         codes.put("4711", b"ada", ttl=60)
    ...         return codes.take("4711")
    >>> kept()
    b'ada'
    """

    @property
    def json(self) -> KV[Any]:
        """The same keys, whose values are what JSON has."""
        return KV(self._runner, self._space, JSON)

    def typed(self, model: type[M]) -> KV[M]:
        """Return the same keys, whose values are instances of a pydantic model or a dataclass, stored as JSON.

        :raises KVError: it is none.
        """
        return KV(self._runner, self._space, codec_of(model))

    def session(self) -> Session[V]:
        """Return a context manager that gives these keys, an embedded store held for the block: `get` and
        `put` take less time then.

        Each call commits by itself, as always. A server is asked as outside of a session: nothing is borrowed.
        """
        return Session(self, self._runner.stores, self._reader, self._writer)

    def namespace(self, name: str) -> KV[V]:
        """Return the keys of a namespace, which are apart from those of every other one.

        :raises KVError: the name can't be used, or this is a namespace already.
        """
        if self._space.name:
            raise KVError(f"this is the namespace {self._space.name!r} already: ask container.kv() for another one")
        if name == "":
            raise KVError("a namespace has a name, as in kv.namespace('auth')")
        return KV(self._runner, Space(name), self._codec)

    def sweep(self, limit: int = BATCH) -> int:
        """Delete so many expired values of all namespaces at most, and return how many there were.

        Nothing shows them in any case; this gives their room back.
        """
        most = limit_of(limit)
        swept, more = 0, True
        while more and not swept:
            swept, more = self._runner.run(lambda store: store.sweep(most))
        self._runner.stores.tally.add("swept", swept)
        return swept

    def sweep_on_schedule(self, cluster: Cluster, cron: str = "* * * * *") -> Schedule:
        """Sweep at the times of a cron expression, on one node at a time, until `stop()` or the end of the container.

        A run deletes batch by batch until nothing is left, with a pause in between; where nothing has expired it is
        one look at an index.

        :raises CoordinationError: the expression can't be used, or the store has no leases.
        """
        return cluster.schedule(f"p8fs-kv-sweep:{self._runner.stores.table}", cron, self._sweep_all)

    def _sweep_all(self) -> None:
        while self.sweep():
            time.sleep(_BREATH)

    def cached(
        self, ttl: float | None, *, key: Callable[..., Key] | None = None, name: str | None = None, claim: float = 30
    ) -> Callable[[Callable[P, V]], Cached[P, V]]:
        """Return a decorator: results of a function are kept for `ttl` seconds, by its `name` and its arguments.

        Of all who ask for one that is not there, in whatever process, one computes, and the others wait. If it has not
        stored a result after `claim` seconds, another one computes, and the first one's result is not kept. `key`: a
        function of the same arguments that returns a key in place of their digest. `forget(*args)` deletes a result.

        :raises KVError: a name or a time can't be used, or the function is of the other kind.
        """
        return cached(self._runner, self._space, self._codec, ttl=ttl, key=key, name=name, claim=claim)

    def atomic(self) -> Atomic[V]:
        """Return checks and writes to gather, which `commit()` does all or not at all."""
        return Atomic(self._runner, Changes(self._space), self._codec)

    def transaction(self) -> Transaction[V]:
        """Return a context manager: its reads hold at the end of the block, when its writes are done.

        :raises KVConflict: at its end: somebody else wrote what was read; nothing was written.
        """
        return Transaction(self._runner, self._space, self._codec)

    def run_in_transaction(self, work: Callable[[Transaction[V]], T], *, retry: int = 20) -> T:
        """Return `work(transaction)`, committed. A conflict with others runs it all again, up to `retry` times.

        :raises KVConflict: the last attempt was one, too.
        """
        if isinstance(retry, bool) or not isinstance(retry, int) or retry < 0:
            raise KVError(f"retry is a number of times, at least 0, not {retry!r}")
        attempt = 0
        while True:
            try:
                with self.transaction() as transaction:
                    result = work(transaction)
            except KVConflict:
                if attempt == retry:
                    raise
            else:
                return result
            time.sleep(pause(_PAUSE, attempt))
            attempt += 1
