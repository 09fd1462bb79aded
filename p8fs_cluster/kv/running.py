"""The runner of plans, for threads: on the connections of the storage handle, again after a conflict.

Made by `scripts/threads.py`: edit `running.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from p8fs_cluster.exceptions import StorageError
from p8fs_cluster.kv.stores import Stores
from p8fs_cluster.kv.tally import INSTRUMENTS
from p8fs_cluster.providers.storage.handle import Storage
from p8fs_cluster.providers.storage.kv import Plan, Rows, Verbs
from p8fs_cluster.providers.storage.kv_rows import KeyRows
from p8fs_cluster.providers.storage.leases import NoTable
from p8fs_cluster.providers.storage.operations import Call
from p8fs_cluster.providers.storage.retries import Attempts

__all__ = ["Runner"]

T = TypeVar("T")

_RETRY = 20


class Runner:
    """Asks the engine in force."""

    def __init__(self, stores: Stores, storage: Callable[[], Storage]) -> None:
        self.stores = stores
        self._storage = stores.followed(storage)
        self._count = stores.tally.call

    def run(self, ask: Callable[[Verbs], Plan[T]]) -> T:
        """Return what the store answers; if its table is missing, once more when it was made.

        :raises TablesMissing: the table is not there, and may not be made here.
        :raises StorageError: the store can't be reached, or failed.
        """
        INSTRUMENTS.measure(self.stores)
        self._count()
        try:
            return self._asked(ask)
        except Exception:
            self.stores.tally.add("errors")
            raise

    def _asked(self, ask: Callable[[Verbs], Plan[T]]) -> T:
        if self.stores.spec.embedded:
            return self.stores.embedded(ask)
        rows = self.stores.rows()
        try:
            return self._planned(rows, ask(rows))
        except NoTable:
            self.stores.prepare(rows)
        return self._planned(rows, ask(rows))

    def _planned(self, rows: KeyRows, plan: Plan[T]) -> T:
        try:
            return self._transacted(rows, plan) if plan.several else self._executed(rows, plan)
        except Exception as exc:
            meant = rows.meant(exc)
            if meant is exc:
                raise
            raise meant from exc

    def _executed(self, rows: KeyRows, plan: Plan[T]) -> T:
        steps = plan.steps()
        sql, parameters = next(steps)
        answer = self._statement(rows.spelt(sql), parameters)
        try:
            steps.send(answer)
        except StopIteration as done:
            result: T = done.value
            return result
        raise AssertionError("several statements are a transaction")

    def _statement(self, sql: str, parameters: Sequence[Any]) -> Rows:
        attempts = Attempts(_RETRY, None)
        while True:
            try:
                storage = self._storage()
                return storage.executed(Call(storage), sql, parameters)
            except StorageError as exc:
                pause = attempts.pause_after(exc, self.stores.spec.engine_class().retry_pause)
                if pause is None:
                    raise
            time.sleep(pause)

    def _transacted(self, rows: KeyRows, plan: Plan[T]) -> T:
        def work(connection: Any) -> T:
            steps = plan.steps()
            answer: Any = None
            with connection.cursor() as cursor:
                try:
                    while True:
                        sql, parameters = steps.send(answer)
                        cursor.execute(rows.spelt(sql), parameters or None)
                        answer = list(cursor.fetchall()) if cursor.description else []
                except StopIteration as done:
                    result: T = done.value
                    return result

        return self._storage().run_in_transaction(work, retry=_RETRY)
