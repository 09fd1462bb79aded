"""The storage handle, safe to keep and to share, over engines that are swapped when the settings change."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.di import context
from p8fs_cluster.di.settings import SettingsSource
from p8fs_cluster.exceptions import StorageError
from p8fs_cluster.providers.storage.engine_lifecycle import ThreadEngineLifecycle
from p8fs_cluster.providers.storage.engine_table import EngineTable
from p8fs_cluster.providers.storage.engines import EngineSpec, SpecOf, spec_of
from p8fs_cluster.providers.storage.keys import Span
from p8fs_cluster.providers.storage.leak_monitor import watch_holders
from p8fs_cluster.providers.storage.observability import measure
from p8fs_cluster.providers.storage.operations import Checkout, Operations

__all__ = ["Storage"]


class Storage(Operations):
    """A handle on the store that the settings name: keep it, share it, inject it; borrow a connection with `with`.

    The block's end commits, an exception rolls back (a store without transactions keeps the writes), and the
    connection always goes back. What is borrowed is the driver's own connection. Settings that change are followed by
    the next borrower.

    >>> from p8fs_cluster.testing import memory_storage
    >>> storage = memory_storage()
    >>> with storage.connection() as connection:
    ...     connection[b"key"] = b"value"
    >>> with storage as connection:
    ...     connection[b"key"]
    b'value'
    """

    _kind = "storage"

    def __init__(self, settings: SettingsSource, spec_of: SpecOf = spec_of) -> None:
        super().__init__(settings, spec_of)

    def open(self) -> None:
        """Open the engine in force now, rather than at the first borrower.

        :raises StorageUnavailable: it can't be reached, or refuses us.
        """
        self._adopt(None)

    def scan(
        self, prefix: bytes = b"", *, start: bytes | None = None, stop: bytes | None = None, reverse: bool = False
    ) -> Generator[tuple[bytes, bytes], None, None]:
        """Yield the keys of an embedded store and their values, in the order of bytes, as they are now.

        `prefix`: what the keys begin with; `start`, `stop`: the first key, and the first that is left out. The store is
        borrowed until the last pair, or until the iterator is closed or forgotten. rocksdict's own `iter()` crashes the
        process when it is moved past its end.

        :raises StorageError: the store is a server, which is asked by SQL.

        >>> from p8fs_cluster.testing import memory_storage
        >>> storage = memory_storage()
        >>> with storage.connection() as connection:
        ...     connection[b"note:1"], connection[b"note:2"], connection[b"user:1"] = b"a", b"b", b"c"
        >>> list(storage.scan(b"note:", reverse=True))
        [(b'note:2', b'b'), (b'note:1', b'a')]
        """
        checkout = self.connection()
        with checkout as connection:
            scan = getattr(checkout.lifecycle.engine, "scan", None)
            if scan is None:
                raise StorageError(f"{checkout.lifecycle.spec.provider} has no keys to scan: ask it by SQL")
            yield from scan(connection, Span.of(prefix, start, stop), reverse)

    def checkpoint(self, folder: str | Path) -> None:
        """Write a whole copy of an embedded store into a new folder: its backup, while it is in use.

        :raises StorageError: it can't be written, or the store has no checkpoints but tools of its own for that.
        """
        checkout = self.connection()
        with checkout:
            lifecycle = checkout.lifecycle
            copy = getattr(lifecycle.engine, "checkpoint", None)
            if copy is None:
                spec = lifecycle.spec
                raise StorageError(f"{spec.provider} has no checkpoints: use {spec.backup}")
            copy(Path(folder))

    def enter(self, checkout: Checkout, deadline: float | None) -> ThreadEngineLifecycle:
        table = self._table
        lifecycle = table.in_force if table.epoch is context.epoch else None
        if lifecycle is not None and not context.in_force.get().isolated and lifecycle.enter(checkout):
            return lifecycle
        while True:
            lifecycle = self._adopt(deadline)
            if lifecycle.enter(checkout):
                return lifecycle

    def _adopt(self, deadline: float | None) -> ThreadEngineLifecycle:
        epoch = context.epoch
        lifecycle = self._table.wanted(self._settings())
        lifecycle.open(deadline)
        watch_holders(self)
        measure(self)
        self._table.put_in_force(lifecycle, epoch)
        return lifecycle

    def _verify(self, snapshot: P8FSConfig) -> None:
        if self._table.open_ones and not self._table.known(snapshot):
            self._table.wanted(snapshot).open()

    def _tables(self) -> tuple[EngineTable[ThreadEngineLifecycle]]:
        return (self._table,)

    def _forget(self) -> None:
        self._table = EngineTable(self._settings, self._spec_of, _made)


def _made(spec: EngineSpec, snapshot: P8FSConfig) -> ThreadEngineLifecycle:
    return ThreadEngineLifecycle(spec.engine_class()(snapshot), spec, snapshot.pool_drain_timeout)
