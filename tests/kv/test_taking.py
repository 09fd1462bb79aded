"""Codes that serve once, wanted by 64 threads at once: each is had by one. By 64 in processes: make chaos-kv."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.chaos.kv.keys import NAMESPACE
from tests.chaos.kv.taking import give, take_all, wrong
from tests.chaos.lines import now
from tests.kv.conftest import LOCAL, Case

CODES = 300


@pytest.mark.parametrize("thread_case", LOCAL, indirect=True)
def test_callers_in_threads(thread_case: Case) -> None:
    kv = thread_case.container.kv().namespace(NAMESPACE)
    give(kv, CODES)
    begun = now()
    with ThreadPoolExecutor(64) as pool:
        taken = list(pool.map(lambda _: take_all(kv, CODES, begun, slot=0.003), range(64)))
    assert not wrong(taken, CODES)


def test_a_code_that_two_have_or_nobody_is_wrong() -> None:
    assert wrong([[0, 1], [2]], 3) == []
    assert wrong([[0, 1], [1]], 3) == ["serves-once:1: 2 callers", "serves-once:2: 0 callers"]
