"""`p8fs-cluster config diff`: what differs in effect, between anything that holds settings."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster.cli.diff import differences
from p8fs_cluster.cli.diff_sources import operand
from p8fs_cluster.config.settings import P8FSConfig
from tests.command import install, p8fs_cluster

CORE = (P8FSConfig,)
SECRET = base64.b64encode(b"hunter2").decode()
MANIFEST = f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: notes-config}}
data:
  P8FS_PG_HOST: db
  P8FS_PG_PORT: "5432"
  OTHER: ignored
binaryData:
  P8FS_LOGO: AAEC
---
apiVersion: v1
kind: Secret
metadata: {{name: notes-secrets}}
data:
  P8FS_PG_PASSWORD: {SECRET}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: notes}}
"""


def same_in_all_forms() -> list[str]:
    """The same settings in every form that there is; the names of the files."""
    Path("a.env").write_text("P8FS_PG_HOST=db\nexport P8FS_PG_PORT='5432'\nP8FS_PG_PASSWORD=hunter2\n")
    Path("a.toml").write_text('[pg]\nhost = "db"\nport = 5432\npassword = "hunter2"\n')
    Path("a.yaml").write_text("P8FS_PG_HOST: db\npg: {port: 5432, password: hunter2}\n")
    Path("manifest.yaml").write_text(MANIFEST)
    listed = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {"apiVersion": "v1", "kind": "ConfigMap", "data": {"P8FS_PG_PORT": "1"}},
            {"apiVersion": "v1", "kind": "ConfigMap", "data": {"P8FS_PG_HOST": "weaker", "P8FS_PG_PORT": "5432"}},
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "data": {"P8FS_PG_PASSWORD": "eA==", "P8FS_PG_HOST": "ZGI="},
                "stringData": {"P8FS_PG_PASSWORD": "hunter2\n"},
            },
        ],
    }
    Path("list.json").write_text(json.dumps(listed))
    Path("mounted").mkdir()
    for name, value in {"PG_HOST": "db", "PG_PORT": "5432", "PG_PASSWORD": "hunter2\n"}.items():
        (Path("mounted") / f"P8FS_{name}").write_text(value)
    return ["a.env", "a.toml", "a.yaml", "manifest.yaml", "list.json", "mounted"]


def test_the_same_in_every_form() -> None:
    first, *others = same_in_all_forms()
    for other in others:
        assert differences(operand(first).reading, operand(other).reading, CORE) == [], other
        names = [each.name for each in differences(operand("defaults").reading, operand(other).reading, CORE)]
        assert names == ["pg_host", "pg_port", "pg_password"], other


def test_words_for_what_this_process_reads() -> None:
    Path(".env").write_text("P8FS_PG_HOST=from-file\n")
    done = p8fs_cluster("config", "diff", "env", "current", pg_port=5438)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        "P8FS_PG_HOST",
        "  - 'localhost' from the default",
        f"  + 'from-file' from {Path.cwd()}/.env, line 1",
    ]
    done = p8fs_cluster("config", "diff", "env", "defaults", pg_port=5438)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), (
        "a default that is given is none the less the same"
    )


@pytest.mark.parametrize("name", ["a.env", "a.yaml", "manifest.yaml", "list.json"])
def test_the_standard_input(name: str) -> None:
    same_in_all_forms()
    done = p8fs_cluster("config", "diff", "-", "a.toml", stdin=Path(name).read_text())
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    done = p8fs_cluster("config", "diff", "defaults", "-", stdin=Path(name).read_text())
    assert done.returncode == 1
    assert "'db' from the standard input" in done.stdout


def test_secrets_that_differ_are_not_shown() -> None:
    same_in_all_forms()
    done = p8fs_cluster("config", "diff", "a.env", "env", pg_host="db", pg_port=5432, pg_password="hunter3")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "P8FS_PG_PASSWORD",
        "  - '***' from a.env, line 3",
        "  + '***' from the environment (another one than above)",
    ]
    done = p8fs_cluster("config", "diff", "a.env", "env", "--json", pg_host="x", pg_port=5432, pg_password="hunter3")
    assert json.loads(done.stdout) == {
        "pg_host": {
            "a": {"value": "db", "source": "a.env, line 1"},
            "b": {"value": "x", "source": "the environment"},
        },
        "pg_password": {
            "a": {"value": "***", "source": "a.env, line 3"},
            "b": {"value": "***", "source": "the environment"},
        },
    }
    assert json.loads(p8fs_cluster("config", "diff", "a.env", "a.toml", "--json").stdout) == {}


def test_our_own_manifests_are_what_they_were_made_of() -> None:
    values = {"pg_host": "db", "pg_password": "p@ss\nw", "pool_timeout": 2.5, "strict": "yes"}
    values |= {"api_host": "0.0.0.0", "reload": "true"}  # what a pod is given besides
    made = p8fs_cluster("config", "k8s", "--name", "notes", **values).stdout
    done = p8fs_cluster("config", "diff", "-", "current", stdin=made, **values)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_left_out_is_told() -> None:
    same_in_all_forms()
    done = p8fs_cluster("config", "diff", "manifest.yaml", "a.env")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "manifest.yaml: binaryData is left out of account, for a setting is text\n"
    Path("b.env").write_text("P8FS_PG_PASWORD=hunter2\n")
    done = p8fs_cluster("config", "diff", "b.env", "defaults")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith("b.env, line 1): there is no such setting; did you mean P8FS_PG_PASSWORD?\n")


