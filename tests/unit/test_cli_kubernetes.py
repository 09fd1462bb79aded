"""`p8fs-cluster config k8s`: what a pod reads from the manifests is what they were made of."""

from __future__ import annotations

import base64
import os
import pty
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import kubernetes_validate
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from p8fs_cluster import ConfigurationError, Section
from p8fs_cluster.cli.catalogue import Models
from p8fs_cluster.cli.kubernetes import Manifests, Mount, manifests, misnamed, pod_spec, stream
from p8fs_cluster.cli.rendering import same
from p8fs_cluster.config import section
from p8fs_cluster.config.settings import P8FSConfig
from tests.command import p8fs_cluster
from tests.processes import PATIENCE

CORE = (P8FSConfig,)
CONTEXT = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "notes"}}


@pytest.fixture(scope="module")
def models() -> Iterator[Models]:
    """The core's model, and that of a section which only this module knows."""
    with pytest.MonkeyPatch.context() as patched:
        for name in ("_declared", "_owners"):
            patched.setattr(section, name, dict(getattr(section, name)))

        class Relay(BaseModel):
            host: str = "relay"
            password: SecretStr = SecretStr("")
            ports: set[int] = {25}

        class Nasty(Section, prefix="nasty_"):
            text: str = "default"
            key: SecretStr = SecretStr("")
            many: list[str] = []
            table: dict[str, float] = {}
            ratio: float = 0.0
            limit: int | None = None
            bound: int | None = 5
            flag: bool = True
            path: Path = Path("a")
            relay: Relay = Relay()

        yield (P8FSConfig, Nasty)


def deployment(lines: str) -> dict[str, Any]:
    """A deployment with the generated lines as its pods' spec, as Kubernetes checks it."""
    spec = yaml.safe_load(lines)
    spec["containers"][0]["image"] = "notes:1"
    labels = {"app": "notes"}
    template = {"metadata": {"labels": labels}, "spec": spec}
    made = {**CONTEXT, "spec": {"selector": {"matchLabels": labels}, "template": template}}
    kubernetes_validate.validate(made, "1.32", strict=True)
    return made


def documents(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """The texts in the ConfigMap and the Secret of a stream, as Kubernetes checks them."""
    config, secret = yaml.safe_load_all(text)
    for document, kind in ((config, "ConfigMap"), (secret, "Secret")):
        assert document["kind"] == kind
        kubernetes_validate.validate(document, "1.32", strict=True)
    return config["data"], {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}


def as_a_pod(text: str, lines: str, mount: Mount, folder: Path) -> P8FSConfig:
    """Return the settings of a pod that has the manifests and the lines in its spec."""
    pod = deployment(lines)["spec"]["template"]["spec"]
    container = pod["containers"][0]
    config, secrets = documents(text)
    if mount == "env":
        assert [*map(tuple, container["envFrom"])] == [("configMapRef",), ("secretRef",)]
        variables = {**config, **secrets}
    else:
        places = {mounted["mountPath"]: folder / mounted["name"] for mounted in container["volumeMounts"]}
        for place, texts in zip(places.values(), (config, secrets), strict=True):
            mounted(place, texts)
        variables = {each["name"]: str(places[each["value"]]) for each in container["env"] if "value" in each}
    with patch.dict(os.environ, variables):
        return P8FSConfig()


def mounted(place: Path, texts: dict[str, str]) -> None:
    """Write files as the kubelet does."""
    (place / "..data").mkdir(parents=True, exist_ok=True)
    for old in (place / "..data").iterdir():
        (place / old.name).unlink()
        old.unlink()
    for name, text in texts.items():
        (place / "..data" / name).write_bytes(text.encode())
        (place / name).symlink_to(Path("..data") / name)


NASTY = ["1e5", "0o17", "yes", "null", "~", "-", "#", "a: b", "${X}", "$(X)", "{{ x }}", " a ", "é→😀", "a\nb", "'\"\\"]
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12) | st.sampled_from(NASTY)
given_settings = st.fixed_dictionaries(
    {},
    optional={
        "pg_host": st.from_regex(r"[a-z][a-z0-9.-]{0,12}", fullmatch=True),
        "pg_port": st.integers(1, 65535),
        "pg_password": text,
        "auth_jwt_secret": text,
        "strict": st.booleans(),
        "pool_timeout": st.floats(1e-5, 86400),
        "rocksdb_path": text.filter(bool),
        "log_file": st.none() | text.filter(bool).map(Path),
        "nasty_text": text,
        "nasty_key": text,
        "nasty_many": st.lists(text, max_size=3),
        "nasty_table": st.dictionaries(text, st.floats(), max_size=3),
        "nasty_ratio": st.floats(),
        "nasty_limit": st.integers(),
        "nasty_flag": st.booleans(),
        "nasty_path": text.filter(bool),
        "nasty_relay": st.fixed_dictionaries({"password": text, "ports": st.frozensets(st.integers(), max_size=3)}),
    },
)


