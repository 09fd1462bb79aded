"""The model: what it reads, computes, refuses, and how it tells of it."""

from __future__ import annotations

import os
import pickle
import string
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import psycopg.conninfo
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from p8fs_cluster.config import spelling
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import ConfigurationError

NASTY = "p@ss/w:rd#%41 é→?&=+[]\\'\"`;"
PRINTABLE = "".join(c for c in string.printable if c.isprintable()) + NASTY


def fault(**values: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        P8FSConfig(**values)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None, "a chained ValidationError would hold the inputs"
    return str(caught.value)


def test_defaults() -> None:
    config = P8FSConfig()
    assert config.storage_provider == "postgresql"
    assert config.pg_connection_string == "postgresql://postgres:postgres@localhost:5438/app"
    assert config.tidb_connection_string == "mysql://root:@localhost:4000/test"
    assert config.auth_token_expiry == 3600
    assert (config.log_level, config.log_file) == ("INFO", None)


def test_connection_string_computation() -> None:
    variables = {
        "P8FS_PG_HOST": "testhost",
        "P8FS_PG_PORT": "5432",
        "P8FS_PG_DATABASE": "testdb",
        "P8FS_PG_USER": "testuser",
        "P8FS_PG_PASSWORD": "testpass",
    }
    with patch.dict(os.environ, variables):
        config = P8FSConfig()
        assert config.pg_connection_string == "postgresql://testuser:testpass@testhost:5432/testdb"


def test_names_are_case_insensitive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("p8fs_pg_Host", "lower")
    assert P8FSConfig().pg_host == "lower"


def read_by_libpq(dsn: str) -> dict[str, object]:
    return psycopg.conninfo.conninfo_to_dict(dsn)


@given(password=st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=40))
def test_any_password_is_read_back_by_every_driver(password: str) -> None:
    config = P8FSConfig(pg_password=password, tidb_password=password)
    if password:
        assert read_by_libpq(config.pg_connection_string)["password"] == password
    assert make_url(config.pg_connection_string).password == password
    assert make_url(config.tidb_connection_string).password == password


@pytest.mark.parametrize("password", [NASTY, PRINTABLE, "p@ss", "p/ss", "p%41ss", "a b", "plus+plus"])
def test_nasty_parts_are_read_back(password: str) -> None:
    config = P8FSConfig(pg_password=password, pg_user="a@b:c/d", pg_database="d b/%41")
    parts = read_by_libpq(config.pg_connection_string)
    assert (parts["user"], parts["password"], parts["dbname"]) == ("a@b:c/d", password, "d b/%41")
    url = make_url(config.pg_connection_string)
    assert (url.username, url.password, url.host, url.port) == ("a@b:c/d", password, "localhost", 5438)


@pytest.mark.parametrize("host", ["::1", "[::1]", "2001:db8::7", "fe80::1%eth0"])
def test_ipv6_hosts(host: str) -> None:
    config = P8FSConfig(pg_host=host, tidb_host=host)
    assert read_by_libpq(config.pg_connection_string)["host"] == host.strip("[]")
    if "%" not in host:
        assert make_url(config.pg_connection_string).host == host.strip("[]")
        assert make_url(config.tidb_connection_string).host == host.strip("[]")


def test_socket_directory_as_host() -> None:
    config = P8FSConfig(pg_host="/run/post gresql", tidb_host="/run/mysqld/mysqld.sock")
    parts = read_by_libpq(config.pg_connection_string)
    assert (parts["host"], parts["port"], parts["dbname"]) == ("/run/post gresql", "5438", "app")
    url = make_url(config.pg_connection_string)
    assert (url.query["host"], url.query["port"], url.database) == ("/run/post gresql", "5438", "app")
    assert make_url(config.tidb_connection_string).query["unix_socket"] == "/run/mysqld/mysqld.sock"


