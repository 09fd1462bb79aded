"""What an installed package's engine is for the rest of the package: here SQLite, one folder and one spec."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from p8fs_cluster import Container
from p8fs_cluster.config.section import claim
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import ConfigurationError, StorageClosed, StorageError
from p8fs_cluster.testing import memory_storage
from tests.command import p8fs_cluster
from tests.engines.installed import install
from tests.engines.sqlite import SPEC, SQLiteSettings
from tests.processes import ROOT


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(install(tmp_path / "site"))
    claim(SQLiteSettings)
    return {"storage_provider": "sqlite", "sqlite_path": tmp_path / "app.db"}


def test_sql_through_both_handles(settings: dict[str, Any]) -> None:
    async def counted(container: Container) -> Any:
        return await container.async_storage().execute("SELECT count(*) FROM notes WHERE title = %s", ("a",))

    with Container(config=settings) as container:
        container.storage().execute("CREATE TABLE notes (title TEXT)")
        container.storage().execute("INSERT INTO notes VALUES (%s)", ("a",))
        assert asyncio.run(counted(container)) == [(1,)]
        with pytest.raises(StorageError, match="no such table"):
            container.storage().execute("SELECT * FROM no_notes")


def test_sqlalchemy_over_its_pool(settings: dict[str, Any]) -> None:
    with Container(config=settings) as container:
        engine = container.engine()
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("CREATE TABLE notes (title TEXT)"))
            connection.execute(sqlalchemy.text("INSERT INTO notes VALUES (:title)"), {"title": "a"})
        assert container.storage().execute("SELECT title FROM notes") == [("a",)]
        with container.session() as session:
            session.execute(sqlalchemy.text("INSERT INTO notes VALUES ('b')"))
        assert container.storage().execute("SELECT count(*) FROM notes") == [(1,)], "it was not committed"
        assert container.storage().stats()["borrowed"] == 0


def test_in_memory_in_its_place(settings: dict[str, Any]) -> None:
    with Container(config=settings) as container, container.storage.override(memory_storage(container.config)):
        assert container.storage().provider == "memory"
        with container.storage().connection() as connection:
            connection[b"key"] = b"value"


def test_its_settings_are_followed(settings: dict[str, Any], tmp_path: Path) -> None:
    with Container(config=settings) as container:
        storage = container.storage()
        storage.execute("CREATE TABLE here (a INTEGER)")
        elsewhere = container.config.override({"sqlite_path": tmp_path / "elsewhere.db"})
        with elsewhere, pytest.raises(StorageError, match="no such table"):
            storage.execute("SELECT * FROM here")
        assert storage.execute("SELECT * FROM here") == []
    with pytest.raises(StorageClosed):
        storage.execute("SELECT 1")


def test_a_fault_names_its_setting(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    container = Container(config={**settings, "sqlite_path": tmp_path / "file" / "app.db"})
    with container, pytest.raises(StorageError, match="P8FS_SQLITE_PATH"):
        container.storage().open()


def test_the_command_checks_it(settings: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "site"
    (path / "tests").symlink_to(ROOT / "tests")
    done = p8fs_cluster("check", path=path, **settings, strict=True)
    assert (done.returncode, "SQLite 3" in done.stdout) == (0, True), done.stdout + done.stderr


def test_the_key_is_derived(settings: dict[str, Any], tmp_path: Path) -> None:
    now = P8FSConfig(**settings)
    assert SPEC.key(now) == SPEC.key(now.with_changes({"pg_host": "other", "log_level": "DEBUG"}))
    for change in ({"sqlite_path": tmp_path / "other"}, {"pool_max_size": 3}):
        assert SPEC.key(now) != SPEC.key(now.with_changes(change))


class TestNames:
    def test_one_that_is_not_installed(self, settings: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError, match="'postgresql', 'tidb', 'rocksdb' or 'sqlite'"):
            P8FSConfig(storage_provider="oracle")

    @pytest.mark.parametrize(
        ("points", "fault"),
        [
            ("broken = tests.engines.nothing:SPEC", "the engine broken is installed, and can't be loaded"),
            ("broken = tests.engines.sqlite:nothing", "the engine broken is installed, and can't be loaded"),
        ],
    )
    def test_one_that_cannot_be_loaded(
        self, points: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.syspath_prepend(install(tmp_path / "broken", points))
        with pytest.raises(ConfigurationError, match=fault):
            P8FSConfig(storage_provider="broken")

    def test_one_that_is_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(install(tmp_path / "wrong", "mislabelled = tests.engines.sqlite:SPEC"))
        container = Container(config={"storage_provider": "mislabelled"})
        with container, pytest.raises(ConfigurationError, match="no EngineSpec of that name"):
            container.storage().open()
