"""Settings that modules declare: read, validated, overridden, injected and reloaded with the core ones."""

from __future__ import annotations

import importlib
import json
import pickle
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import AliasPath, BaseModel, Field, SecretStr, field_validator

from p8fs_cluster import Container, Provide, Section, inject
from p8fs_cluster.config import section
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.config.spelling import judge
from p8fs_cluster.exceptions import ConfigurationError


class Retry(BaseModel):
    times: int = 3
    key: SecretStr = SecretStr("")


def mail() -> Any:
    class MailSettings(Section, prefix="mail_"):
        """How mail is sent."""

        server: str = Field(default="localhost", description="The server")
        senders: list[str] = []
        ports: tuple[int, ...] = (25,)
        weights: dict[str, int] = {}
        password: SecretStr = SecretStr("")
        keys: list[SecretStr] = []
        retry: Retry = Retry()

    return MailSettings


def fault(action: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        action(*arguments, **named)
    assert caught.value.__cause__ is caught.value.__context__ is None
    return str(caught.value)


def test_it_is_read_from_the_same_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    mail_settings = mail()
    monkeypatch.setenv("P8FS_MAIL_SERVER", "environment")
    Path("a.yaml").write_text("mail:\n  senders: [ann, ben]\n  weights: {ann: 1}\n  retry: {times: 5, key: hunter2}\n")
    monkeypatch.setenv("P8FS_CONFIG_FILE", "a.yaml")
    Path(".env").write_text("P8FS_MAIL_SERVER=lost\nP8FS_MAIL_PASSWORD=hunter2\nP8FS_MAIL_PORTS=25, 587\n")
    read = P8FSConfig().section(mail_settings)
    assert (read.server, read.senders, read.ports, read.weights) == (
        "environment",
        ["ann", "ben"],
        (25, 587),
        {"ann": 1},
    )
    assert (read.retry.times, read.password.get_secret_value()) == (5, "hunter2")
    assert "hunter2" not in repr(read)
    assert read == mail_settings()
    assert [loser.value for loser in read.explain("server").lost] == ["lost", "localhost"]


@pytest.mark.parametrize(
    ("text", "read"), [("", []), ("a", ["a"]), ("a, b,c", ["a", "b", "c"]), ('["a,b", "c"]', ["a,b", "c"])]
)
def test_lists(text: str, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    mail_settings = mail()
    monkeypatch.setenv("P8FS_MAIL_SENDERS", text)
    assert P8FSConfig().section(mail_settings).senders == read


@pytest.mark.parametrize(("text", "read"), [("", {}), ("a=1, b=2", {"a": 1, "b": 2}), ('{"a": 1}', {"a": 1})])
def test_tables(text: str, read: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    mail_settings = mail()
    monkeypatch.setenv("P8FS_MAIL_WEIGHTS", text)
    assert P8FSConfig().section(mail_settings).weights == read


def test_its_faults_come_with_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    class Needing(Section, prefix="needing_"):
        token: SecretStr
        odd: str = "a"

        @field_validator("token", mode="before")
        @classmethod
        def _check(cls, value: str) -> str:
            raise ValueError(f"{value} is too short")

    mail()
    for name, value in {"PORTS": "25,x", "SENDERS": '["a"', "WEIGHTS": "a", "KEYS": '[1, "hunter2"]'}.items():
        monkeypatch.setenv(f"P8FS_MAIL_{name}", value)
    monkeypatch.setenv("P8FS_MAIL_RETRY", '{"times": "x", "key": "hunter2"}')
    monkeypatch.setenv("P8FS_NEEDING_TOKEN", "hunter2")
    monkeypatch.setenv("P8FS_PG_PORT", "0")
    told = fault(P8FSConfig)
    assert "hunter2" not in told
    for line in (
        "P8FS_PG_PORT (from the environment): input should be greater than or equal to 1, got '0'",
        "P8FS_MAIL_PORTS (from the environment): at 1: input should be a valid integer, unable to parse string as an "
        "integer, got 'x'",
        "P8FS_MAIL_SENDERS (from the environment): input should be a list: a,b or JSON, got '[\"a\"'",
        "P8FS_MAIL_WEIGHTS (from the environment): input should be a=1,b=2 or a JSON object, got 'a'",
        "P8FS_MAIL_KEYS (from the environment): at 0: input should be a valid string",
        "P8FS_MAIL_RETRY (from the environment): at times: input should be a valid integer",
        "P8FS_NEEDING_TOKEN (from the environment): is not valid",
    ):
        assert line in told


def test_what_is_missing_is_named() -> None:
    class Needing(Section, prefix="needing_"):
        token: str

    assert "P8FS_NEEDING_TOKEN: field required" in fault(P8FSConfig)
    assert P8FSConfig(needing_token="t").section(Needing).token == "t"


def test_a_section_that_is_declared_later_belongs_to_the_same_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P8FS_MAIL_SERVER", "at first")
    before = P8FSConfig()
    monkeypatch.setenv("P8FS_MAIL_SERVER", "later")
    mail_settings = mail()
    assert before.section(mail_settings).server == "at first"
    assert before.section(mail_settings) is before.section(mail_settings)


def test_override_and_injection() -> None:
    mail_settings = mail()

    @inject
    def server(found: Any = Provide[Container.section(mail_settings)]) -> str:
        return str(found.server)

    @inject
    def annotated(found: Annotated[Any, Provide[Container.section(mail_settings)]]) -> str:
        return str(found.server)

    with Container(config={"mail_server": "given"}) as container:
        container.check(functions=[server, annotated])
        assert (server(), annotated(), container.section(mail_settings).server) == ("given",) * 3
        with container.config.override({"mail_server": "override", "pg_host": "db"}) as both:
            assert (server(), both.pg_host, both.explain("mail_server").source) == ("override", "db", "code")
        with container.config.override({"mail_server": "isolated"}, isolated=True):
            assert server() == "isolated"
        assert server() == "given"
        told = fault(container.config.override, {"mail_servr": "x", "mail_ports": "x"})
        assert "P8FS_MAIL_SERVR (from code): there is no such setting; did you mean P8FS_MAIL_SERVER?" in told
        assert "P8FS_MAIL_PORTS (from code)" in told


def test_changes_and_names_of_its_own() -> None:
    mail_settings = mail()
    made = mail_settings(server="a")
    assert (made.with_changes({"server": "b"}).server, made.model_copy(update={"server": "c"}).server) == ("b", "c")
    assert "P8FS_MAIL_PORTS" in fault(made.with_changes, {"ports": "x"})
    assert "did you mean P8FS_MAIL_SERVER?" in fault(mail_settings, servr="x")
    assert made.describe("server") == "P8FS_MAIL_SERVER (from code)"
    assert P8FSConfig(mail_server="x").differing(P8FSConfig()) == {"mail_server"}


@pytest.mark.parametrize("prefix", ["mail", "Mail_", "_", "1_"])
def test_a_prefix_is_lower_case_and_ends_in_an_underscore(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="needs a prefix in lower case that ends in _"):

        class Wrong(Section, prefix=prefix):
            a: int = 1


def test_a_name_belongs_to_one() -> None:
    mail()
    with pytest.raises(ConfigurationError, match=r"Again and .*MailSettings both claim P8FS_MAIL_SERVER: rename one"):

        class Again(Section, prefix="mail_"):
            server: str = ""

    with pytest.raises(ConfigurationError, match=r"P8FSConfig both claim P8FS_AUTH_JWT_SECRET"):

        class Auth(Section, prefix="auth_"):
            jwt_secret: str = ""

    with pytest.raises(ConfigurationError, match=r"p8fs_cluster itself both claim P8FS_CONFIG_FILE"):

        class Config(Section, prefix="config_"):
            file: str = ""

    with pytest.raises(ConfigurationError, match="a setting is named in lower case"):

        class Cased(Section, prefix="cased_"):
            A: str = ""

    with pytest.raises(ConfigurationError, match="an alias is the name of a variable, not a path"):

        class Aliased(Section, prefix="aliased_"):
            a: str = Field("", validation_alias=AliasPath("b", 0))

    with pytest.raises(ConfigurationError, match="is a method of every section"):

        class Shadowing(Section, prefix="shadowing_"):
            explain: str = ""

    refused = {"Again", "Auth", "Config", "Shadowing", "Aliased", "Cased"}
    assert not refused & {cls.__name__ for cls in section.declared()}


def test_a_class_that_is_defined_anew_takes_the_place_of_the_former() -> None:
    first, second = mail(), mail()
    assert section.declared()[-1] is second
    assert first not in section.declared()
    assert P8FSConfig(mail_server="x").section(second).server == "x"


def test_what_is_no_section_is_refused() -> None:
    assert "is no section" in fault(P8FSConfig().section, Retry)


class Pickled(Section, prefix="pickled_"):
    a: int = 1
    region: str = Field("", validation_alias="SOME_REGION")


def test_a_snapshot_pickles_with_its_sections() -> None:
    snapshot = pickle.loads(pickle.dumps(P8FSConfig(pickled_a=7)))  # noqa: S301
    assert (snapshot.section(Pickled).a, snapshot.origin("pg_host")) == (7, "the default")


def test_installed_packages_tell_of_their_sections(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "installed_mail.py").write_text(
        "from p8fs_cluster import Section\nclass Mail(Section, prefix='installed_'):\n    server: str = ''\n"
    )
    (tmp_path / "installed_broken.py").write_text("raise OSError('no')\n")
    info = tmp_path / "installed-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: installed\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        f"[{section.ENTRY_POINTS}]\nmail = installed_mail:Mail\nbroken = installed_broken:X\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    monkeypatch.setenv("P8FS_INSTALLED_SERVER", "db")
    judge(P8FSConfig)
    assert P8FSConfig().explain("installed_server").value == "db"
    problems = [str(problem) for problem in section.load_installed()]
    assert problems == ["the section broken (from the entry point installed_broken:X): can't be loaded: OSError: no"]
    monkeypatch.setenv("P8FS_STRICT", "true")
    monkeypatch.setenv("P8FS_INSTALLED_SERVR", "db")
    assert "did you mean P8FS_INSTALLED_SERVER?" in fault(P8FSConfig)
    sys.path.remove(str(tmp_path))
    assert section.load_installed() == (), "faults of packages that are gone are gone with them"


def test_explanations_are_for_machines_too(monkeypatch: pytest.MonkeyPatch) -> None:
    mail()
    monkeypatch.setenv("P8FS_MAIL_PASSWORD", "hunter2")
    Path(".env").write_text("P8FS_MAIL_PASSWORD=hunter1\nP8FS_MAIL_KEYS=hunter3,hunter4\n")
    told = json.dumps([P8FSConfig().explain(name).as_dict() for name in ("mail_password", "P8FS_MAIL_KEYS")])
    assert json.loads(told)[0] == {
        "variable": "P8FS_MAIL_PASSWORD",
        "name": "mail_password",
        "value": "***",
        "source": "the environment",
        "lost": [{"value": "***", "source": f"{Path.cwd()}/.env, line 1"}, {"value": "", "source": "the default"}],
        "service_links": [],
        "description": "",
        "stale": "",
    }
    assert "hunter" not in told
    with pytest.raises(ConfigurationError, match="did you mean P8FS_MAIL_KEYS"):
        P8FSConfig().explain("mail_kees")


def test_a_password_in_a_value_that_is_no_secret_is_masked() -> None:
    class Places(Section, prefix="places_"):
        folder: Path = Path("data")
        hosts: tuple[str, ...] = ()
        known: frozenset[str] = frozenset()

    url = "postgresql://me:hunter2@db/app"
    places = Places(folder=url, hosts=[url], known=[url])
    assert "hunter2" not in f"{places!r}{places}{places.explain('folder')}{places.explain('hosts')}"
    assert "PosixPath('postgresql:/me:***@db/app')" in repr(places)
    assert places.folder == Path(url), "it is shown otherwise than it is"


class TestInheritance:
    def test_a_prefix_is_inherited_so_a_second_section_needs_its_own(self) -> None:
        parent = mail()
        with pytest.raises(ConfigurationError, match="both claim P8FS_MAIL_SERVER: rename one"):
            type(Section)("Special", (parent,), {"__module__": __name__})
        special = type(Section)("Special", (parent,), {"__module__": __name__}, prefix="special_")
        assert P8FSConfig(special_server="x").section(special).server == "x"


LATE = {
    "s.yaml": "late:\n  limits: {A: 1, b-c: 2}\n  relay: {host: db, ports: [1, 2]}\n  none: {}\n",
    "s.toml": "[late.limits]\nA = 1\nb-c = 2\n[late.relay]\nhost = 'db'\nports = [1, 2]\n[late.none]\n",
}


@pytest.mark.parametrize("file", LATE)
def test_tables_of_a_section_that_comes_late(
    file: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Path(file).write_text(LATE[file])
    monkeypatch.setenv("P8FS_CONFIG_FILE", file)
    settings = P8FSConfig()

    class Relay(BaseModel):
        host: str
        ports: list[int]

    class Late(Section, prefix="late_"):
        limits: dict[str, int] = {"of the default": 0}
        relay: Relay | None = None
        none: dict[str, int] = {"of the default": 0}

    found = settings.section(Late)
    assert (found.limits, found.none) == ({"A": 1, "b-c": 2}, {})
    assert found.relay == Relay(host="db", ports=[1, 2])
    assert found.limits == P8FSConfig().section(Late).limits
    judge(lambda: settings)
    assert caplog.messages == []


def test_a_pickle_holds_nothing_of_the_environment_but_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_REGION", "here")
    monkeypatch.setenv("SOMEBODYS_PASSWORD", "hunter2")
    pickled = pickle.dumps(P8FSConfig(pg_host="db"))
    assert b"hunter2" not in pickled
    read = pickle.loads(pickled)  # noqa: S301
    monkeypatch.delenv("SOME_REGION")
    assert read.with_changes({"pg_port": 1}).section(Pickled).region == "here"
