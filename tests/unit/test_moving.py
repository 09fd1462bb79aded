"""Move a module that had its own settings here, without a shim; `docs/moving.md` is the page about it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from pydantic import AliasChoices, Field

from p8fs_cluster import Container, Section, container
from p8fs_cluster.config import P8FSConfig, config, set_defaults
from p8fs_cluster.config.settings import config as same_config
from p8fs_cluster.config.sources.registered import application_defaults
from p8fs_cluster.exceptions import ConfigurationError
from p8fs_cluster.logging import FieldLogger, get_logger
from p8fs_cluster.logging.setup import LoggingSetup


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, where nothing was imported or read."""
    given = {f"P8FS_{name.upper()}": value for name, value in variables.items()}
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **given}, capture_output=True, text=True, timeout=60
    )


class TestFlatSections:
    """One section without prefix, whose 139 fields are attributes of `config`."""

    @pytest.fixture(autouse=True)
    def flat(self) -> type[Section]:
        fields = {f"field_{number}": number for number in range(137)}
        annotations = {**dict.fromkeys(fields, int), "debug": bool, "nats_url": str}
        body = {**fields, "debug": False, "nats_url": "nats://localhost", "__annotations__": annotations}
        cls: type[Section] = type(Section)("Flat", (Section,), {**body, "__module__": __name__}, on_config=True)
        return cls

    def test_without_a_prefix(self, flat: type[Section], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("P8FS_DEBUG", "true")
        assert P8FSConfig().section(flat).model_dump()["debug"] is True
        assert str(P8FSConfig().explain("debug")).startswith("P8FS_DEBUG = True from the environment")

    def test_on_the_live_view(self, monkeypatch: pytest.MonkeyPatch) -> None:
        live: Any = config
        assert (live.nats_url, live.field_136, live.current.nats_url) == ("nats://localhost", 136, "nats://localhost")
        with container.config.override({"nats_url": "nats://other"}):
            assert live.nats_url == live.current.nats_url == "nats://other"
        assert live.nats_url == "nats://localhost"
        with pytest.raises(AttributeError, match="nats_ulr"):
            _ = live.nats_ulr

    def test_only_on_request(self) -> None:
        class Quiet(Section, prefix="quiet_"):
            url: str = "x"

        live: Any = config
        with pytest.raises(AttributeError):
            _ = live.quiet_url
        assert config.section(Quiet).url == "x"

    def test_what_config_has_already_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r"config\.section is something else"):

            class Shadowing(Section, on_config=True):
                section: str = ""

    def test_a_setting_of_the_core_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="both claim P8FS_PG_HOST"):

            class Clashing(Section):
                pg_host: str = ""


