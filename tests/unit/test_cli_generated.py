"""`p8fs-cluster config schema`, `env-example` and `docs`: what is generated from the models."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

from p8fs_cluster.cli.documentation import env_example, settings_table
from p8fs_cluster.cli.schema import json_schema
from p8fs_cluster.config.settings import P8FSConfig
from tests.command import install, p8fs_cluster

CORE = (P8FSConfig,)


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The schema as the command prints it, with the sections of an installed package."""
    done = p8fs_cluster("config", "schema", path=install(tmp_path_factory.mktemp("schema") / "site"))
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class TestSchema:
    def test_is_one(self, schema: dict[str, Any]) -> None:
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        Draft202012Validator.check_schema(schema)

    def test_has_every_setting_with_its_meaning(self, schema: dict[str, Any]) -> None:
        assert set(P8FSConfig.model_fields) < set(schema["properties"])
        assert schema["properties"]["pg_port"] == {
            "type": "integer",
            "minimum": 1,
            "maximum": 65535,
            "default": 5438,
            "description": "PostgreSQL port",
        }
        assert {"mail_server", "mail_port", "mail_relay"} < set(schema["properties"])
        assert "required" not in schema, "what one file lacks another source may have"

    def test_has_no_default_of_a_secret(self, schema: dict[str, Any]) -> None:
        text = json.dumps(schema)
        assert "built-in" not in text
        assert "***" not in text
        for name in ("pg_password", "tidb_password", "auth_jwt_secret", "mail_key", "mail_relay"):
            assert "default" not in schema["properties"][name]
        assert "default" not in schema["$defs"]["Relay"]["properties"]["password"]
        assert schema["$defs"]["Relay"]["properties"]["host"]["default"] == "relay"

    FILE = """
pg_host = "db"
pg_port = 5432
pg_password = "x"
pool_timeout = 2.5
strict = true
log_level = "INFO"
mail_port = 25
mail_senders = ["ann", "ben"]
mail_relay = {host = "relay", password = "x"}
"""

    def test_takes_a_file_that_the_settings_take(self, schema: dict[str, Any], tmp_path: Path) -> None:
        path = install(tmp_path / "site")
        Path("s.toml").write_text(self.FILE)
        found = tomllib.loads(self.FILE)
        Path("s.yaml").write_text(yaml.safe_dump(found))
        for name in ("s.toml", "s.yaml"):
            Draft202012Validator(schema).validate(found)
            shown = p8fs_cluster("config", "show", "--json", path=path, config_file=name)
            assert shown.returncode == 0, shown.stderr
            assert json.loads(shown.stdout)["mail_senders"]["value"] == ["ann", "ben"]
        Draft202012Validator(schema).validate({"mail_senders": "ann, ben", "mail_relay": "host=relay"})
        Draft202012Validator(schema).validate({"log_file": None})

    @pytest.mark.parametrize(
        "wrong",
        [
            {"pg_hots": "db"},
            {"pg_port": 0},
            {"pg_port": "abc"},
            {"storage_provider": "sqlite"},
            {"mail_relay": {"host": 1}},
            {"pg_host": ""},
            {"pg_password": None},
        ],
    )
    def test_refuses_what_the_settings_refuse(self, schema: dict[str, Any], wrong: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            Draft202012Validator(schema).validate(wrong)

    def test_of_types_that_json_does_not_know(self, tmp_path: Path) -> None:
        code = """
from collections.abc import Callable
from p8fs_cluster import Section
class Odd(Section, prefix="odd_"):
    action: Callable[[], int] | None = None
    limit: float = float("inf")
    limits: dict[str, list[float]] = {"a": [float("nan")]}
    data: bytes = bytes([255])
"""
        done = p8fs_cluster("config", "schema", path=install(tmp_path / "site", code, "odd"))
        assert (done.returncode, done.stderr) == (0, "")
        schema = json.loads(done.stdout)
        Draft202012Validator.check_schema(schema)
        assert schema["properties"]["odd_limit"] == {"type": "number"}
        Draft202012Validator(schema).validate({"odd_action": None, "odd_limits": {"a": [1.5]}})


class TestExample:
    def test_every_setting_is_commented_out(self) -> None:
        assert all(line.startswith("#") or not line for line in env_example(CORE).splitlines())
        Path(".env").write_text(env_example(CORE))
        assert P8FSConfig().model_fields_set == set()

    def test_uncommented_it_is_valid_and_the_defaults(self) -> None:
        text = env_example(CORE)
        defaults = P8FSConfig()
        Path(".env").write_text(text.replace("#P8FS_", "P8FS_"))
        read = P8FSConfig()
        assert read.model_fields_set == set(P8FSConfig.model_fields)
        assert read.differing(defaults) == {"pg_password"}, "secrets are empty in it"
        assert {read.pg_password.get_secret_value(), read.tidb_password.get_secret_value()} == {""}

    def test_with_sections_and_ugly_defaults(self, tmp_path: Path) -> None:
        code = r"""
from pydantic import Field, SecretStr
from p8fs_cluster import Section
class Odd(Section, prefix="odd_"):
    text: str = Field("a #b 'c' \"d\" \\ ${E}\nf\tg\\", description="Two\nP8FS_ODD_LINES=1")
    limit: int | None = None
    flag: bool | None = None
    many: list[str] = ["a,b", "c"]
    table: dict[str, int] = {}
    key: SecretStr = SecretStr("hunter2")
    made: list[str] = Field(default_factory=lambda: ["at run time"])
    required: int
"""
        path = install(tmp_path / "site", code, "odd")
        example = p8fs_cluster("config", "env-example", path=path).stdout
        assert "hunter2" not in example
        assert "at run time" not in example
        Path(".env").write_text(example.replace("#P8FS_", "P8FS_"))
        shown = p8fs_cluster("config", "show", "--json", path=path)
        assert shown.returncode == 0, shown.stderr
        values = {name: entry["value"] for name, entry in json.loads(shown.stdout).items() if name.startswith("odd_")}
        assert values["odd_text"] == "a #b 'c' \"d\" \\ ${E}\nf\tg\\"
        assert (values["odd_many"], values["odd_table"]) == (["a,b", "c"], {})
        assert "it has to be given\n#P8FS_ODD_REQUIRED=" in example


class TestDocs:
    def test_have_settings_and_what_says_where_sources_are(self) -> None:
        done = p8fs_cluster("config", "docs")
        assert done.returncode == 0
        assert done.stdout == settings_table(CORE) + "\n"
        assert "| `P8FS_PG_PORT` | `5438` | PostgreSQL port |" in done.stdout
        for variable in ("P8FS_SECRETS_DIR", "P8FS_CONFIG_DIR", "P8FS_CONFIG_FILE", "P8FS_ENV_FILE"):
            assert f"| `{variable}` |" in done.stdout

    def test_have_sections_in_rows_that_stay_rows(self, tmp_path: Path) -> None:
        code = """
from pydantic import Field
from p8fs_cluster import Section
class Odd(Section, prefix="odd_"):
    text: str = Field("a|b", description="One\\nor | the other")
"""
        done = p8fs_cluster("config", "docs", path=install(tmp_path / "site", code, "odd"))
        assert "| `P8FS_ODD_TEXT` | `a\\|b` | One or \\| the other |" in done.stdout


@pytest.mark.parametrize(
    "command", [("schema",), ("env-example",), ("docs",), ("k8s", "--name", "x"), ("diff", "env", "env")]
)
def test_nothing_is_generated_without_a_section_that_should_be_there(command: tuple[str, ...], tmp_path: Path) -> None:
    done = p8fs_cluster("config", *command, path=install(tmp_path / "site", "1 / 0", "broken"))
    assert (done.returncode, done.stdout) == (2 if command[0] == "diff" else 1, "")
    assert "the section broken (from the entry point broken): can't be loaded: ZeroDivisionError" in done.stderr


def test_the_schema_needs_no_file_of_settings() -> None:
    done = p8fs_cluster("config", "schema", pg_port="no number")
    assert (done.returncode, json.loads(done.stdout)) == (0, json_schema(CORE))


@pytest.mark.parametrize("command", ["", "show", "explain", "docs", "schema", "env-example", "k8s", "diff"])
def test_every_command_has_help(command: str) -> None:
    done = p8fs_cluster("config", *filter(None, [command]), "--help")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) > 8
