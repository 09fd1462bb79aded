"""Each source by itself, and which of them wins."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.config.sources import dotenv
from p8fs_cluster.config.sources.environment import read_environment
from p8fs_cluster.exceptions import ConfigurationError

_numbers = itertools.count()


def fault() -> str:
    with pytest.raises(ConfigurationError) as caught:
        P8FSConfig()
    return str(caught.value)


def mount(folder: Path, **files: str) -> Path:
    """Make a folder as Kubernetes mounts it: links through `..data`, which is swapped as a whole."""
    real = folder / f"..{next(_numbers)}"
    real.mkdir(parents=True)
    for name, text in files.items():
        (real / name).write_text(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..next").symlink_to(real.name)
    (folder / "..next").replace(folder / "..data")
    return folder


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every source gives the host; each weaker one gives a setting more."""
    given = {f"P8FS_PG_{name}": f"{name}".lower() for name in ("HOST", "USER", "DATABASE")}
    monkeypatch.setenv("P8FS_PG_HOST", "environment")
    monkeypatch.setenv("P8FS_SECRETS_DIR", str(mount(tmp_path / "secrets", P8FS_PG_HOST="secrets", P8FS_PG_USER="s")))
    monkeypatch.setenv("P8FS_CONFIG_DIR", str(mount(tmp_path / "config", **given)))
    Path("p8fs.toml").write_text('pg_host = "file"\npg_database = "file"\ntidb_host = "file"\ntidb_user = "file"\n')
    monkeypatch.setenv("P8FS_CONFIG_FILE", "p8fs.toml")
    Path(".env").write_text("P8FS_PG_HOST=dotenv\nP8FS_TIDB_USER=dotenv\nP8FS_SERVICE_NAME=dotenv\n")


def test_the_order_of_the_sources(everywhere: None) -> None:
    here, settings = Path.cwd(), P8FSConfig(pg_host="argument")
    shown = {name: (getattr(settings, name), settings.origin(name)) for name in ("pg_host", "pg_user", "pg_database")}
    assert shown == {
        "pg_host": ("argument", "code"),
        "pg_user": ("s", f"{here}/secrets/P8FS_PG_USER"),
        "pg_database": ("database", f"{here}/config/P8FS_PG_DATABASE"),
    }
    assert (settings.tidb_host, settings.origin("tidb_host")) == ("file", f"{here}/p8fs.toml, line 3")
    assert (settings.tidb_user, settings.service_name) == ("file", "dotenv")
    losers = [(loser.value, loser.source) for loser in settings.explain("P8FS_PG_HOST").lost]
    assert losers == [
        ("environment", "the environment"),
        ("secrets", f"{here}/secrets/P8FS_PG_HOST"),
        ("host", f"{here}/config/P8FS_PG_HOST"),
        ("file", f"{here}/p8fs.toml, line 1"),
        ("dotenv", f"{here}/.env, line 1"),
        ("localhost", "the default"),
    ]


