"""`p8fs-cluster config show` and `explain`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import install, p8fs_cluster


def test_config_show() -> None:
    done = p8fs_cluster("config", "show", pg_password="hunter2", pg_host="somewhere", tidb_password="")
    assert done.returncode == 0
    assert "hunter2" not in done.stdout
    lines = {line.split("│")[1].strip(): line for line in done.stdout.splitlines() if line.startswith("│")}
    assert "somewhere" in lines["P8FS_PG_HOST"]
    assert "the environment" in lines["P8FS_PG_HOST"]
    assert "***" in lines["P8FS_PG_PASSWORD"]
    assert "the default" in lines["P8FS_PG_PORT"]


def test_values_that_look_like_markup_are_shown_as_they_are() -> None:
    done = p8fs_cluster("config", "show", log_format="[/p8fs] %(message)s", pg_host="[fe80::1]")
    assert done.returncode == 0, done.stderr
    assert "[/p8fs] %(message)s" in done.stdout
    assert "[fe80::1]" in done.stdout


def test_config_show_as_json() -> None:
    shown = json.loads(p8fs_cluster("config", "show", "--json", pg_password="hunter2", api_port="81").stdout)
    assert shown["pg_password"] == {"value": "***", "source": "the environment"}
    assert shown["api_port"]["value"] == 81
    assert shown["auth_jwt_secret"]["value"] is None


def test_config_show_of_settings_that_can_not_be_used() -> None:
    done = p8fs_cluster("config", "show", pg_port=0)
    assert (done.returncode, done.stdout) == (1, "")
    assert "P8FS_PG_PORT" in done.stderr


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_config_show_lists_sections(options: tuple[str, ...], tmp_path: Path) -> None:
    path = install(tmp_path / "site")
    done = p8fs_cluster("config", "show", *options, path=path, mail_port=25, mail_key="hunter2", mail_ratio="nan")
    assert done.returncode == 0, done.stderr
    assert ("P8FS_MAIL_KEY" in done.stdout) or json.loads(done.stdout)["mail_key"]["value"] == "***"
    assert "nan" in done.stdout
    assert "hunter2" not in done.stdout
    assert "built-in" not in done.stdout


def test_a_reader_that_goes_away_is_no_fault() -> None:
    command = f"{sys.executable} -m p8fs_cluster config explain | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)  # noqa: S602
    assert (done.stdout, done.stderr) == ("P8FS_ENVIRONMENT = 'development' from the default\n", "")


def test_what_the_terminal_can_not_show_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = p8fs_cluster("config", "show", service_name="caf\u00e9")
    assert done.returncode == 0, done.stderr
    assert "caf\\xe9" in done.stdout
    shown = json.loads(p8fs_cluster("config", "show", "--json", service_name="caf\u00e9").stdout)
    assert shown["service_name"]["value"] == "caf\u00e9"


class TestExplain:
    def test_who_won_and_who_lost(self) -> None:
        Path(".env").write_text("P8FS_PG_HOST=from-file\nP8FS_PG_PASSWORD=hunter3\n")
        done = p8fs_cluster("config", "explain", "P8FS_PG_HOST", pg_host="from-environment")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            "P8FS_PG_HOST = 'from-environment' from the environment",
            f"  over 'from-file' from {Path.cwd()}/.env, line 1",
            "  over 'localhost' from the default",
        ]
        done = p8fs_cluster("config", "explain", "pg_password", "--json", pg_password="hunter2")
        told = json.loads(done.stdout)
        assert (told["variable"], told["value"], told["source"]) == ("P8FS_PG_PASSWORD", "***", "the environment")
        assert told["lost"] == [
            {"value": "***", "source": f"{Path.cwd()}/.env, line 2"},
            {"value": "***", "source": "the default"},
        ]
        assert "hunter" not in done.stdout

    def test_all_of_them_sections_included(self, tmp_path: Path) -> None:
        path = install(tmp_path / "site")
        done = p8fs_cluster("config", "explain", path=path, mail_port=25)
        assert "P8FS_MAIL_PORT = 25 from the environment\n" in done.stdout
        assert "P8FS_PG_HOST = 'localhost' from the default\n" in done.stdout
        told = json.loads(p8fs_cluster("config", "explain", "--json", path=path, mail_port=25).stdout)
        assert told["mail_port"]["value"] == 25
        assert told["pg_port"]["value"] == 5438
        assert "built-in" not in str(told)

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("pg_hots", "P8FS_PG_HOTS: there is no such setting; did you mean P8FS_PG_HOST?"),
            ("P8FS_MAIL_PROT", "P8FS_MAIL_PROT: there is no such setting; did you mean P8FS_MAIL_PORT?"),
            ("env_file", "P8FS_ENV_FILE: says where settings are, and is only looked for in the environment"),
            ("xyzzy", "P8FS_XYZZY: there is no such setting"),
        ],
    )
    def test_a_name_that_there_is_not(self, name: str, said: str, tmp_path: Path) -> None:
        done = p8fs_cluster("config", "explain", name, path=install(tmp_path / "site"), mail_port=25)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", said + "\n")

    @pytest.mark.parametrize("name", [(), ("pg_port",)])
    def test_of_settings_that_can_not_be_used(self, name: tuple[str, ...]) -> None:
        done = p8fs_cluster("config", "explain", *name, pg_port=0, api_port=0)
        assert (done.returncode, done.stdout) == (1, "")
        assert "P8FS_PG_PORT" in done.stderr
        assert "P8FS_API_PORT" in done.stderr

    def test_a_section_that_can_not_be_loaded_hides_nothing_else(self, tmp_path: Path) -> None:
        done = p8fs_cluster("config", "explain", "pg_port", path=install(tmp_path / "site", "1 / 0", "broken"))
        assert (done.returncode, done.stdout) == (0, "P8FS_PG_PORT = 5438 from the default\n")
        assert "can't be loaded: ZeroDivisionError" in done.stderr

    def test_a_file_that_can_not_be_read(self, tmp_path: Path) -> None:
        done = p8fs_cluster("config", "explain", "pg_port", config_file=tmp_path / "nowhere.toml")
        assert (done.returncode, done.stdout) == (1, "")
        assert "P8FS_CONFIG_FILE (from the environment)" in done.stderr
        assert "does not exist" in done.stderr
