"""Misspelt names, in every source: a warning by default, an error where it is asked for."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from p8fs_cluster import Container, Section, validate_configuration
from p8fs_cluster.config import secrets, spelling
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import ConfigurationError


@pytest.fixture
def misspelt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A misspelt name in every source, and the lines that tell of them."""
    monkeypatch.setenv("P8FS_PG_HOTS", "x")
    monkeypatch.setenv("P8FS_CONFIG_FIEL", "x")
    for folder, variable in (("secrets", "P8FS_SECRETS_DIR"), ("config", "P8FS_CONFIG_DIR")):
        (tmp_path / folder).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / folder))
    (tmp_path / "secrets" / "P8FS_PG_PASWORD").write_text("hunter2")
    (tmp_path / "config" / "P8FS_POOL_SIZE").write_text("5")
    Path("a.toml").write_text("tidb_hots = 'x'\n\n[pg]\nprot = 5432\n")
    monkeypatch.setenv("P8FS_CONFIG_FILE", "a.toml")
    Path(".env").write_text("OTHER=x\nP8FS_LOGLEVEL=INFO\nP8FS_CONFIG_DIR=x\nP8FS_SOMETHING_ELSE=y\n")
    here = Path.cwd()
    return [
        "P8FS_PG_HOTS (from the environment): there is no such setting; did you mean P8FS_PG_HOST?",
        "P8FS_CONFIG_FIEL (from the environment): there is no such setting; did you mean P8FS_CONFIG_FILE?",
        f"P8FS_PG_PASWORD (from {here}/secrets/P8FS_PG_PASWORD): there is no such setting; did you mean P8FS_PG_PASSWORD?",  # noqa: E501
        f"P8FS_POOL_SIZE (from {here}/config/P8FS_POOL_SIZE): there is no such setting; did you mean P8FS_POOL_MAX_SIZE?",  # noqa: E501
        f"P8FS_TIDB_HOTS (from {here}/a.toml, line 1): there is no such setting; did you mean P8FS_TIDB_HOST?",
        f"P8FS_PG_PROT (from {here}/a.toml, line 4): there is no such setting; did you mean P8FS_PG_PORT?",
        f"P8FS_LOGLEVEL (from {here}/.env, line 2): there is no such setting; did you mean P8FS_LOG_LEVEL?",
        f"P8FS_CONFIG_DIR (from {here}/.env, line 3): says where settings are, and is only looked for in the environment",  # noqa: E501
        f"P8FS_SOMETHING_ELSE (from {here}/.env, line 4): there is no such setting",
    ]


def test_a_warning_once_a_process(misspelt: list[str], caplog: pytest.LogCaptureFixture) -> None:
    P8FSConfig()
    assert not caplog.messages
    spelling.judge(P8FSConfig)
    P8FSConfig().with_changes({"pg_host": "db"})
    assert caplog.messages == misspelt
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert {record.name for record in caplog.records} == {"p8fs_cluster.config"}


def test_an_error_where_it_is_asked_for(misspelt: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P8FS_STRICT", "true")
    with pytest.raises(ConfigurationError) as caught:
        validate_configuration(Container())
    assert [str(problem) for problem in caught.value.problems] == misspelt


def test_they_come_with_other_faults(misspelt: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    spelling.judge(P8FSConfig)
    monkeypatch.setenv("P8FS_PG_PORT", "x")
    with pytest.raises(ConfigurationError) as caught:
        P8FSConfig()
    assert [str(problem) for problem in caught.value.problems[1:]] == misspelt


def test_a_secret_under_a_misspelt_name_is_one(misspelt: list[str]) -> None:
    P8FSConfig()
    assert "hunter2" in secrets.known()


def test_code_is_always_told() -> None:
    with pytest.raises(ConfigurationError, match=r"P8FS_PG_HOTS \(from code\).* did you mean P8FS_PG_HOST"):
        P8FSConfig(pg_hots="x")


def test_settings_that_were_read_before_are_judged_as_well(
    misspelt: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P8FS_STRICT", "true")
    with Container() as container:
        assert container.config().strict
        with pytest.raises(ConfigurationError) as caught:
            validate_configuration(container)
    assert [str(problem) for problem in caught.value.problems] == misspelt


def test_a_section_that_comes_late_is_no_misspelling(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("P8FS_STRICT", "true")
    monkeypatch.setenv("P8FS_LATE_SERVER", "smtp")
    settings = P8FSConfig()

    class Late(Section, prefix="late_"):
        server: str = "localhost"

    assert settings.section(Late).server == "smtp"
    assert spelling.judge(lambda: settings) is settings
    assert caplog.messages == []


def test_a_process_that_never_says_that_it_is_complete_is_told_when_it_ends() -> None:
    code = "from p8fs_cluster.config import config\nprint(config.pg_host)"
    variables = {**os.environ, "P8FS_PG_HOTS": "x"}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=60)
    assert done.stdout == "localhost\n"
    told = "P8FS_PG_HOTS (from the environment): there is no such setting; did you mean P8FS_PG_HOST?\n"
    assert done.stderr == told