@pytest.mark.parametrize("port", ["0", "65536", "-1", "abc", "", "5432.5", "http://10.0.0.1:8000"])
@pytest.mark.parametrize("name", ["PG_PORT", "TIDB_PORT", "API_PORT"])
def test_bad_ports(name: str, port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"P8FS_{name}", port)
    message = fault()
    assert f"P8FS_{name} (from the environment): input should be" in message
    assert ("it is empty" if port == "" else port.rpartition(":")[2]) in message


def test_all_problems_come_at_once_and_name_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P8FS_STORAGE_PROVIDER", "oracle")
    monkeypatch.setenv("P8FS_LOG_LEVEL", "LOUD")
    monkeypatch.setenv("P8FS_LOG_FORMAT", "%(nothing)s")
    monkeypatch.setenv("P8FS_POOL_TIMEOUT", "inf")
    Path(".env").write_text("# ours\n\nP8FS_PG_PORT=0\nP8FS_PG_HOTS=x\nOTHER=1\n")
    with pytest.raises(ConfigurationError) as caught:
        spelling.judge(lambda: P8FSConfig(api_port=70000, pg_hst="y"))
    told = {problem.variable: problem.source for problem in caught.value.problems}
    assert told == {
        "P8FS_STORAGE_PROVIDER": "the environment",
        "P8FS_LOG_LEVEL": "the environment",
        "P8FS_LOG_FORMAT": "the environment",
        "P8FS_POOL_TIMEOUT": "the environment",
        "P8FS_PG_PORT": f"{Path.cwd()}/.env, line 3",
        "P8FS_PG_HOTS": f"{Path.cwd()}/.env, line 4",
        "P8FS_API_PORT": "code",
        "P8FS_PG_HST": "code",
    }
    text = str(caught.value)
    assert "'postgresql', 'tidb' or 'rocksdb'" in text
    assert text.count("did you mean P8FS_PG_HOST?") == 2
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems  # noqa: S301


@pytest.mark.parametrize("name", sorted(P8FSConfig.secret_names))
def test_a_bad_secret_is_named_and_not_shown(name: str) -> None:
    message = fault(**{name: b"\xff\xfehunter2"})
    assert f"P8FS_{name.upper()}" in message
    assert "hunter2" not in message
    assert "hunter2" not in fault(**{name: ["hunter2"]})
    assert "hunter2" not in fault(**{name: "hunter2\x00"})
    assert "must be UTF-8 text" in fault(**{name: "hunter2\udcff"})


def test_secrets_that_are_fine_are_not_shown_when_another_field_fails() -> None:
    assert "hunter2" not in fault(pg_password="hunter2", tidb_password="hunter2", pg_port=0)
    assert "hunter2" not in fault(pg_pasword="hunter2")


def test_a_connection_string_in_the_wrong_place_does_not_show_its_password() -> None:
    message = fault(pg_port="postgresql://me:hunter2@db/app", storage_provider="mysql://me:hunter2@db/app")
    assert "hunter2" not in message
    assert "postgresql://me:***@db/app" in message


def test_secrets_do_not_show_in_repr_and_dumps() -> None:
    config = P8FSConfig(pg_password="hunter2", tidb_password="hunter2", auth_jwt_secret="hunter2")
    for shown in (repr(config), str(config), str(config.model_dump()), config.model_dump_json()):
        assert "hunter2" not in shown
    assert config.secrets() == ("hunter2", "hunter2", "hunter2")


def test_frozen() -> None:
    config = P8FSConfig()
    with pytest.raises(AttributeError, match="frozen") as caught:
        config.pg_password = "hunter2"  # type: ignore[misc, assignment]
    assert "hunter2" not in str(caught.value)


def test_what_belongs_to_pydantic_settings_is_refused_rather_than_ignored() -> None:
    assert "P8FS__ENV_FILE (from code): there is no such setting; did you mean P8FS_ENV_FILE?" in fault(_env_file="x")


@pytest.mark.parametrize("level", ["info", " Info ", "INFO"])
def test_log_level_in_any_case(level: str) -> None:
    assert P8FSConfig(log_level=level).log_level == "INFO"


@pytest.mark.parametrize("level", ["VERBOSE", "20", "", 20, None])
def test_bad_log_levels(level: object) -> None:
    assert "P8FS_LOG_LEVEL" in fault(log_level=level)