def is_lost_in_a_file(value: object) -> bool:
    if isinstance(value, Path):
        return str(value).startswith("~") or str(value) != str(value).removeprefix("\ufeff").strip()
    return isinstance(value, str) and value != value.removeprefix("\ufeff").rstrip("\r\n")


@pytest.mark.parametrize("mount", ["volumes", "env"])
@settings(max_examples=150)
@given(values=given_settings)
@example(values={"nasty_text": "tcp://10.0.0.1:8000", "pg_password": "-----BEGIN KEY-----\nab\n-----END KEY-----"})
@example(values={"nasty_text": "to mysql://root:hunter2@db/app", "nasty_ratio": float("nan")})
def test_a_pod_reads_what_was_there(
    mount: Mount, models: Models, tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    before = P8FSConfig(**values)
    try:
        made = manifests(before, models, mount)
    except ConfigurationError as exc:
        lost = {f"P8FS_{name.upper()}" for name, value in values.items() if is_lost_in_a_file(value)}
        assert lost >= {problem.variable for problem in exc.problems} != set()
        return
    after = as_a_pod(
        stream(made, "notes", "prod", mount), pod_spec("notes", mount), mount, tmp_path_factory.mktemp("m")
    )
    here, there = dict(before.values()), dict(after.values())
    for_a_pod = {"api_host"} | ({"reload"} if mount == "volumes" else set())
    assert {name for name in here if not same(here[name], there[name])} == for_a_pod
    assert not {"P8FS_PG_PASSWORD", "P8FS_NASTY_KEY", "P8FS_NASTY_RELAY"} & made.config.keys()
    assert "hunter2" not in str(made.config), "a password in an address is one, too"


FOR_A_POD = {"P8FS_API_HOST": "0.0.0.0", "P8FS_RELOAD": "true"}
"""What a pod with mounted files is given where nothing else is said."""


class TestStream:
    def test_only_what_differs_from_the_defaults(self) -> None:
        done = p8fs_cluster("config", "k8s", "--name", "notes", pg_host="db", pg_port=5438, pg_password="hunter2")
        assert (done.returncode, done.stderr) == (0, "")
        assert documents(done.stdout) == ({**FOR_A_POD, "P8FS_PG_HOST": "db"}, {"P8FS_PG_PASSWORD": "hunter2"})
        assert "hunter2" not in done.stdout

    @pytest.mark.parametrize("mount", ["volumes", "env"])
    def test_of_nothing(self, mount: Mount, tmp_path: Path) -> None:
        done = p8fs_cluster("config", "k8s", "--name", "notes", "--mount", mount)
        needed = FOR_A_POD if mount == "volumes" else {"P8FS_API_HOST": "0.0.0.0"}
        assert documents(done.stdout) == (needed, {})
        lines = p8fs_cluster("config", "k8s", "--name", "notes", "--mount", mount, "--pod-spec").stdout
        pod = as_a_pod(done.stdout, lines, mount, tmp_path)
        assert pod.differing(P8FSConfig()) == {variable[5:].lower() for variable in needed}

    def test_what_was_said_stays_and_an_address_of_the_machine_alone_is_told(self) -> None:
        said = {"api_host": "127.0.0.1", "reload": "false"}
        done = p8fs_cluster("config", "k8s", "--name", "notes", **said)
        assert documents(done.stdout) == ({"P8FS_RELOAD": "false"}, {})
        assert "P8FS_API_HOST (from the environment) is 127.0.0.1: nobody outside the pod reaches it" in done.stderr

    @pytest.mark.parametrize("mount", ["volumes", "env"])
    def test_the_pods_lines_are_a_comment_at_its_end(self, mount: Mount) -> None:
        text = p8fs_cluster("config", "k8s", "--name", "notes", "--mount", mount, pg_port=1).stdout
        comment = "\n".join(line[2:] for line in text.splitlines() if line.startswith("# "))
        lines = p8fs_cluster("config", "k8s", "--name", "notes", "--mount", mount, "--pod-spec").stdout
        assert comment == "For the pod's spec:\n" + lines.removesuffix("\n")
        spec = deployment(lines)["spec"]["template"]["spec"]
        assert spec["enableServiceLinks"] is False
        assert all(mounted["readOnly"] for mounted in spec["containers"][0].get("volumeMounts", ()))

    def test_text_is_quoted_for_kubectl_has_more_numbers_than_we(self) -> None:
        made = Manifests({"P8FS_A": "1e5", "P8FS_B": "0o17"}, {"P8FS_C": "x"})
        text = stream(made, "1e5", "1e5", "volumes")
        assert re.findall(r": (1e5|0o17)$", text, re.MULTILINE) == []
        assert re.findall(r'P8FS_[ABC]: "', text) == ['P8FS_A: "', 'P8FS_B: "', 'P8FS_C: "']

    def test_the_namespace(self) -> None:
        text = stream(Manifests({}, {}), "notes", "prod", "env")
        assert [document["metadata"]["namespace"] for document in yaml.safe_load_all(text)] == ["prod", "prod"]
        assert "namespace" not in stream(Manifests({}, {}), "notes", None, "env")


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "better"),
        [("Notes", "'notes'"), ("my_app", "'my-app'"), ("-a-", "'a'"), ("a" * 64, f"'{'a' * 63}'"), ("a.b", "'a-b'")],
    )
    @pytest.mark.parametrize("option", ["--name", "--namespace"])
    def test_names_that_kubernetes_does_not_take(self, name: str, better: str, option: str) -> None:
        said = misnamed(name)
        assert said is not None
        assert said.endswith(f"; such as {better}")
        assert misnamed(better.strip("'")) is None
        if name == "Notes":
            done = p8fs_cluster("config", "k8s", *(["--name", "x"] if option != "--name" else []), option, name)
            assert (done.returncode, done.stdout, done.stderr) == (2, "", said + "\n")

    def test_a_name_with_nothing_to_keep(self) -> None:
        assert str(misnamed("é")).endswith("not at either end")
        assert str(misnamed("")).startswith("'' is no name")

    def test_settings_that_can_not_be_used(self) -> None:
        done = p8fs_cluster("config", "k8s", "--name", "x", pg_port=0, api_port="x", pg_password="hunter2")
        assert (done.returncode, done.stdout) == (1, "")
        assert "2 settings can't be used:" in done.stderr
        assert "hunter2" not in done.stderr

    @pytest.mark.parametrize(
        ("values", "mount", "said"),
        [
            ({"pg_password": "key\n"}, "volumes", "would lose line ends or blanks around it"),
            ({"nasty_text": "a\0"}, "env", "holds a NUL character"),
            ({"nasty_text": "\udcff"}, "volumes", "holds bytes that are no UTF-8 text"),
            (
                {"nasty_text": "x" * 140_000},
                "env",
                "has 140,017 bytes, and a variable takes 131,072: use --mount volumes",
            ),
            ({"nasty_text": "x" * 1_048_577}, "volumes", "the ConfigMap: would hold 1,048,577 bytes"),
            ({"pg_password": "x" * 1_048_577}, "volumes", "the largest is P8FS_PG_PASSWORD with 1,048,577"),
        ],
    )
    def test_values_that_a_pod_would_read_otherwise(
        self, values: dict[str, Any], mount: Mount, said: str, models: Models
    ) -> None:
        with pytest.raises(ConfigurationError) as caught:
            manifests(P8FSConfig(**values), models, mount)
        assert said in str(caught.value)
        assert "xxx" not in str(caught.value)

    def test_what_looks_like_a_link_to_a_service(self) -> None:
        class Web(Section, prefix="web_"):
            port: str = ""

        with pytest.MonkeyPatch.context() as patched:
            for name in ("_declared", "_owners"):
                patched.setattr(section, name, dict(getattr(section, name)))
            before = P8FSConfig(web_port="tcp://10.0.0.1:80")
            assert manifests(before, (P8FSConfig, Web), "volumes").config["P8FS_WEB_PORT"] == "tcp://10.0.0.1:80"
            with pytest.raises(ConfigurationError, match="use --mount volumes"):
                manifests(before, (P8FSConfig, Web), "env")


