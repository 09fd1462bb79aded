"""A few connections of one purpose: they follow the settings, and nobody's is ended while it is used."""

from __future__ import annotations

from typing import Any

import pytest

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.di.settings import SettingsProvider
from p8fs_cluster.exceptions import StorageClosed
from p8fs_cluster.providers.storage.direct import Direct
from p8fs_cluster.providers.storage.engines import spec_of


class Engine:
    """Lends numbers."""

    def __init__(self, settings: P8FSConfig) -> None:
        self.host = settings.pg_host
        self.lent: list[int] = []
        self.released: list[BaseException | None] = []
        self.closed = False

    def acquire(self, deadline: float) -> int:
        self.lent.append(len(self.released))
        return self.lent[-1]

    def release(self, connection: int, exc: BaseException | None) -> None:
        self.released.append(exc)

    def execute(self, connection: int, sql: str, parameters: Any) -> list[Any]:
        if sql == "fail":
            raise ZeroDivisionError
        return [(self.host, sql, parameters)]

    def stats(self) -> dict[str, int]:
        return {"size": len(self.lent), "idle": len(self.released)}

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def settings() -> SettingsProvider:
    settings = SettingsProvider()
    settings.override({"pg_host": "one"})
    return settings


@pytest.fixture
def direct(settings: SettingsProvider) -> Direct:
    return Direct(settings, spec_of, Engine)


def test_a_statement_is_run_and_its_connection_given_back(direct: Direct) -> None:
    assert direct.execute("SELECT 1", (1,), 5.0) == [("one", "SELECT 1", (1,))]
    engine: Any = direct.engine()
    assert engine.released == [None]
    with pytest.raises(ZeroDivisionError):
        direct.execute("fail", (), 5.0)
    assert isinstance(engine.released[1], ZeroDivisionError)


def test_other_settings_mean_other_connections(settings: SettingsProvider, direct: Direct) -> None:
    first: Any = direct.engine()
    assert direct.engine() is first
    with settings.override({"pg_host": "two"}):
        assert direct.execute("SELECT 1", (), 5.0)[0][0] == "two"
        assert first.closed, "nobody had borrowed from it"
    with settings.override({"api_port": 9000}):
        again: Any = direct.engine()
    assert direct.engine() is again, "settings that it does not depend on change nothing"


def test_a_connection_in_use_is_ended_by_its_borrower_alone(settings: SettingsProvider, direct: Direct) -> None:
    with direct.connection(5.0):
        first: Any = direct.engine()
        with settings.override({"pg_host": "two"}):
            direct.execute("SELECT 1", (), 5.0)
            assert not first.closed
    assert first.closed
    assert first.released == [None]


def test_closed_it_refuses(direct: Direct) -> None:
    engine: Any = direct.engine()
    direct.close()
    assert engine.closed
    with pytest.raises(StorageClosed):
        direct.execute("SELECT 1", (), 5.0)
    direct.close()