@pytest.mark.parametrize("form", ["", "no field", "%(nope)s", "%(message)", "%(asctime)d", "%(message)q", "{message}"])
def test_bad_log_formats(form: str) -> None:
    assert "P8FS_LOG_FORMAT" in fault(log_format=form)


@pytest.mark.parametrize("name", ["pg_host", "pg_user", "pg_database", "tidb_host", "service_name", "rocksdb_path"])
def test_empty_is_refused_where_it_can_only_be_a_mistake(name: str) -> None:
    assert f"P8FS_{name.upper()}" in fault(**{name: ""})


def test_empty_is_none_for_optional_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P8FS_LOG_FILE", "")
    assert P8FSConfig().log_file is None


@pytest.mark.parametrize("value", [{}, [], object(), 3.5, None])
def test_wrong_types(value: object) -> None:
    assert "P8FS_PG_HOST" in fault(pg_host=value)


def test_with_changes_validates_and_keeps_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P8FS_PG_USER", "me")
    base = P8FSConfig(pg_password="x@y")
    monkeypatch.setenv("P8FS_PG_USER", "changed later")
    changed = base.with_changes({"pg_host": "db"})
    assert changed.pg_connection_string == "postgresql://me:x%40y@db:5438/app"
    assert (changed.origin("pg_user"), changed.origin("pg_host")) == ("the environment", "code")
    assert base.pg_host == "localhost"
    with pytest.raises(ConfigurationError, match="P8FS_PG_PORT"):
        base.with_changes({"pg_port": -1})
    with pytest.raises(ConfigurationError, match="did you mean P8FS_PG_HOST"):
        base.with_changes({"pg_hots": "x"})


class TestDotEnv:
    def test_only_prefixed_keys_and_the_environment_wins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path(".env").write_text("PG_HOST=no\nP8FS_PG_HOST=file\nexport P8FS_PG_USER='f'\nDATABASE_URL=x\n")
        assert (P8FSConfig().pg_host, P8FSConfig().pg_user) == ("file", "f")
        monkeypatch.setenv("P8FS_PG_HOST", "environment")
        assert P8FSConfig().pg_host == "environment"
        assert P8FSConfig(pg_host="argument").pg_host == "argument"

    @pytest.mark.parametrize("quote", ["'", '"', ""])
    def test_nothing_is_interpolated(self, quote: str) -> None:
        Path(".env").write_text(f"P8FS_PG_PASSWORD={quote}a${{HOME}}$b{quote}\n")
        assert P8FSConfig().pg_password.get_secret_value() == "a${HOME}$b"

    def test_empty_and_missing(self) -> None:
        assert P8FSConfig() == P8FSConfig()
        Path(".env").write_text("")
        assert P8FSConfig().pg_host == "localhost"

    def test_byte_order_mark(self) -> None:
        Path(".env").write_bytes("P8FS_PG_HOST=ü\n".encode("utf-8-sig"))
        assert P8FSConfig().pg_host == "ü"

    @pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
    def test_not_utf8(self, encoding: str) -> None:
        Path(".env").write_bytes("A=1\nP8FS_PG_PASSWORD=hünter2\n".encode(encoding))
        message = fault()
        assert f"the settings file {Path.cwd()}/.env: is not UTF-8 text (line" in message
        assert "nter2" not in message

    def test_a_directory_in_its_place(self) -> None:
        Path(".env").mkdir()
        assert f"the settings file {Path.cwd()}/.env: is not a file" in fault()

    def test_huge(self) -> None:
        with Path(".env").open("wb") as file:
            file.truncate(64 * 1024**2)
        assert "67,108,864 bytes" in fault()

    def test_many_lines_are_read(self) -> None:
        Path(".env").write_text("".join(f"OTHER_{n}=value\n" for n in range(20_000)) + "P8FS_PG_HOST=last\n")
        assert P8FSConfig().pg_host == "last"

    def test_a_device(self) -> None:
        Path(".env").symlink_to("/dev/zero")
        assert f"the settings file {Path.cwd()}/.env: is not a file" in fault()

    def test_unreadable(self) -> None:
        with patch.object(Path, "read_bytes", side_effect=PermissionError(13, "Permission denied")):
            Path(".env").touch()
            with pytest.raises(ConfigurationError, match=r"\.env: can't be read: Permission denied"):
                P8FSConfig()

    def test_an_unfinished_quote_names_its_line_and_shows_nothing(self) -> None:
        Path(".env").write_text("P8FS_PG_HOST=db\nP8FS_PG_PASSWORD='hunter2\n")
        message = fault()
        assert f"P8FS_PG_PASSWORD (from {Path.cwd()}/.env, line 2): an unfinished quote" in message
        assert "hunter2" not in message

    def test_a_quote_that_ends_further_down_is_no_value(self) -> None:
        Path(".env").write_text('P8FS_PG_HOST="db\nP8FS_PG_PASSWORD=hunter2\nP8FS_PG_USER="\n')
        message = fault()
        assert f"P8FS_PG_HOST (from {Path.cwd()}/.env, line 1): a quote that ends in another setting" in message
        assert "hunter2" not in message

    def test_a_value_of_several_lines(self) -> None:
        Path(".env").write_text("P8FS_AUTH_JWT_SECRET='-----BEGIN\nabc=\n-----END'\n")
        secret = P8FSConfig().auth_jwt_secret
        assert secret is not None
        assert secret.get_secret_value() == "-----BEGIN\nabc=\n-----END"

    def test_a_name_without_a_value(self) -> None:
        Path(".env").write_text("P8FS_PG_HOST\n")
        assert f"P8FS_PG_HOST (from {Path.cwd()}/.env, line 1): has no value" in fault()

    def test_named_by_a_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path(".env").write_text("P8FS_PG_HOST=no\n")
        Path("prod.env").write_text("P8FS_PG_HOST=yes\n")
        monkeypatch.setenv("P8FS_ENV_FILE", "prod.env")
        assert P8FSConfig().pg_host == "yes"
        monkeypatch.setenv("P8FS_ENV_FILE", "")
        assert P8FSConfig().pg_host == "localhost"
        monkeypatch.setenv("P8FS_ENV_FILE", "missing.env")
        assert "missing.env does not exist" in fault()