class TestMounted:
    def test_line_ends_are_no_part_of_a_value(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("P8FS_SECRETS_DIR", str(mount(tmp_path / "s", p8fs_pg_password=" p w\r\n", OTHER="x")))
        assert P8FSConfig().pg_password.get_secret_value() == " p w"

    @pytest.mark.parametrize("variable", ["P8FS_SECRETS_DIR", "P8FS_CONFIG_DIR"])
    def test_a_folder_that_can_not_be_used(
        self, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(variable, str(tmp_path / "missing"))
        assert f"{variable} (from the environment): the folder {tmp_path}/missing does not exist" in fault()
        Path("file").touch()
        monkeypatch.setenv(variable, "file")
        assert f"{tmp_path}/file is not a folder" in fault()

    def test_faults_name_the_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = mount(tmp_path / "s", P8FS_PG_PORT="abc")
        (folder / "P8FS_PG_PASSWORD").write_bytes("hünter2".encode("latin-1"))
        (folder / "P8FS_PG_HOST").mkdir()
        monkeypatch.setenv("P8FS_SECRETS_DIR", str(folder))
        message = fault()
        here = Path.cwd()
        assert f"P8FS_PG_PORT (from {here}/s/P8FS_PG_PORT): input should be a valid integer" in message
        assert f"P8FS_PG_PASSWORD (from {here}/s/P8FS_PG_PASSWORD): the file is not UTF-8 text (line 1)" in message
        assert f"P8FS_PG_HOST (from {here}/s/P8FS_PG_HOST): the file is not a file" in message
        assert "nter2" not in message

    def test_a_swap_is_seen_as_a_whole(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The link is swapped while the files are being read: what was read is of one side."""
        folder = mount(tmp_path / "s", P8FS_PG_HOST="old", P8FS_PG_USER="old")
        monkeypatch.setenv("P8FS_SECRETS_DIR", str(folder))
        plain, reads = Path.read_bytes, []

        def read_bytes(path: Path) -> bytes:
            reads.append(path)
            if len(reads) == 2:
                mount(folder, P8FS_PG_HOST="new", P8FS_PG_USER="new", P8FS_PG_DATABASE="new")
            return plain(path)

        monkeypatch.setattr(Path, "read_bytes", read_bytes)
        settings = P8FSConfig()
        assert (settings.pg_host, settings.pg_user, settings.pg_database) == ("new", "new", "new")


class TestDocument:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("a.toml", 'pg_host = "db"\nP8FS_PG_PORT = 5432\n[tidb]\nhost = "ti"\nport = 4001\n'),
            ("a.toml", 'pg = {host = "db", port = 5432}\ntidb.host = "ti"\ntidb.port = 4001\n'),
            ("a.yaml", "pg_host: db\nP8FS_PG_PORT: 5432\ntidb:\n  host: ti\n  port: 4001\n"),
            ("a.yml", "---\n{pg: {host: db, port: '5432'}, tidb: {host: ti, port: 4001}}\n"),
        ],
    )
    def test_names_and_tables(self, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        Path(name).write_text(text)
        monkeypatch.setenv("P8FS_CONFIG_FILE", name)
        settings = P8FSConfig()
        assert (settings.pg_host, settings.pg_port) == ("db", 5432)
        assert (settings.tidb_host, settings.tidb_port) == ("ti", 4001)

    def test_plain_values_of_yaml_stay_as_they_are_written(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("a.yaml").write_text("pg_password: 0123\npg_user: no\npg_database: 1e3\nlog_file: ~\nstrict: yes\n")
        monkeypatch.setenv("P8FS_CONFIG_FILE", "a.yaml")
        settings = P8FSConfig()
        assert (settings.pg_password.get_secret_value(), settings.pg_user, settings.pg_database) == (
            "0123",
            "no",
            "1e3",
        )
        assert (settings.log_file, settings.strict) == (None, True)

    @pytest.mark.parametrize(
        ("name", "text"), [("a.toml", "a = 1\n[pg]\n\nport = 0\n"), ("a.yaml", "a: 1\npg:\n\n  port: 0\n")]
    )
    def test_faults_name_the_line(self, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        Path(name).write_text(text)
        monkeypatch.setenv("P8FS_CONFIG_FILE", name)
        message = fault()
        assert f"P8FS_PG_PORT (from {Path.cwd() / name}, line 4): input should be greater" in message
        assert "P8FS_A" not in message  # it may be a section's that is declared later

    @pytest.mark.parametrize(
        ("name", "text", "told"),
        [
            ("a.toml", "pg_password = hunter2", "can't be understood as TOML: Invalid value (at line 1"),
            ("a.yaml", "x: 1\npg_password: *hunter2", "can't be understood as YAML (line 2): found undefined alias"),
            ("a.yaml", "x: 1\npg_password: 'hunter2", "can't be understood as YAML (line"),
            ("a.yaml", "pg_password: hunter2\n---\nx: 1\n", "holds more than one document"),
            ("a.yaml", "- hunter2", "holds no names with values"),
            ("a.yaml", "? [hunter2]\n: x", "has a name that is no text (line 1)"),
            ("a.yaml", "pg_password: &a [*a, hunter2]", "is nested too deeply"),
            ("a.yaml", "pg: &a {b: *a, password: hunter2}", "holds more than 10,000 values or is nested too deeply"),
            ("a.yaml", "pg_password: '" + "[" * 3 + "\x00hunter2'", "can't be understood as YAML"),
            ("a.yaml", "pg_user: x\npg_user: y\npg_password: hunter2", "is given twice; before in "),
            ("a.toml", "a = " + "[" * 5000 + "]" * 5000, "is nested too deeply"),
            ("a.json", "{}", "has to end in one of .toml, .yaml, .yml"),
        ],
    )
    def test_what_can_not_be_understood(self, name: str, text: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
        Path(name).write_text(text)
        monkeypatch.setenv("P8FS_CONFIG_FILE", name)
        message = fault()
        assert told in message
        assert "hunter2" not in message

    def test_anchors_that_multiply(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lines = ["a: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
        Path("a.yaml").write_text("\n".join(lines))
        monkeypatch.setenv("P8FS_CONFIG_FILE", "a.yaml")
        assert "holds more than 10,000 values" in fault()

    @pytest.mark.parametrize(
        ("make", "told"),
        [
            (lambda path: None, "does not exist"),
            (lambda path: path.mkdir(), "is not a file (a directory or a device)"),
            (lambda path: path.write_bytes(b"pg_user: h\xfcnter2"), "is not UTF-8 text (line 1)"),
            (lambda path: path.symlink_to("/dev/zero"), "is not a file"),
        ],
    )
    def test_a_file_that_can_not_be_read(self, make: Any, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
        make(Path("a.yaml"))
        monkeypatch.setenv("P8FS_CONFIG_FILE", "a.yaml")
        assert f"P8FS_CONFIG_FILE (from the environment): the settings file {Path.cwd()}/a.yaml {told}" in fault()


class TestNearestDotEnv:
    def test_up_to_the_root_of_the_project(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / ".env").write_text("P8FS_PG_HOST=outside\n")
        inner = tmp_path / "project" / "service" / "module"
        inner.mkdir(parents=True)
        (tmp_path / "project" / "pyproject.toml").touch()
        monkeypatch.chdir(inner)
        assert P8FSConfig().pg_host == "localhost", "it is above the root"
        (tmp_path / "project" / ".env").write_text("P8FS_PG_HOST=root\n")
        assert P8FSConfig().pg_host == "root"
        assert P8FSConfig().origin("pg_host") == f"{tmp_path}/project/.env, line 1"
        (inner.parent / ".env").write_text("P8FS_PG_USER=service\n")
        assert (P8FSConfig().pg_host, P8FSConfig().pg_user) == ("localhost", "service"), "one file, the nearest"

    def test_without_a_project_only_here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dotenv, "ROOT_MARKS", ())
        (tmp_path / ".env").write_text("P8FS_PG_HOST=above\n")
        (tmp_path / "inner").mkdir()
        monkeypatch.chdir(tmp_path / "inner")
        assert P8FSConfig().pg_host == "localhost"


SERVICE = {
    "P8FS_API_PORT": "tcp://10.0.0.1:8000",
    "P8FS_API_SERVICE_HOST": "10.0.0.1",
    "P8FS_API_SERVICE_PORT": "8000",
    "P8FS_API_SERVICE_PORT_HTTP": "8000",
    "P8FS_API_PORT_8000_TCP": "tcp://10.0.0.1:8000",
    "P8FS_API_PORT_8000_TCP_PROTO": "tcp",
    "P8FS_API_PORT_8000_TCP_PORT": "8000",
    "P8FS_API_PORT_8000_TCP_ADDR": "10.0.0.1",
}


class TestServiceLinks:
    @pytest.mark.parametrize("service", ["API", "PG", "TIDB"])
    def test_they_fill_no_setting_and_are_not_misspelt(
        self, service: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        for name, value in SERVICE.items():
            monkeypatch.setenv(name.replace("API", service), value)
        Path(".env").write_text(f"P8FS_{service}_PORT=81\n")
        monkeypatch.setenv("P8FS_STRICT", "true")
        settings = P8FSConfig()
        assert getattr(settings, f"{service.lower()}_port") == 81
        assert caplog.text == ""
        told = str(settings.explain(f"{service}_port"))
        assert f"= 81 from {Path.cwd()}/.env, line 1" in told
        assert "not used: 'tcp://10.0.0.1:8000' from the environment (a Service's link)" in told

    def test_a_service_that_is_called_as_our_prefix(self) -> None:
        links = {name.replace("P8FS_API", "P8FS"): value for name, value in SERVICE.items()}
        source = read_environment(links)
        assert (source.entries, len(source.foreign)) == ({}, len(SERVICE))

    @pytest.mark.parametrize("link", ["tcp://[fd00::1]:8000", "udp://10.0.0.1:53", "TCP://10.0.0.1:8000/"])
    def test_other_forms(self, link: str) -> None:
        assert read_environment({"P8FS_API_PORT": link}).entries == {}

    def test_what_the_pod_itself_sets_is_a_setting(self) -> None:
        source = read_environment({**SERVICE, "P8FS_API_PORT": "9000", "P8FS_API_SERVICE_HOST": "mine"})
        assert {name: entry.value for name, entry in source.entries.items()} == {
            "api_port": "9000",
            "api_service_host": "mine",
        }


def test_the_environment_may_hold_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "P8FS_PG_HOST", "h\udcff")
    assert "P8FS_PG_HOST (from the environment): must be UTF-8 text" in fault()
    monkeypatch.delenv("P8FS_PG_HOST")
    monkeypatch.setenv("P8FS_", "x")
    assert P8FSConfig().pg_host == "localhost"