class TestWhereItGoes:
    def test_a_file_of_the_owners(self) -> None:
        Path("a.yaml").write_text("old")
        Path("a.yaml").chmod(0o644)
        command = ("config", "k8s", "--name", "notes", "--output")
        done = p8fs_cluster(*command, "a.yaml", pg_password="hunter2")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert documents(Path("a.yaml").read_text())[1] == {"P8FS_PG_PASSWORD": "hunter2"}
        assert stat.S_IMODE(Path("a.yaml").stat().st_mode) == 0o600
        assert {path.name for path in Path().iterdir()} - {".git"} == {"a.yaml"}

    def test_a_file_that_can_not_be(self) -> None:
        done = p8fs_cluster("config", "k8s", "--name", "x", "--output", "nowhere/a.yaml", pg_password="hunter2")
        assert (done.returncode, done.stderr) == (2, "nowhere/a.yaml can't be written: No such file or directory\n")
        Path("folder").mkdir()
        done = p8fs_cluster("config", "k8s", "--name", "x", "--output", "folder", pg_password="hunter2")
        assert (done.returncode, done.stderr) == (2, "folder can't be written: there is something that is no file\n")
        Path("link").symlink_to("/dev/full")
        done = p8fs_cluster("config", "k8s", "--name", "x", "--output", "link", pg_password="hunter2")
        assert (done.returncode, done.stderr) == (2, "link can't be written: there is something that is no file\n")
        assert Path("/dev/full").is_char_device()
        left = {path.name for path in Path().iterdir()} - {".git"}
        assert left == {"folder", "link"}, "nothing half written stays"

    def test_what_a_link_leads_to(self) -> None:
        Path("link.yaml").symlink_to("a.yaml")
        assert p8fs_cluster("config", "k8s", "--name", "x", "--output", "link.yaml").returncode == 0
        assert Path("link.yaml").is_symlink()
        assert documents(Path("a.yaml").read_text()) == (FOR_A_POD, {})

    @pytest.mark.parametrize(
        ("options", "code", "said"),
        [((), 2, "not for a terminal"), (("--pod-spec",), 0, "enableServiceLinks: false")],
    )
    def test_a_terminal_shows_no_secret(self, options: tuple[str, ...], code: int, said: str) -> None:
        shown = on_a_terminal("config", "k8s", "--name", "notes", *options, code=code, pg_password="hunter2")
        assert said in shown
        assert base64.b64encode(b"hunter2").decode() not in shown

    def test_a_terminal_shows_what_has_no_secret(self) -> None:
        assert "P8FS_PG_HOST" in on_a_terminal("config", "k8s", "--name", "notes", code=0, pg_host="db")


def on_a_terminal(*arguments: str, code: int, **values: str) -> str:
    """Run the command with a terminal as its output, and return what that shows."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, **{f"P8FS_{name.upper()}": value for name, value in values.items()}}
    command = [sys.executable, "-m", "p8fs_cluster", *arguments]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                read = os.read(ours, 4096)
            except OSError:  # the other side is closed
                break
            if not read:
                break
            shown += read
        assert process.wait(PATIENCE) == code
    os.close(ours)
    return shown.decode()