class TestSections:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return install(tmp_path / "site")

    def test_what_only_one_side_has(self, path: Path) -> None:
        Path("a.env").write_text("P8FS_MAIL_PORT=25\nP8FS_MAIL_RATIO=nan\nP8FS_MAIL_SENDERS=a, b\n")
        Path("b.env").write_text('P8FS_MAIL_RATIO=NaN\nP8FS_MAIL_SENDERS=["a", "b"]\n')
        done = p8fs_cluster("config", "diff", "a.env", "b.env", path=path)
        assert done.stdout.splitlines() == ["P8FS_MAIL_PORT", "  - 25 from a.env, line 1", "  + None from nowhere"]
        assert (done.returncode, done.stderr) == (1, "")

    def test_what_is_there_but_empty_is_not_what_is_not_there(self, tmp_path: Path) -> None:
        code = 'from p8fs_cluster import Section\nclass Odd(Section, prefix="odd_"):\n    text: str\n'
        Path("a.env").write_text("P8FS_ODD_TEXT=\n")
        done = p8fs_cluster("config", "diff", "a.env", "defaults", path=install(tmp_path / "odd", code, "odd"))
        assert done.stdout == "P8FS_ODD_TEXT\n  - '' from a.env, line 1\n  + None from nowhere\n"

    def test_what_neither_side_has(self, path: Path) -> None:
        Path("a.env").write_text("P8FS_MAIL_KEY=hunter2\n")
        done = p8fs_cluster("config", "diff", "a.env", "defaults", path=path)
        assert (done.returncode, done.stderr) == (1, "")
        assert done.stdout.splitlines()[:2] == ["P8FS_MAIL_KEY", "  - '***' from a.env, line 1"]
        assert p8fs_cluster("config", "diff", "a.env", "a.env", path=path).returncode == 0


def write(name: str, data: bytes) -> None:
    Path(name).write_bytes(data)


class TestTrouble:
    """Exit code 2, as `diff` has it."""

    @pytest.mark.parametrize(
        ("name", "data", "said"),
        [
            ("missing.env", None, "missing.env does not exist"),
            ("a" * 300 + ".env", None, ".env can't be read: File name too long"),
            ("a.txt", b"", "a.txt has to end in .env, .toml, .yaml or .json, or be a folder"),
            ("a.env", b"\xff\xfe", "a.env is not UTF-8 text (line 1)"),
            ("a.toml", b"= 1", "a.toml can't be understood as TOML"),
            ("a.yaml", b"a: [", "a.yaml can't be understood as YAML"),
            ("a.yaml", b"[" * 5000, "a.yaml is nested too deeply"),
            ("a.yaml", b"apiVersion: v1\nkind: Pod", "a.yaml holds neither a ConfigMap nor a Secret"),
            (
                "a.yaml",
                b"apiVersion: v1\nkind: Secret\ndata: {P8FS_PG_PASSWORD: hunter2!}",
                "a.yaml, line 3): is not in base64, as the data of a Secret has to be",
            ),
            (
                "a.yaml",
                b"apiVersion: v1\nkind: Secret\ndata: {P8FS_PG_PASSWORD: /w==}",
                "a.yaml, line 3): holds bytes that are no UTF-8 text",
            ),
            (
                "a.yaml",
                b"apiVersion: v1\nkind: ConfigMap\ndata: {P8FS_PG_HOST: [a]}",
                "a.yaml, line 3): is no text",
            ),
            ("a.env", b"P8FS_PG_PORT=x\nP8FS_API_PORT=y", "P8FS_API_PORT (from a.env, line 2)"),
        ],
    )
    @pytest.mark.parametrize("turned", [False, True])
    def test_with_a_file(self, name: str, data: bytes | None, said: str, turned: bool) -> None:
        if data is not None:
            write(name, data)
        done = p8fs_cluster("config", "diff", *(["defaults", name] if turned else [name, "defaults"]))
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert said in done.stderr
        assert "hunter2" not in done.stderr
        assert "Traceback" not in done.stderr

    def test_on_both_sides_is_told_at_once(self) -> None:
        Path("a.env").write_text("P8FS_PG_PORT=x\n")
        Path("b.env").write_text("P8FS_API_PORT=y\n")
        done = p8fs_cluster("config", "diff", "a.env", "b.env")
        assert done.returncode == 2
        assert "P8FS_PG_PORT (from a.env, line 1)" in done.stderr
        assert "P8FS_API_PORT (from b.env, line 1)" in done.stderr

    def test_with_the_standard_input(self) -> None:
        done = p8fs_cluster("config", "diff", "-", "-", stdin="")
        assert (done.returncode, done.stderr) == (2, "only one of the two can be the standard input\n")
        done = p8fs_cluster("config", "diff", "-", "env", stdin="x" * (1024 * 1024 + 1))
        assert (done.returncode, done.stderr) == (2, "the standard input has more than 1,048,576 bytes\n")
        done = p8fs_cluster("config", "diff", "-", "env", stdin="plain words")
        assert (done.returncode, done.stderr) == (2, "the standard input holds no names with values\n")


def test_nothing_against_nothing() -> None:
    write("empty.env", b"")
    write("empty.yaml", b"")
    Path("empty").mkdir()
    for name in ("empty.env", "empty.yaml", "empty"):
        found: list[Any] = differences(operand(name).reading, operand("defaults").reading, CORE)
        assert found == []