class TestAliases:
    @pytest.fixture(autouse=True)
    def section(self) -> type[Section]:
        class Model(Section, prefix="model_of_"):
            api_key: str = Field("", validation_alias="OPENAI_API_KEY")
            region: str = Field("here", validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION"))

        return Model

    def test_in_every_source(self, section: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("s").mkdir()
        Path("s", "OPENAI_API_KEY").write_text("mounted\n")
        monkeypatch.setenv("P8FS_SECRETS_DIR", "s")
        Path(".env").write_text("AWS_DEFAULT_REGION=dotenv\n")
        found = P8FSConfig().section(section)
        assert (found.api_key, found.region) == ("mounted", "dotenv")
        monkeypatch.setenv("AWS_REGION", "environment")
        Path("s.yaml").write_text("OPENAI_API_KEY: file\n")
        monkeypatch.setenv("P8FS_CONFIG_FILE", "s.yaml")
        assert P8FSConfig().section(section).region == "environment"

    def test_our_own_name_is_stronger_in_the_same_source(self, section: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "theirs")
        monkeypatch.setenv("P8FS_MODEL_OF_API_KEY", "ours")
        assert P8FSConfig().section(section).api_key == "ours"

    def test_explain_names_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_REGION", "there")
        told = str(P8FSConfig().explain("AWS_REGION"))
        assert told.startswith("P8FS_MODEL_OF_REGION = 'there' from the environment, as AWS_REGION")
        assert "P8FS_MODEL_OF_REGION (from the environment, as AWS_REGION)" in P8FSConfig().section(
            __import__("p8fs_cluster.config.section", fromlist=["owner"]).owner("model_of_region")
        ).describe("region")

    def test_a_section_that_comes_late_has_them_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_SERVICE_NAME", "notes")
        settings = P8FSConfig()

        class Late(Section, prefix="late_"):
            name: str = Field("", validation_alias="OTEL_SERVICE_NAME")

        assert settings.section(Late).name == "notes"

    def test_a_mounted_file_that_can_not_be_read_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("s").mkdir()
        Path("s", "OPENAI_API_KEY").write_bytes(b"\xff\xfe")
        Path("s", "OTHERS").write_bytes(b"\xff\xfe")
        monkeypatch.setenv("P8FS_SECRETS_DIR", "s")
        with pytest.raises(ConfigurationError, match=r"OPENAI_API_KEY \(from .*\): the file is not UTF-8") as caught:
            P8FSConfig()
        assert "OTHERS" not in str(caught.value)

    def test_an_override_by_the_settings_name(self, section: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "theirs")
        with container.config.override({"model_of_api_key": "of the test"}):
            assert container.section(section).api_key == "of the test"


class TestPatching:
    def test_a_patch_is_an_override(self) -> None:
        with patch("p8fs_cluster.config.settings.config.pg_host", "patched"):
            assert config.pg_host == config.current.pg_host == container.config().pg_host == "patched"
            assert config.pg_connection_string.endswith("@patched:5438/app")
            with patch("p8fs_cluster.config.settings.config.pg_host", "inner"):
                assert container.config().pg_host == "inner"
            assert container.config().pg_host == "patched"
        assert config.pg_host == container.config().pg_host == "localhost"
        assert not container.config.overridden

    def test_over_an_override_and_within_one(self) -> None:
        with container.config.override({"pg_port": 1}), patch.object(config, "pg_host", "patched"):
            assert (container.config().pg_host, container.config().pg_port) == ("patched", 1)
        with patch.object(config, "pg_host", "patched"), container.config.override({"pg_port": 1}):
            assert (config.pg_host, config.pg_port) == ("patched", 1)

    def test_several_at_once_by_pytest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patching:
            patching.setattr(config, "pg_host", "first")
            patching.setattr(config, "pg_port", 1)
            patching.setattr(config, "pg_host", "second")
            assert (config.pg_host, config.pg_port) == ("second", 1)
        assert (config.pg_host, config.pg_port) == ("localhost", 5438)

    def test_what_is_not_valid_is_refused_and_what_is_made_of_others(self) -> None:
        with pytest.raises(ConfigurationError, match="P8FS_PG_PORT"), patch.object(config, "pg_port", "x"):
            pass
        with pytest.raises(ConfigurationError, match="no such setting"), patch.object(config, "is_production", True):
            pass
        assert config.pg_port == 5438
        assert not container.config.overridden

    def test_code_does_not_assign(self) -> None:
        with pytest.raises(AttributeError, match="settings are frozen"):
            config.pg_host = "x"
        with pytest.raises(AttributeError, match="settings are frozen"):
            del config.pg_host

    def test_before_anything_was_read(self) -> None:
        code = (
            "from unittest.mock import patch\n"
            "with patch('p8fs_cluster.config.settings.config.pg_host', 'patched'):\n"
            "    from p8fs_cluster import container\n"
            "    assert container.config().pg_host == 'patched'\n"
            "assert container.config().pg_host == 'localhost'\n"
        )
        assert run(code).returncode == 0


def test_one_rule_for_every_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    for spelling in ("production", "Production", " prod", "PROD\n"):
        monkeypatch.setenv("P8FS_ENVIRONMENT", spelling)
        assert (P8FSConfig().is_production, P8FSConfig().is_development, P8FSConfig().reloads) == (True, False, False)
    for spelling in ("development", "Dev ", "DEVELOPMENT"):
        monkeypatch.setenv("P8FS_ENVIRONMENT", spelling)
        assert (P8FSConfig().is_production, P8FSConfig().is_development, P8FSConfig().reloads) == (False, True, True)


def test_loggers_and_config_read_nothing_at_import() -> None:
    code = (
        "from p8fs_cluster.config import config\n"
        "from p8fs_cluster.logging import get_logger\n"
        "log = get_logger(__name__)\n"
        "log.info('not heard', note_id=7)\n"
        "print(repr(config))\n"
        "config.pg_port\n"
    )
    done = run(code, pg_port="x")
    assert done.stdout == "<live view of settings that were not read yet>\n"
    assert "P8FS_PG_PORT (from the environment)" in done.stderr
    assert config is same_config


def test_a_logger_takes_fields_from_birth(capsys: pytest.CaptureFixture[str]) -> None:
    log: FieldLogger = get_logger("moved.notes")
    LoggingSetup.configure_logging(P8FSConfig(log_format="%(levelname)s %(message)s", log_levels="moved=TRACE"))
    log.trace("looked at", note_id=7)
    log.info("saved", note_id=8)
    assert capsys.readouterr().out == "TRACE looked at note_id=7\nINFO saved note_id=8\n"
    assert logging.getLogger("moved.notes") is log


def test_the_level_trace(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P8FS_LOG_LEVEL", "trace")
    monkeypatch.setenv("P8FS_LOG_FORMAT", "json")
    with Container() as opened:
        opened.logger("p8fs_api").trace("deep")
    assert '"level":"TRACE","logger":"p8fs_api","message":"deep"' in capsys.readouterr().out


class TestDefaults:
    @pytest.fixture(autouse=True)
    def read_again(self) -> Iterator[None]:
        config.store.reload()
        yield
        application_defaults().clear()
        config.store.reload()

    def test_below_every_source(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_defaults(pg_port=5432, service_name="notes")
        told = str(P8FSConfig().explain("pg_port"))
        assert told == "P8FS_PG_PORT = 5432 from the application's defaults\n  over 5438 from the default"
        Path(".env").write_text("P8FS_PG_PORT=1\n")
        assert (P8FSConfig().pg_port, P8FSConfig().service_name) == (1, "notes")

    def test_after_the_settings_were_read(self) -> None:
        assert config.pg_port == 5438
        with Container(config={}) as other:
            assert other.config().pg_port == 5438
        set_defaults(pg_port=5432)
        assert config.pg_port == container.config().pg_port == 5432

    @pytest.mark.parametrize(
        ("values", "told"),
        [
            ({"pg_prot": 1}, r"P8FS_PG_PROT \(from the application's defaults\): .*did you mean P8FS_PG_PORT"),
            ({"pg_port": 0}, r"P8FS_PG_PORT \(from the application's defaults\): input should be greater"),
            ({"tidb_port": 2}, "has an application's default already"),
        ],
    )
    def test_what_is_wrong_changes_nothing(self, values: dict[str, Any], told: str) -> None:
        set_defaults(tidb_port=1)
        set_defaults(tidb_port=1)
        with pytest.raises(ConfigurationError, match=told):
            set_defaults(**values)
        assert (P8FSConfig().tidb_port, P8FSConfig().pg_port) == (1, 5438)
