"""Who holds a connection is known: who holds it for long, who never gives it back, and who keeps others waiting."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from p8fs_cluster.exceptions import PoolExhausted
from p8fs_cluster.providers.storage.leak_monitor import report
from tests.conformance.cases import Case
from tests.processes import until

HERE = Path(__file__).name


def test_a_pool_that_is_exhausted_says_who_holds_it(sql_case: Case) -> None:
    with sql_case.container.config.override({"pool_max_size": 1, "pool_timeout": 0.1}):  # noqa: SIM117
        with sql_case.storage, pytest.raises(PoolExhausted) as caught:
            sql_case.storage.execute("SELECT 1")
    assert f"{HERE}:" in str(caught.value)
    assert "in test_a_pool_that_is_exhausted_says_who_holds_it" in str(caught.value)


def test_sqlalchemys_connections_are_held_by_whoever_uses_them(orm_case: Case) -> None:
    with orm_case.container.config.override({"pool_max_size": 1, "pool_timeout": 0.1}):  # noqa: SIM117
        with orm_case.container.engine().connect(), pytest.raises(PoolExhausted) as caught:
            orm_case.storage.execute("SELECT 1")
    assert "in test_sqlalchemys_connections_are_held_by_whoever_uses_them" in str(caught.value)
    assert "sqlalchemy/" not in str(caught.value)


def test_who_holds_is_listed(case: Case) -> None:
    assert case.storage.holders() == []
    with case.storage, case.storage.connection():
        first, second = case.storage.holders()
        line = test_who_holds_is_listed.__code__.co_firstlineno + 2
        for lease in (first, second):
            assert f"{HERE}:{line} in test_who_holds_is_listed" in str(lease)
    assert case.storage.holders() == []


def test_who_holds_for_long_is_told_once(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    with case.container.config.override({"slow_borrow": 0.001}), case.storage:
        until(lambda: case.storage.holders()[0].told or report(case.storage), "it is told")
        report(case.storage)
    assert caplog.text.count("is held for longer than P8FS_SLOW_BORROW=0.001 s") == 1
    assert f"{HERE}:" in caplog.text


def test_it_is_told_by_itself(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with case.container.config.override({"slow_borrow": 0.01}), case.storage:
        until(lambda: "is held for longer" in caplog.text, "the thread that looks has seen it")


def test_slow_statements_are_logged_without_their_values(sql_case: Case, caplog: pytest.LogCaptureFixture) -> None:
    with sql_case.container.config.override({"slow_query": 0.000001}):
        sql_case.storage.execute("SELECT %s", ("hunter2",))
    assert "a statement took" in caplog.text
    assert "SELECT" in caplog.text
    assert "hunter2" not in caplog.text
