"""Sources of an application's own, files for an environment, another prefix, and files that changed since."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from p8fs_cluster import Container, Section, StorageUnavailable, validate_configuration
from p8fs_cluster.cli.completion import complete_setting
from p8fs_cluster.config import P8FSConfig, add_source, config, remove_source, set_prefix
from p8fs_cluster.config.sources import registered
from p8fs_cluster.config.spelling import judge
from p8fs_cluster.exceptions import ConfigurationError
from p8fs_cluster.health.checks import steps


class Vault:
    """A secret manager that counts how often it is asked."""

    def __init__(self, **values: Any) -> None:
        self.values: dict[str, Any] = values
        self.asked = 0

    def __call__(self) -> dict[str, Any]:
        self.asked += 1
        if "fault" in self.values:
            raise OSError(f"{self.values['fault']} hunter2")
        return self.values


class TestOwnSources:
    def test_between_the_environment_and_files(self, monkeypatch: pytest.MonkeyPatch) -> None:
        add_source("vault", Vault(pg_password="s3cret", PG_HOST="vault", tidb_host="vault\n"))
        Path(".env").write_text("P8FS_PG_HOST=dotenv\n")
        monkeypatch.setenv("P8FS_TIDB_HOST", "environment")
        settings = P8FSConfig()
        assert (settings.pg_host, settings.tidb_host) == ("vault", "environment")
        assert settings.pg_password.get_secret_value() == "s3cret"
        told = str(settings.explain("pg_host"))
        assert told.startswith("P8FS_PG_HOST = 'vault' from vault\n  over 'dotenv' from")
        assert "s3cret" not in str(settings.explain("pg_password"))

    def test_names_with_the_prefix_and_aliases(self) -> None:
        class Model(Section, prefix="model_"):
            key: str = Field("", validation_alias="OPENAI_API_KEY")

        add_source("vault", Vault(P8FS_PG_HOST="vault", OPENAI_API_KEY="s3cret"))
        settings = judge(P8FSConfig)
        assert (settings.pg_host, settings.section(Model).key) == ("vault", "s3cret")

    def test_asked_once_in_a_while_and_at_each_reload(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = [100.0]
        monkeypatch.setattr(registered, "clock", lambda: now[0])
        vault = Vault(pg_host="first")
        add_source("vault", vault, every=60)
        with Container() as container:
            assert container.config().pg_host == "first"
            asked = vault.asked
            P8FSConfig()
            assert vault.asked == asked
            vault.values["pg_host"] = "second"
            assert container.config.reload().pg_host == "second"
            asked = vault.asked
            now[0] += 60
            P8FSConfig()
            assert vault.asked == asked + 1

    def test_a_fault_keeps_the_last_good_settings_and_shows_no_words_of_others(self) -> None:
        vault = Vault(pg_host="good")
        add_source("vault", vault)
        with Container() as container:
            assert container.config().pg_host == "good"
            vault.values["fault"] = "sealed"
            with pytest.raises(ConfigurationError, match="the source vault: fails with OSError") as caught:
                container.config.reload()
            assert "hunter2" not in str(caught.value)
            assert container.config().pg_host == "good"

    @pytest.mark.parametrize(
        ("values", "told"), [({1: "x"}, "has names that are no text: 1"), ([1], "fails with TypeError")]
    )
    def test_what_is_no_table_of_settings(self, values: Any, told: str) -> None:
        config.store.reload()
        with pytest.raises(ConfigurationError, match=told):
            add_source("odd", lambda: values)

    def test_the_live_view_follows_and_a_fault_at_once_adds_nothing(self) -> None:
        config.store.reload()
        assert config.pg_host == "localhost"
        add_source("vault", Vault(pg_host="vault"))
        assert config.pg_host == "vault"
        with pytest.raises(ConfigurationError, match="a source 'vault' already"):
            add_source("vault", Vault())
        with pytest.raises(ConfigurationError, match="P8FS_PG_PORT"):
            add_source("wrong", Vault(pg_port="x"))
        remove_source("vault")
        config.store.reload()
        assert config.pg_host == "localhost"


class TestLayers:
    @pytest.mark.parametrize("environment", ["production", "prod", "Production "])
    @pytest.mark.parametrize("layer", ["production", "prod"])
    def test_beside_the_settings_file(self, environment: str, layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("s.yaml").write_text("pg: {host: all, user: all}\n")
        Path(f"s.{layer}.yaml").write_text("pg: {host: production}\n")
        Path("s.staging.yaml").write_text("pg: {host: staging}\n")
        monkeypatch.setenv("P8FS_CONFIG_FILE", "s.yaml")
        assert P8FSConfig().pg_host == "all"
        monkeypatch.setenv("P8FS_ENVIRONMENT", environment)
        settings = P8FSConfig()
        assert (settings.pg_host, settings.pg_user) == ("production", "all")
        assert settings.origin("pg_host") == f"{Path.cwd()}/s.{layer}.yaml, line 1"

    def test_beside_a_dotenv_which_may_say_which(self) -> None:
        Path(".env").write_text("P8FS_ENVIRONMENT=staging\nP8FS_PG_HOST=all\n")
        Path(".env.staging").write_text("P8FS_PG_HOST=staging\n")
        assert P8FSConfig().pg_host == "staging"

    def test_two_spellings_and_another_environment_in_a_layer_are_faults(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("P8FS_ENVIRONMENT", "prod")
        Path(".env").write_text("")
        Path(".env.prod").write_text("P8FS_ENVIRONMENT=test\n")
        with pytest.raises(ConfigurationError, match="can't be changed by a file that is read because it is 'prod'"):
            P8FSConfig()
        Path(".env.production").write_text("")
        with pytest.raises(ConfigurationError, match=r"\.env\.production and .*\.env\.prod mean the same: keep one"):
            P8FSConfig()

    def test_a_name_that_no_file_can_have(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path(".env").write_text("P8FS_PG_HOST=all\n")
        for environment in ("../x", "a/b", "x" * 300):
            monkeypatch.setenv("P8FS_ENVIRONMENT", environment)
            assert P8FSConfig().pg_host == "all"


class TestPrefix:
    def test_of_an_application(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_prefix("notes_")
        monkeypatch.setenv("NOTES_PG_HOST", "notes")
        monkeypatch.setenv("P8FS_PG_PORT", "1")
        Path(".env").write_text("NOTES_PG_USER=me\nNOTES_PG_DATABASE x\n")
        with pytest.raises(ConfigurationError, match=r"NOTES_PG_DATABASE \(from .*line 2\): has no ="):
            P8FSConfig()
        Path(".env").write_text("NOTES_PG_USER=me\n")
        settings = P8FSConfig()
        assert (settings.pg_host, settings.pg_port, settings.pg_user) == ("notes", 5438, "me")
        told = "P8FS_PG_PORT (from the environment): is not read, because the prefix is NOTES_"
        assert [str(note) for note in settings.notes()] == [told]
        assert complete_setting("NOTES_PG_PO") == ["NOTES_PG_PORT"]
        assert str(settings.explain("NOTES_PG_HOST")).startswith("NOTES_PG_HOST = 'notes' from the environment")

    @pytest.mark.parametrize("text", ["", "notes", "1_", "a b_", "é_"])
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match="can't be the prefix of variables"):
            set_prefix(text)

    def test_for_the_command(self) -> None:
        variables = {"P8FS_PREFIX": "NOTES_", "NOTES_PG_HOST": "db", "NOTES_PG_HOTS": "x"}
        command = [sys.executable, "-P", "-m", "p8fs_cluster", "config", "explain", "notes_pg_host"]
        done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60)
        assert done.stdout.startswith("NOTES_PG_HOST = 'db' from the environment"), done.stderr
        assert "did you mean NOTES_PG_HOST?" in done.stderr


class TestChangedFiles:
    @pytest.fixture
    def production(self, monkeypatch: pytest.MonkeyPatch) -> Container:
        Path(".env").write_text("P8FS_ENVIRONMENT=production\nP8FS_PG_PORT=1\nP8FS_POOL_TIMEOUT=2\n")
        return Container()

    def test_a_fault_tells_and_only_of_files_that_it_names(self, production: Container) -> None:
        with production as container:
            assert "changed" not in str(self.fault(container))
            Path(".env").write_text("P8FS_ENVIRONMENT=production\nP8FS_PG_PORT=2\n")
            told = str(self.fault(container))
        assert f"{Path.cwd()}/.env, line 2" in told
        assert f"{Path.cwd()}/.env changed since the settings were read" in told
        assert "changed files are not followed (P8FS_RELOAD)" in told

    def test_a_mounted_file_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("s").mkdir()
        Path("s", "P8FS_PG_PORT").write_text("1")
        monkeypatch.setenv("P8FS_CONFIG_DIR", "s")
        with Container(config={"environment": "production", "pool_timeout": 2}) as container:
            container.config()
            Path("s", "P8FS_PG_PORT").write_text("02")
            assert f"{Path.cwd()}/s/P8FS_PG_PORT changed since" in str(self.fault(container))

    def test_a_check_tells(self, production: Container, caplog: pytest.LogCaptureFixture) -> None:
        with production as container, container.config.override({"storage_provider": "rocksdb", "rocksdb_path": "x"}):
            assert "look for changed files" not in [step.name for step in steps(container.config, container.storage())]
            Path(".env").unlink()
            told = {step.name: step for step in steps(container.config, container.storage())}
            validate_configuration(container)
        assert told["look for changed files"].ok
        assert f"{Path.cwd()}/.env changed since the settings were read" in told["look for changed files"].detail
        assert "P8FS_RELOAD" in caplog.text
        assert logging.WARNING in {record.levelno for record in caplog.records}

    def fault(self, container: Container) -> StorageUnavailable:
        with pytest.raises(StorageUnavailable) as caught:
            container.storage().ping()
        return caught.value
