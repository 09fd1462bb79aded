"""Tasks that are cancelled, loops that end early, forks: nothing stays borrowed, and no call is half done."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import Container
from tests.kv.conftest import KINDS, Case, opened, settings_of
from tests.processes import forked, until
from tests.servers import SQL


@pytest.fixture(params=SQL)
def sql_async(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    with opened(request.param, True, settings_of(request.param, request, tmp_path)) as case:
        yield case


def test_a_cancelled_call_was_done_or_was_not(sql_async: Case) -> None:
    assert sql_async.loop is not None
    kv = sql_async.container.async_kv()

    async def cancelled(pauses: int) -> None:
        atomic = kv.atomic().check("none", None).put("a", b"%d" % pauses).put("b", b"%d" % pauses)
        task = asyncio.create_task(atomic.commit())
        for _ in range(pauses):
            await asyncio.sleep(0.0005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        values = await kv.get_many(["a", "b"])
        assert values.get("a") == values.get("b")

    sql_async.kv.put("first", b"")
    for pauses in range(15):
        sql_async.loop.call(cancelled, pauses)
    until(lambda: sql_async.container.async_storage().stats()["borrowed"] == 0, "nothing is borrowed")
    assert sql_async.kv.sweep() == 0, "no key that was only locked is left"


def test_a_scan_that_is_left_early_borrows_nothing(case: Case) -> None:
    case.kv.put_many({f"{number}": b"" for number in range(10)})
    pairs = case.kv.scan()
    next(pairs)
    assert case.container.storage().stats()["borrowed"] == 0
    case.kv.put("0", b"")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind in SQL])
def test_a_forked_child_uses_the_same_handle(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with Container(config=settings_of(kind, request, tmp_path)) as container:
        kv = container.kv()
        assert kv.increment("n") == 1
        assert forked(lambda: int(kv.increment("n"))) == 2
        assert kv.increment("n") == 3
