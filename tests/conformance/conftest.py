"""Each engine in turn; a fourth one joins by one line here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import Container
from p8fs_cluster.testing import memory_storage
from tests.conformance.cases import Bytes, Case, Sql

SMALL = 3
"""Connections in the pool, few enough to be exhausted."""


@pytest.fixture(params=["memory", "rocksdb", "postgresql", "tidb"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """Every engine."""
    with _case(request, tmp_path) as case:
        yield case


@pytest.fixture(params=["postgresql", "tidb"])
def sql_case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """Those that declare SQL."""
    with _case(request, tmp_path) as case:
        yield case


@contextlib.contextmanager
def _case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    settings: dict[str, Any] = {"storage_provider": "rocksdb", "rocksdb_path": tmp_path / "rocksdb"}
    elsewhere: dict[str, Any] = {"rocksdb_path": tmp_path / "elsewhere"}
    if request.param in ("postgresql", "tidb"):
        settings = request.getfixturevalue(f"{request.param}_server").settings
        elsewhere = {"service_name": "elsewhere"}
    with Container(config={**settings, "pool_max_size": SMALL, "pool_timeout": 5}) as container:
        if request.param == "memory":
            container.storage.override(memory_storage(container.config))
        storage = container.storage()
        sql = storage.sqlalchemy_url is not None
        yield Case(
            container=container,
            storage=storage,
            access=Sql(storage) if sql else Bytes(),
            elsewhere=elsewhere,
            transactional=storage.transactional,
            sql=sql,
            size=lambda: storage.stats()["borrowed"],
        )
        if request.param == "memory":
            storage.shut()