@given(text=st.text(max_size=300))
def test_any_dotenv_gives_settings_or_our_error(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.env"
    path.write_bytes(("P8FS_PG_HOST=" + text).encode("utf-8", "surrogatepass"))
    with patch.dict(os.environ, {"P8FS_ENV_FILE": str(path)}):
        try:
            P8FSConfig()
        except ConfigurationError as exc:
            assert str(exc)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("P8FS_")}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**clean, **environment}, check=False
    )


HEAVY = (
    "psycopg",
    "psycopg_pool",
    "sqlalchemy",
    "pymysql",
    "rocksdict",
    "dependency_injector",
    "fastapi",
    "typer",
    "rich",
)


@pytest.mark.parametrize(
    "statement",
    ["import p8fs_cluster", "from p8fs_cluster.config.settings import config, P8FSConfig; config.pg_host"],
)
def test_imports_stay_light(statement: str) -> None:
    done = run_python(f"{statement}\nimport sys; print([name for name in {HEAVY!r} if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_importing_reads_nothing_and_the_first_read_fails_clearly() -> None:
    code = """
import p8fs_cluster
from p8fs_cluster.config.settings import config
from p8fs_cluster.exceptions import ConfigurationError
print("imported", config)
for _ in range(2):
    try:
        config.pg_host
    except ConfigurationError as exc:
        print(exc)
import os
del os.environ["P8FS_PG_PORT"]
print(config.pg_host)
"""
    done = run_python(code, P8FS_PG_PORT="abc")
    assert done.returncode == 0, done.stderr
    first, *rest, last = done.stdout.splitlines()
    assert first == "imported <live view of settings that were not read yet>"
    assert sum("P8FS_PG_PORT (from the environment)" in line for line in rest) == 2
    assert last == "localhost"
