"""The runner of plans, for asyncio: on the connections of the storage handle, again after a conflict.

`running.py` is made of this file by `scripts/threads.py`.
"""

from __future__ import annotations

import asyncio  # sleeps
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from p8fs_cluster.exceptions import StorageError
from p8fs_cluster.kv.stores import Stores
from p8fs_cluster.kv.tally import INSTRUMENTS
from p8fs_cluster.providers.storage.async_handle import AsyncStorage
from p8fs_cluster.providers.storage.async_operations import AsyncCall
from p8fs_cluster.providers.storage.kv import Plan, Rows, Verbs
from p8fs_cluster.providers.storage.kv_rows import KeyRows
from p8fs_cluster.providers.storage.leases import NoTable
from p8fs_cluster.providers.storage.retries import Attempts

__all__ = ["AsyncRunner"]

T = TypeVar("T")

_RETRY = 20


class AsyncRunner:
    """Asks the engine in force."""

    def __init__(self, stores: Stores, storage: Callable[[], AsyncStorage]) -> None:
        self.stores = stores
        self._storage = stores.followed(storage)
        self._count = stores.tally.call

    async def run(self, ask: Callable[[Verbs], Plan[T]]) -> T:
        """Return what the store answers; if its table is missing, once more when it was made.

        :raises TablesMissing: the table is not there, and may not be made here.
        :raises StorageError: the store can't be reached, or failed.
        """
        INSTRUMENTS.measure(self.stores)
        self._count()
        try:
            return await self._asked(ask)
        except Exception:
            self.stores.tally.add("errors")
            raise

    async def _asked(self, ask: Callable[[Verbs], Plan[T]]) -> T:
        if self.stores.spec.embedded:
            return await asyncio.to_thread(self.stores.embedded, ask)
        rows = self.stores.rows()
        try:
            return await self._planned(rows, ask(rows))
        except NoTable:
            await asyncio.to_thread(self.stores.prepare, rows)
        return await self._planned(rows, ask(rows))

    async def _planned(self, rows: KeyRows, plan: Plan[T]) -> T:
        try:
            return await (self._transacted(rows, plan) if plan.several else self._executed(rows, plan))
        except Exception as exc:
            meant = rows.meant(exc)
            if meant is exc:
                raise
            raise meant from exc

    async def _executed(self, rows: KeyRows, plan: Plan[T]) -> T:
        steps = plan.steps()
        sql, parameters = next(steps)
        answer = await self._statement(rows.spelt(sql), parameters)
        try:
            steps.send(answer)
        except StopIteration as done:
            result: T = done.value
            return result
        raise AssertionError("several statements are a transaction")

    async def _statement(self, sql: str, parameters: Sequence[Any]) -> Rows:
        attempts = Attempts(_RETRY, None)
        while True:
            try:
                storage = self._storage()
                return await storage.executed(AsyncCall(storage), sql, parameters)
            except StorageError as exc:
                pause = attempts.pause_after(exc, self.stores.spec.engine_class().retry_pause)
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    async def _transacted(self, rows: KeyRows, plan: Plan[T]) -> T:
        async def work(connection: Any) -> T:
            steps = plan.steps()
            answer: Any = None
            async with connection.cursor() as cursor:
                try:
                    while True:
                        sql, parameters = steps.send(answer)
                        await cursor.execute(rows.spelt(sql), parameters or None)
                        answer = list(await cursor.fetchall()) if cursor.description else []
                except StopIteration as done:
                    result: T = done.value
                    return result

        return await self._storage().run_in_transaction(work, retry=_RETRY)
