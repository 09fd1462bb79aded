"""The sweeper: small batches, on one node at a time, by an index."""

from __future__ import annotations

from typing import Any

import pytest

from p8fs_cluster import Container
from p8fs_cluster.kv.stores import Stores
from tests.kv.conftest import Case, empty
from tests.processes import until

SCHEDULED = pytest.mark.parametrize(
    "case", ["rocksdb", "async rocksdb", "postgresql", "async postgresql", "mariadb"], indirect=True
)


@SCHEDULED
def test_a_schedule_sweeps_in_batches(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("async_kv", "kv"):
        monkeypatch.setattr(f"p8fs_cluster.kv.{module}.BATCH", 2)
        monkeypatch.setattr(f"p8fs_cluster.kv.{module}._BREATH", 0.001)
    sweeps: list[int] = []
    kv = case.kv.namespace("old")
    for number in range(5):
        kv.put(f"{number}", b"", ttl=100)
        case.end("old", f"{number}")
    kv.put("new", b"", ttl=100)
    container = case.container
    with container.config.override({"cluster_create": True}):
        cluster: Any = container.async_cluster() if case.loop else container.cluster()
        monkeypatch.setattr(type(case.kv._behind if case.loop else case.kv), "sweep", _counting(case, sweeps))
        schedule = case.kv.sweep_on_schedule(cluster, "* * * * * *")
        until(lambda: sum(sweeps) >= 5, "all are swept")
        schedule.stop()
    assert sweeps[:3] == [2, 2, 1] and kv.exists("new") and case.container.kv().sweep() == 0


def _counting(case: Case, sweeps: list[int]) -> Any:
    from p8fs_cluster.kv import KV, AsyncKV

    original: Any = AsyncKV.sweep if case.loop else KV.sweep

    async def later(self: Any) -> int:
        sweeps.append(await original(self, 2))
        return sweeps[-1]

    def now(self: Any) -> int:
        sweeps.append(original(self, 2))
        return sweeps[-1]

    return later if case.loop else now


def test_it_finds_what_has_expired_by_the_index(postgresql_server: Any) -> None:
    """A volatile clock would read all that has an end, each time."""
    with Container(config={**postgresql_server.settings, "kv_create": True}) as container:
        container.kv().put("a", b"", ttl=100)
        rows = Stores(container.config, container.storage).rows()
        sql, parameters = next(rows.sweep(10).steps())
        with container.storage().connection() as connection:
            connection.execute("SET LOCAL enable_seqscan = off")
            connection.execute("SET LOCAL enable_bitmapscan = off")
            plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {rows.spelt(sql)}", parameters))
        assert "Index Cond: (expires_at <=" in plan, plan


def test_a_locked_row_is_left_for_later(postgresql_server: Any) -> None:
    with Container(config={**postgresql_server.settings, "kv_create": True}) as container:
        kv, storage = container.kv().namespace("locked"), container.storage()
        kv.exists("a")
        empty(postgresql_server.settings)
        kv.put_many({"a": b"", "b": b""}, ttl=100)
        storage.execute("UPDATE p8fs_kv SET expires_at = 1")
        with storage.connection() as connection:
            connection.execute("SELECT 1 FROM p8fs_kv WHERE k = %s FOR UPDATE", (b"locked\0a",))
            assert kv.sweep() == 1
        assert kv.sweep() == 1
