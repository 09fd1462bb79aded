"""What an engine's key is made of, and what a change of the settings does to engines, with engines that are fakes."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import SecretStr

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.di.settings import SettingsProvider
from p8fs_cluster.exceptions import StorageClosed, StorageError
from p8fs_cluster.providers.storage.async_handle import AsyncStorage
from p8fs_cluster.providers.storage.engines import EngineSpec, spec_of
from p8fs_cluster.providers.storage.handle import Storage

SHARED = {"pool_max_size", "pool_timeout", "pool_max_lifetime", "pool_reset", "query_timeout", "slow_query"}
DEPENDS = {
    "postgresql": SHARED | {"service_name", "pod_name"},
    "tidb": SHARED | {"service_name", "environment"},
    "rocksdb": set(),
}
PREFIX = {"postgresql": "pg_", "tidb": "tidb_", "rocksdb": "rocksdb_"}
OTHER = {
    "pg_sslmode": "require",
    "pg_target_session_attrs": "primary",
    "tidb_txn_mode": "optimistic",
    "rocksdb_mode": "read-only",
    "pool_reset": "always",
    "log_format": "json",
    "log_level": "DEBUG",
    "log_levels": {"a": "DEBUG"},
    "log_file": "other.log",
    "storage_provider": None,
}


def another(name: str, value: Any) -> Any:
    """Return another value than a setting has."""
    if name in OTHER:
        return OTHER[name]
    if isinstance(value, bool) or value is None:
        field = P8FSConfig.model_fields[name]
        return not value if isinstance(value, bool) else Path("x") if "Path" in str(field.annotation) else None
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, SecretStr):
        return "other"
    return Path("other") if isinstance(value, Path) else f"{value}x"


@pytest.mark.parametrize("provider", DEPENDS)
def test_each_setting_of_an_engine_is_in_its_key_and_no_other(provider: str) -> None:
    settings = P8FSConfig(storage_provider=provider, query_timeout=30, slow_query=1)
    spec, asked = spec_of(settings), 0
    for name, value in dict(settings).items():
        other = another(name, value)
        if other is None:
            continue
        asked += 1
        changed = spec.key(settings.with_changes({name: other})) != spec.key(settings)
        assert changed is (name.startswith(PREFIX[provider]) or name in DEPENDS[provider]), name
    assert asked > 30


def test_one_directory_in_two_spellings_is_one_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = P8FSConfig(storage_provider="rocksdb", rocksdb_path="data/notes")
    spec = spec_of(settings)
    for spelling in (tmp_path / "data" / "notes", "data/../data/notes", "./data/notes"):
        assert spec.key(settings.with_changes({"rocksdb_path": spelling})) == spec.key(settings)


class FakeEngine:
    """An engine whose opening the test may hold up."""

    questions: ClassVar[tuple[str, ...]] = ()
    while_it_opens: ClassVar[Any] = None
    made: ClassVar[list[FakeEngine]] = []

    def __init__(self, settings: P8FSConfig) -> None:
        self.name = settings.service_name
        self.closed = 0
        self.made.append(self)

    def open(self) -> None:
        hook, FakeEngine.while_it_opens = FakeEngine.while_it_opens, None
        if hook:
            hook()

    def close(self) -> None:
        self.closed += 1

    def acquire(self, deadline: float | None, holder: Any = None) -> str:
        return self.name

    def release(self, connection: Any, exc: BaseException | None) -> None:
        pass

    def execute(self, connection: Any, sql: str, parameters: Any) -> list[Any]:
        return [(self.name,)]

    def ping(self, connection: Any) -> None:
        pass

    def cut(self, connection: Any) -> None:
        pass

    @staticmethod
    def retry_pause(exc: BaseException) -> float | None:
        return None

    @staticmethod
    def inspected(answers: Any) -> str:
        return ""

    def stats(self) -> dict[str, int]:
        return {"size": 1, "idle": 1, "waiting": 0, "max_size": 1}


class FakeAsyncEngine(FakeEngine):
    async def open(self) -> None:  # type: ignore[override]
        super().open()
        await asyncio.sleep(0)

    async def acquire(self, deadline: float | None, holder: Any = None) -> str:  # type: ignore[override]
        return self.name

    async def release(self, connection: Any, exc: BaseException | None) -> None:  # type: ignore[override]
        pass

    async def execute(self, connection: Any, sql: str, parameters: Any) -> list[Any]:  # type: ignore[override]
        return [(self.name,)]


SPEC = EngineSpec(provider="fake", engine=FakeEngine, async_engine=FakeAsyncEngine, shares=("service_name",))


@pytest.fixture
def settings() -> SettingsProvider:
    FakeEngine.made.clear()
    FakeEngine.while_it_opens = None
    provider = SettingsProvider()
    provider.override(P8FSConfig(service_name="first"))
    return provider


class Side:
    """Either handle, asked through functions that return."""

    def __init__(self, settings: SettingsProvider, asynchronous: bool) -> None:
        self._loop = asyncio.new_event_loop()
        storage = Storage(settings, lambda _: SPEC)
        self._asynchronous = asynchronous
        self._threads = storage
        self.storage: Any = AsyncStorage(settings, lambda: storage, lambda _: SPEC) if asynchronous else storage

    def asked(self) -> str:
        """Return the name of the engine that serves."""
        if self._asynchronous:
            found: Any = self._loop.run_until_complete(self.storage.execute("?"))
        else:
            found = self.storage.execute("?")
        return str(found[0][0])

    def settle(self) -> None:
        self._loop.run_until_complete(asyncio.sleep(0))

    def close(self) -> None:
        self._loop.close()


@pytest.fixture(params=[False, True], ids=["threads", "asyncio"])
def side(request: pytest.FixtureRequest, settings: SettingsProvider) -> Any:
    side = Side(settings, request.param)
    yield side
    side.close()


def test_settings_that_change_while_their_engine_is_opened(side: Side, settings: SettingsProvider) -> None:
    """The engine that comes too late serves whoever waited for it, and nobody after that."""

    def change() -> None:
        settings.reset_override()
        settings.override(P8FSConfig(service_name="second"))

    FakeEngine.while_it_opens = change
    assert side.asked() in {"first", "second"}
    assert [side.asked() for _ in range(3)] == ["second"] * 3
    side.settle()
    assert [engine.closed for engine in FakeEngine.made if engine.name == "first"] == [1]
    assert side.storage.stats()["swaps"] == 0, "the first one never came in force"
    assert side.storage.stats()["engines"] == 1


def test_a_change_back_while_nobody_asks(side: Side, settings: SettingsProvider) -> None:
    assert side.asked() == "first"
    with settings.override({"service_name": "second"}):
        assert side.asked() == "second"
    side.settle()
    assert side.asked() == "first"
    assert sorted((engine.name, engine.closed) for engine in FakeEngine.made) == [("first", 0), ("second", 1)]
    assert side.storage.stats()["swaps"] == 2


def test_closed_and_served_again(side: Side) -> None:
    assert side.asked() == "first"
    for _, _, close in side.storage.opened():
        close()
    side.settle()
    with pytest.raises(StorageClosed):
        side.asked()
    assert FakeEngine.made[0].closed == 1
    side.storage.reopen()
    assert side.asked() == "first"
    assert len(FakeEngine.made) == 2


def test_an_engine_that_can_not_be_opened_is_tried_again(side: Side) -> None:
    def fail() -> None:
        raise StorageError("not yet")

    FakeEngine.while_it_opens = fail
    with pytest.raises(StorageError, match="not yet"):
        side.asked()
    assert side.asked() == "first"


def test_both_handles_have_the_same_names() -> None:
    def public(cls: type) -> set[str]:
        return {name for name in dir(cls) if not name.startswith("_")}

    assert public(Storage) == public(AsyncStorage)


def test_closed_while_it_is_opened(settings: SettingsProvider) -> None:
    """The thread that opens an engine is the one that closes it, if nobody wants it any more."""
    storage = Storage(settings, lambda _: SPEC)
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        go_on.wait(10)

    FakeEngine.while_it_opens = wait
    faults: list[BaseException] = []

    def use() -> None:
        try:
            storage.execute("?", timeout=0.05)
        except StorageError as exc:
            faults.append(exc)

    thread = threading.Thread(target=use)
    thread.start()
    begun.wait(10)
    thread.join()  # it has waited for as long as it would
    storage.shut()
    [engine] = FakeEngine.made
    assert engine.closed == 0
    go_on.set()
    [lifecycle] = storage._table._engines.values()
    assert lifecycle.gone.wait(10)
    assert (engine.closed, len(faults)) == (1, 1)
