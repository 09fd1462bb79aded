"""Text that can't be meant: stripped where nothing is lost by it, told where it may be meant, in every source alike."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from p8fs_cluster import Section
from p8fs_cluster.config import secrets
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import ConfigurationError

SOURCES = ("environment", "secrets", "config", "toml", "yaml", "env file")


def put(source: str, name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a value into one source."""
    variable = f"P8FS_{name.upper()}"
    if source == "environment":
        monkeypatch.setenv(variable, value)
    elif source in ("secrets", "config"):
        Path(source).mkdir(exist_ok=True)
        Path(source, variable).write_bytes(value.encode())
        monkeypatch.setenv(f"P8FS_{source.upper()}_DIR", source)
    elif source == "env file":
        Path(".env").write_text(f"{variable}={json.dumps(value)}\n")
    else:
        text = yaml.safe_dump({name: value}) if source == "yaml" else f"{name} = {json.dumps(value)}\n"
        Path(f"s.{source}").write_text(text)
        monkeypatch.setenv("P8FS_CONFIG_FILE", f"s.{source}")


def fault(**values: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        P8FSConfig(**values)
    return str(caught.value)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("pg_host", "db\n", "db"),
        ("pg_host", " db\t", "db"),
        ("pg_host", "db1, db2", "db1,db2"),
        ("tidb_database", "app\r\n", "app"),
        ("storage_provider", "tidb\n", "tidb"),
        ("storage_provider", " tidb", "tidb"),
        ("strict", "true\n", True),
        ("strict", " true ", True),
        ("pg_port", " 5432\n", 5432),
        ("slow_query", "", None),
        ("slow_query", " \n", None),
        ("reload", "", None),
        ("auth_jwt_secret", "", None),
        ("log_file", "~/p8fs.log", Path.home() / "p8fs.log"),
        ("log_levels", "a=INFO,b=DEBUG,", {"a": "INFO", "b": "DEBUG"}),
    ],
)
def test_what_loses_nothing_is_stripped(
    source: str, name: str, value: str, meant: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(source, name, value, monkeypatch)
    assert getattr(P8FSConfig(), name) == meant


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("pg_host", "postgresql://me:hunter2@db:5432/app", "must be a host, not a URL"),
        ("tidb_host", "db:4000", "must be a host without a port: the port has a setting of its own"),
        ("api_host", "[::1]:80", "must be a host without a port"),
        ("pg_host", "db1,db2,", "has a comma with no host before or behind it"),
        ("tidb_host", "db1,db2", "must be one host, not several"),
        ("pg_host", "me@db", "without user, path or blanks"),
        ("pg_host", "db/app", "without user, path or blanks"),
        ("pg_host", '"db"', "is in quotes, which an env file has kept: take them off"),
        ("pg_database", "'app'", "is in quotes"),
        ("storage_provider", '"tidb"', "is in quotes"),
        ("pg_port", "5432,", "got '5432,'"),
        ("log_levels", "a=INFO,,b=DEBUG", "input should be a=1,b=2 or a JSON object"),
        ("rocksdb_path", "", "must name a path"),
    ],
)
def test_what_can_not_be_used_is_told_with_what_was_there(
    source: str, name: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(source, name, value, monkeypatch)
    message = fault()
    assert told in message
    assert f"P8FS_{name.upper()} (from " in message
    assert "hunter2" not in message


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("value", "told"), [(" hunter2", "has a blank"), ('"hunter2"', "is in quotes")])
def test_a_secret_is_taken_as_it_is_and_what_is_odd_about_it_is_told(
    source: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(source, "pg_password", value, monkeypatch)
    settings = P8FSConfig()
    assert settings.pg_password.get_secret_value() == value
    assert [str(note) for note in settings.notes()] == caplog.messages
    assert told in caplog.text
    assert "P8FS_PG_PASSWORD (from" in caplog.text
    assert "hunter2" not in caplog.text


def test_an_inner_line_end_is_shown() -> None:
    assert "got 'ti\\ndb'" not in fault(storage_provider="ti\ndb")
    assert "got 'ti'…" in fault(storage_provider="ti\ndb")
    assert "got 'tidb\\n\\n'" not in fault(pg_port="tidb")
    assert "got ' x\\n'" in fault(log_level=" x\n")


def test_code_may_mean_the_line_end_of_a_secret() -> None:
    assert P8FSConfig(pg_password="x\n").pg_password.get_secret_value() == "x\n"


@pytest.mark.parametrize("file", ["p8fs-pg-host", "P8FS-PG-HOST", "p8fs_pg_host", "P8fs_Pg-Host"])
def test_mounted_files_with_dashes_and_in_any_case(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("s").mkdir()
    Path("s", file).write_text("db\n")
    monkeypatch.setenv("P8FS_SECRETS_DIR", "s")
    settings = P8FSConfig()
    assert (settings.pg_host, settings.origin("pg_host")) == ("db", str(Path.cwd() / "s" / file))


def test_names_with_dashes_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("p8fs-pg-host", "db")
    Path("s.yaml").write_text("pg-port: 1\npg:\n  data-base: x\n  database: y\n")
    monkeypatch.setenv("P8FS_CONFIG_FILE", "s.yaml")
    Path(".env").write_text("P8FS-PG-USER=me\n")
    settings = P8FSConfig()
    assert (settings.pg_host, settings.pg_port, settings.pg_user, settings.pg_database) == ("db", 1, "me", "y")


def test_one_setting_under_two_names_is_told_unless_both_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P8FS_PG_HOST", "a")
    monkeypatch.setenv("p8fs_pg_host", "a")
    assert P8FSConfig().pg_host == "a"
    monkeypatch.setenv("p8fs-pg-host", "b")
    assert "is given twice with different values, as " in fault()


def test_a_mounted_file_without_prefix_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Path("s").mkdir()
    Path("s", "pg-password").write_text("hunter2")
    Path("s", "readme").write_text("x")
    monkeypatch.setenv("P8FS_SECRETS_DIR", "s")
    assert P8FSConfig().pg_password.get_secret_value() == "postgres"
    assert caplog.messages == [
        f"a file (from {Path.cwd()}/s/pg-password): has no prefix, so that it is not read: name it P8FS_PG_PASSWORD"
    ]


class TestYaml:
    def read(self, text: str, monkeypatch: pytest.MonkeyPatch) -> P8FSConfig:
        Path("s.yaml").write_text(text)
        monkeypatch.setenv("P8FS_CONFIG_FILE", "s.yaml")
        return P8FSConfig()

    def test_merge_keys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        text = "x-db: &db {host: a, user: me}\nx-more: &more {user: you, database: d}\n"
        found = self.read(text + "pg:\n  <<: [*db, *more]\n  host: b\ntidb: {<<: *db}\n", monkeypatch)
        assert (found.pg_host, found.pg_user, found.pg_database) == ("b", "me", "d")
        assert (found.tidb_host, found.tidb_user) == ("a", "me")

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("pg_password: !secret db_password\n", "has the tag !secret in line 1, which nothing resolves here"),
            ("pg_user: x\npg_password: !vault |\n  hunter2\n", "has the tag !vault in line 2"),
            ("pg_password: !hunter2 x", "has a tag in line 1"),
            ("pg_password: !!binary aGk=", "has the tag !!binary in line 1"),
            ("pg: !x {host: a}", "has a tag in line 1"),
            (
                "pg_password: *hunter2",
                "(line 1): found undefined alias (a value that begins with * & ! or % needs quotes)",
            ),
            ("a: [1, 2\nb: 3", "(line 2): expected ',' or ']', but got ':'"),
            ("pg: {<<: 5}", "has a merge key << that names no mapping (line 1)"),
            ("pg: &a {<<: *a}", "has a merge key << that names no mapping (line 1)"),
        ],
    )
    def test_what_is_not_understood(self, text: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ConfigurationError) as caught:
            self.read(text, monkeypatch)
        assert told in str(caught.value)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("line", ["P8FS_PG_HOST db", "P8FS_PG_HOST: db", "export P8FS_PG_HOST db"])
def test_a_line_without_an_equals_sign(line: str) -> None:
    Path(".env").write_text(f"OTHER=1\n{line}\nP8FS_PG_USER=me\n")
    assert f"P8FS_PG_HOST (from {Path.cwd()}/.env, line 2): has no =: write NAME=value" in fault()


def test_a_texts_blanks_in_a_section_may_be_meant(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Joining(Section, prefix="joining_"):
        separator: str = ","
        limit: int | None = 5
        name: str | None = "x"

    monkeypatch.setenv("P8FS_JOINING_SEPARATOR", ", ")
    monkeypatch.setenv("P8FS_JOINING_LIMIT", "")
    monkeypatch.setenv("P8FS_JOINING_NAME", "")
    found = P8FSConfig().section(Joining)
    assert (found.separator, found.limit, found.name) == (", ", None, None)
    assert "P8FS_JOINING_SEPARATOR (from the environment): has a blank at its beginning or end" in caplog.text
    assert logging.WARNING in {record.levelno for record in caplog.records}
    assert secrets.known() == frozenset()
