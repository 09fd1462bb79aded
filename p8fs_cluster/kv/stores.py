"""The key-value stores of one container: how each engine in use keeps its keys, and its table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from p8fs_cluster.config.problems import variable_of
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.di.followed import Followed
from p8fs_cluster.di.settings import SettingsSource
from p8fs_cluster.exceptions import KVError, StorageError
from p8fs_cluster.kv import tables
from p8fs_cluster.kv.tally import Tally
from p8fs_cluster.providers.storage.engines import EngineSpec, built_in
from p8fs_cluster.providers.storage.handle import Storage
from p8fs_cluster.providers.storage.kv import EMBEDDED_LIMITS, Limits, Pairs, Plan, Verbs
from p8fs_cluster.providers.storage.kv_pairs import FORMAT, KeyPairs
from p8fs_cluster.providers.storage.kv_rows import KeyRows
from p8fs_cluster.providers.storage.operations import Call, Checkout

__all__ = ["Stores"]

T = TypeVar("T")


class Stores:
    """The part that both handles share. Nothing is opened: each call borrows from the storage of the container."""

    def __init__(self, settings: SettingsSource, storage: Callable[[], Storage]) -> None:
        self._settings = settings
        self._storage = self.followed(storage)
        self._rows: dict[tuple[str, str], KeyRows] = {}
        self._spec = self.followed(lambda: storage().spec)
        self.rows = self.followed(self._rows_in_force)
        """Returns the statements of the server in force, or raises KVError: the engine has no key-value store."""
        self.limits = self.followed(self._limits_in_force)
        """Returns the most bytes that the store in force takes."""
        self._direct = self.followed(self._direct_in_force)
        self.tally = Tally()

    def followed(self, ask: Callable[[], T]) -> Followed[T]:
        """Return what gives the object that is in force, and asks for it after changes alone."""
        return Followed(self._settings, ask)

    @property
    def spec(self) -> EngineSpec:
        """The engine in force."""
        return self._spec()

    @property
    def table(self) -> str:
        """The table of the settings in force."""
        return self._settings().kv_table

    def _rows_in_force(self) -> KeyRows:
        spec, table = self.spec, self.table
        found = self._rows.get((spec.provider, table))
        if found is None:
            cls = spec.kv_class()
            if cls is None:
                raise _none(spec)
            found = self._rows[spec.provider, table] = cls(table)
        return found

    def stats(self) -> dict[str, Any]:
        """Return the counts of this process, and the engine in force."""
        return {"provider": self.spec.provider, **self.tally.counts()}

    def _limits_in_force(self) -> Limits:
        limits = EMBEDDED_LIMITS if self.spec.embedded else self.rows().limits
        most = self._settings().kv_max_value
        return limits if most is None else replace(limits, value_bytes=min(most, limits.value_bytes))

    def embedded(self, ask: Callable[[Verbs], Plan[T]]) -> T:
        """Return what an embedded engine answers.

        :raises KVError: the engine has no key-value store.
        """
        checkout = Call(self._storage())
        with checkout:
            return cast("T", ask(KeyPairs(_pairs_of(checkout))).result)

    def hold(self) -> Checkout | None:
        """Return a checkout of the embedded store, to be ended by `__exit__`; None: the store is a server."""
        if not self.spec.embedded:
            return None
        checkout = Call(self._storage())
        checkout.__enter__()
        return checkout

    def at_hand(self) -> KeyPairs | None:
        """Return the embedded store in force, if it may be asked without a checkout: who closes it waits for nobody."""
        direct = self._direct()
        if direct is not None and not direct.pairs.usable:
            self._direct.forget()
            direct = self._direct()
        return direct

    def _direct_in_force(self) -> KeyPairs | None:
        if not self.spec.embedded:
            return None
        checkout = Call(self._storage())
        with checkout:
            pairs = _pairs_of(checkout)
            return KeyPairs(pairs) if pairs.direct else None

    def prepare(self, rows: KeyRows) -> None:
        """Make the table, where that is allowed, or tell how it is made.

        :raises TablesMissing: it is not there, and may not be made here.
        """
        store = Executing(self._storage(), rows)
        if may_create(self._settings()):
            tables.create(store, rows)
        else:
            tables.of(rows).require(store, tables.PATIENCE)

    def version(self) -> int:
        """Return the version of the table; 0: it is not there."""
        rows = self.rows()
        return tables.of(rows).version_of(Executing(self._storage(), rows), tables.PATIENCE)

    def init(self) -> tuple[int, list[int]]:
        """Make or upgrade the table, and return its version and those that were added; an embedded store needs none.

        :raises StorageError: it can't be made; what was done stays, and the next call goes on from there.
        """
        if self.spec.embedded:
            return FORMAT, []
        rows = self.rows()
        added = tables.create(Executing(self._storage(), rows), rows)
        return self.version(), added


def _pairs_of(checkout: Checkout) -> Pairs:
    pairs: Callable[[], Pairs] | None = getattr(checkout.lifecycle.engine, "pairs", None)
    if pairs is None:
        raise _none(checkout.lifecycle.spec)
    return pairs()


class Executing:
    """Statements of tables, through the storage handle."""

    def __init__(self, storage: Storage, rows: KeyRows) -> None:
        self._storage = storage
        self._rows = rows

    def execute(self, sql: str, parameters: Sequence[Any], seconds: float) -> list[tuple[Any, ...]]:
        """Run one statement, committed, and return its rows.

        :raises NoTable: a table is not there.
        """
        try:
            return self._storage.execute(self._rows.spelt(sql), parameters, seconds)
        except StorageError as exc:
            meant = self._rows.meant(exc)
            if meant is exc:
                raise
            raise meant from exc


def may_create(settings: P8FSConfig) -> bool:
    """Return whether the table may be made at first use: as `kv_create` says, else in development only."""
    return settings.is_development if settings.kv_create is None else settings.kv_create


def _none(spec: EngineSpec) -> KVError:
    able = " or ".join(each.provider for each in built_in() if each.kv or each.embedded)
    return KVError(f"{spec.provider} has no key-value store: it needs {variable_of('storage_provider')}={able}")
