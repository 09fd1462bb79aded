"""`p8fs-cluster kv`: keys and values for an operator, JSON Lines, and copies as they are typed."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import Container
from tests.command import p8fs_cluster
from tests.kv.conftest import KINDS, settings_of
from tests.processes import running, variables
from tests.terminals import terminal

STORES = [kind for kind in KINDS if kind != "memory"]


def raw(*arguments: str, stdin: bytes = b"", **settings: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the command on bytes."""
    command = [sys.executable, "-P", "-m", "p8fs_cluster", "kv", *arguments]
    return subprocess.run(command, capture_output=True, input=stdin, env={**os.environ, **variables(settings)})


@pytest.fixture(params=STORES)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    return settings_of(request.param, request, tmp_path)


@pytest.fixture
def rocksdb(rocksdb_settings: dict[str, Any]) -> dict[str, Any]:
    return rocksdb_settings


def test_a_value_comes_and_goes(settings: dict[str, Any]) -> None:
    done = raw("put", "token", "-", "--namespace", "auth", "--ttl", "60", stdin=b"\0s3cret\n", **settings)
    assert done.returncode == 0 and int(done.stdout) > 0, done.stderr
    assert raw("get", "token", "--namespace", "auth", **settings).stdout == b"\0s3cret\n"
    told = json.loads(raw("get", "token", "--namespace", "auth", "--json", **settings).stdout)
    assert (told["value"], told["version"]) == ("\0s3cret\n", int(done.stdout)) and 0 < told["ttl"] <= 60
    missing = raw("get", "token", **settings)
    assert (missing.returncode, missing.stdout, missing.stderr) == (1, b"", b"there is no 'token'\n")
    gone = p8fs_cluster("kv", "delete", "token", "--namespace", "auth", "--json", **settings)
    assert json.loads(gone.stdout) == {"deleted": True}
    again = p8fs_cluster("kv", "delete", "token", "--namespace", "auth", **settings)
    assert (again.returncode, again.stdout) == (0, "there was nothing to delete\n")
    missing = raw("get", "token", "--namespace", "auth", "--json", **settings)
    assert missing.returncode == 1 and "in the namespace 'auth'" in json.loads(missing.stdout)["fault"]


def test_bytes_that_are_no_text(rocksdb: dict[str, Any]) -> None:
    key, value = base64.b64encode(b"\xff\0").decode(), base64.b64encode(b"\xfe").decode()
    assert raw("put", key, value, "--base64", **rocksdb).returncode == 0
    assert raw("put", "L2E=", "-", "--base64", stdin=b"Yg==\n", **rocksdb).returncode == 0
    assert raw("get", key, "--base64", **rocksdb).stdout == f"{value}\n".encode()
    assert raw("get", "/a", **rocksdb).stdout == b"b"
    lines = raw("scan", "--json", **rocksdb).stdout.splitlines()
    assert [json.loads(line) for line in lines] == [
        {"key": "/a", "value": "b"},
        {"key_base64": key, "value_base64": value},
    ]
    assert raw("scan", "--base64", **rocksdb).stdout == f"L2E=\tYg==\n{key}\t{value}\n".encode()
    assert raw("scan", **rocksdb).stdout == b"/a\tb\n\\xff\\x00\t\\xfe\n"
    refused = raw("get", "%%", "--base64", **rocksdb)
    assert (refused.returncode, refused.stderr) == (1, b"'--base64' is no base64\n")


def test_scans_and_counts(settings: dict[str, Any]) -> None:
    with Container(config=settings) as container:
        container.kv().namespace("n").put_many({f"{letter}{number}": b"v" for letter in "ab" for number in range(3)})
    scan = ("kv", "scan", "--namespace", "n")
    assert p8fs_cluster(*scan, "a", **settings).stdout == "a0\tv\na1\tv\na2\tv\n"
    assert p8fs_cluster(*scan, "--keys-only", "--reverse", "--limit", "2", **settings).stdout == "b2\nb1\n"
    assert p8fs_cluster("kv", "count", "--namespace", "n", "a", **settings).stdout == "3\n"
    assert json.loads(p8fs_cluster("kv", "count", "--json", **settings).stdout) == {"count": 0}


def test_stats(settings: dict[str, Any]) -> None:
    with Container(config=settings) as container:
        container.kv().put("a", b"s3cret")
        container.kv().namespace("n").put_many({"a": b"", "b": b"", "c": b""})
        container.kv().namespace("n").put("over", b"", ttl=0.001)
    told = json.loads(p8fs_cluster("kv", "stats", "--json", **settings).stdout)
    assert told["namespaces"] == [
        {"namespace": "", "keys": 1, "expired": 0}, {"namespace": "n", "keys": 3, "expired": 1}
    ]  # fmt: skip
    assert told["place"].startswith(settings["storage_provider"]) and told["copy"] is None
    shown = p8fs_cluster("kv", "stats", **settings).stdout
    assert "│ n " in shown and "value_bytes" in shown and "s3cret" not in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("get", ""), "a key has at least one byte"),
        (("put", "a", "b", "--ttl", "0"), "ttl is more than 0"),
        (("put", "a", "b", "--ttl", "nan"), "ttl is more than 0"),
        (("put", "a", "s3cret%", "--base64"), "is no base64"),
        (("count", "--namespace", ""), "a namespace has a name"),
        (("get", "a" * 3000), "at most 2,048 bytes"),
    ],
)
def test_what_can_not_be_used_is_told(rocksdb: dict[str, Any], arguments: tuple[str, ...], told: str) -> None:
    done = p8fs_cluster("kv", *arguments, **rocksdb)
    assert (done.returncode, done.stdout) == (1, "") and told in done.stderr and "s3cret" not in done.stderr


class TestJsonLines:
    def test_there_and_back(self, settings: dict[str, Any], tmp_path: Path) -> None:
        with Container(config=settings) as container:
            kv = container.kv()
            kv.put_many({b"\xff": b"\xfe", "é": "ü\n".encode(), "empty": b""})
            kv.namespace("sessions").put_many({f"{number}": b"\0" * number for number in range(50)}, ttl=1000)
        done = raw("export", **settings)
        assert done.returncode == 0 and len(lines := done.stdout.splitlines()) == 53
        assert json.loads(lines[0]) == {"namespace": "", "key": "empty", "value": ""}
        assert json.loads(lines[2]) == {"namespace": "", "key_base64": "/w==", "value_base64": "/g=="}
        assert 900 < json.loads(lines[-1])["ttl"] <= 1000
        assert len(raw("export", "--namespace", "sessions", **settings).stdout.splitlines()) == 50
        other = {"storage_provider": "rocksdb", "rocksdb_path": tmp_path / "other"}
        brought = raw("import", "-", "--json", stdin=done.stdout, **other)
        assert json.loads(brought.stdout) == {"imported": 53}, brought.stderr
        with Container(config=settings) as ours, Container(config=other) as theirs:
            assert list(ours.kv().scan()) == list(theirs.kv().scan())
            assert list(ours.kv().namespace("sessions").scan()) == list(theirs.kv().namespace("sessions").scan())
            assert 900 < theirs.kv().namespace("sessions").ttl("7") <= 1000

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            (b"s3cret", "it is no JSON"),
            (b'"s3cret"', "it is no object"),
            (b'{"key": "a"}', "it needs either 'value'"),
            (b'{"key": "a", "value": "s3cret", "value_base64": ""}', "it needs either 'value'"),
            (b'{"key": "a", "value": "s3cret", "tll": 5}', "'tll' is none of key, "),
            (b'{"key": "a", "value": "s3cret", "ttl": -1}', "ttl is more than 0"),
            (b'{"key": "a", "value": "s3cret", "ttl": "5"}', "ttl is a number"),
            (b'{"key": "a", "value": "s3cret", "ttl": NaN}', "ttl is more than 0"),
            (b'{"key": "a", "value": 5}', "'value' is text, not int"),
            (b'{"key": "", "value": "s3cret"}', "a key has at least one byte"),
            (b'{"key": "a", "value_base64": "s3cret%"}', "'value_base64' is no base64"),
            (b'{"key": "a", "value": "s3cret\\ud800"}', "half of a surrogate"),
            (b'{"namespace": 5, "key": "a", "value": "s3cret"}', "a namespace is text"),
            (b'{"key": "a", "value": "s3cret-that-is-longer"}', "a value has at most 20 bytes"),
            (b"\xff\xfe", "it is no JSON"),
        ],
    )
    def test_a_bad_line_is_told_by_its_number(self, rocksdb: dict[str, Any], line: bytes, told: str) -> None:
        good = b'{"namespace": "n", "key": "%d", "value": "1"}\n'
        Path("lines").write_bytes(good % 1 + good % 2 + line + b"\n" + good % 3)
        done = p8fs_cluster("kv", "import", "lines", **rocksdb, kv_max_value=20)
        assert (done.returncode, done.stdout) == (1, "") and "s3cret" not in done.stderr
        assert done.stderr.startswith("line 3: ") and told in done.stderr
        assert done.stderr.endswith("the 2 lines before it were brought in\n")
        with Container(config=rocksdb) as container:
            assert list(container.kv().namespace("n").scan()) == [(b"1", b"1"), (b"2", b"1")]

    def test_blank_lines_and_the_same_key_twice(self, settings: dict[str, Any]) -> None:
        Path("lines").write_text('\n{"key": "a", "value": "1"}\n \n{"key": "a", "value": "2"}')
        assert p8fs_cluster("kv", "import", "lines", **settings).stdout == "2 values were brought in\n"
        with Container(config=settings) as container:
            assert container.kv().get("a") == b"2"

    def test_a_batch_that_is_not_written_is_told_by_its_lines(self) -> None:
        Path("lines").write_text('{"key": "a", "value": "s3cret"}\n' * 3)
        done = p8fs_cluster("kv", "import", "lines", pg_host="127.0.0.1", pg_port=1, pool_timeout=0.5)
        assert done.returncode == 1 and "s3cret" not in done.stderr
        assert done.stderr.startswith("lines 1 to 3: ") and done.stderr.endswith("; nothing was brought in\n")

    def test_ctrl_c_says_what_was_done(self, rocksdb: dict[str, Any], tmp_path: Path) -> None:
        code = """
import os, sys
from p8fs_cluster.kv import json_lines
json_lines.ROWS = 1
write = json_lines._Batch.write
def told(batch):
    write(batch)
    print("written", flush=True)
json_lines._Batch.write = told
from p8fs_cluster.cli.app import app
app(prog_name="p8fs-cluster")
"""
        os.mkfifo("lines")
        with running(tmp_path / "log", "-c", code, "kv", "import", "lines", settings=rocksdb) as process:
            with Path("lines").open("w") as lines:
                lines.write('{"key": "a", "value": "1"}\n{"key": "b", "value": "1"}\n{"key": "c", "value": "1"}\n')
                lines.flush()
                process.until(lambda: process.output.count("written") > 1, "it imports")
                assert process.end(signal.SIGINT) == 130
            assert process.output.endswith("the same command writes them again\n")

    def test_a_file_that_is_not_there(self, rocksdb: dict[str, Any]) -> None:
        done = p8fs_cluster("kv", "import", "nowhere", **rocksdb)
        assert (done.returncode, done.stderr) == (2, "nowhere can't be read: No such file or directory\n")


class TestCopy:
    @pytest.fixture
    def filled(self, rocksdb: dict[str, Any]) -> dict[str, Any]:
        with Container(config=rocksdb) as container:
            container.kv().namespace("n").put_many({f"{number:05}": b"s3cret" for number in range(3000)})
        return rocksdb

    def test_as_it_is_typed(self, filled: dict[str, Any]) -> None:
        command = ("kv", "copy", "--from", f"rocksdb:{filled['rocksdb_path']}", "--to", "rocksdb:copy")
        done = p8fs_cluster(*command)
        assert done.returncode == 0 and done.stdout.startswith("pass 1: 3,000 read, 3,000 written, 0 deleted, in ")
        assert done.stderr == (
            "the copy is under way still: stop those who write to the source, then --resume --verify ends it\n"
        )
        again = p8fs_cluster(*command)
        assert (again.returncode, again.stdout) == (2, "") and "go on with it by --resume" in again.stderr
        told = p8fs_cluster("kv", "stats", rocksdb_path="copy", storage_provider="rocksdb").stdout
        assert "is under way since" in told
        done = p8fs_cluster(*command, "--resume", "--verify", "--passes", "5")
        assert done.returncode == 0, done.stderr
        first, source, target, last = done.stdout.splitlines()
        assert first.startswith("pass 1: 3,000 read, 0 written") and "both sides are equal" in last
        assert source.removeprefix("source") == target.removeprefix("target") and "3,000 keys, SHA-256" in source
        assert "nothing to resume" in p8fs_cluster(*command, "--resume").stderr

    def test_of_sides_that_differ(self, filled: dict[str, Any]) -> None:
        """The source is a copy whose target has a value that was changed by hand, under its old version."""
        command = ("kv", "copy", "--from", f"rocksdb:{filled['rocksdb_path']}", "--to", "rocksdb:copy")
        assert p8fs_cluster(*command).returncode == 0
        with Container(config={"storage_provider": "rocksdb", "rocksdb_path": "copy"}) as container:
            checkout = container.storage().connection()
            with checkout:
                pairs = checkout.lifecycle.engine.pairs()  # type: ignore[attr-defined]
                stored = pairs.get(b"\0n\x0000007")
                pairs.write([(b"\0n\x0000007", stored[:-1] + b"X")])
        done = p8fs_cluster(*command, "--resume", "--verify")
        assert done.returncode == 1
        assert 'keys that differ: 1, these first:\n  {"namespace": "n", "key": "00007"}' in done.stderr
        assert "s3cre" not in done.stdout + done.stderr
        told = json.loads(p8fs_cluster(*command, "--resume", "--verify", "--json").stdout)["verified"]
        assert told["equal"] is False and told["first"] == [{"namespace": "n", "key": "00007"}]
        assert p8fs_cluster("kv", "delete", "00007", "--namespace", "n", storage_provider="rocksdb",
                            rocksdb_path="copy").returncode == 0  # fmt: skip
        assert p8fs_cluster(*command, "--resume", "--verify").returncode == 0

    @pytest.mark.parametrize(
        ("source", "target", "code", "told"),
        [
            ("rocksdb:here", "rocksdb:./here", 2, "the same store"),
            ("rocksdb", "rocksdb", 2, "the same store"),
            ("tidb", "tidb", 2, "the same store"),
            ("tidb:x", "rocksdb:b", 2, "names no store"),
            ("rocksdb:", "rocksdb:b", 2, "names no store"),
            ("rocksdb:nowhere", "rocksdb:b", 1, "there is none"),
            ("oracle", "rocksdb:b", 1, "P8FS_STORAGE_PROVIDER"),
        ],
    )
    def test_of_what_is_not_possible(self, source: str, target: str, code: int, told: str) -> None:
        done = p8fs_cluster("kv", "copy", "--from", source, "--to", target)
        assert (done.returncode, done.stdout) == (code, "") and told in done.stderr, done.stderr

    def test_ctrl_c_says_how_it_goes_on(self, filled: dict[str, Any], tmp_path: Path) -> None:
        code = """
import time
from p8fs_cluster.kv import copying, json_lines
copying.ROWS = json_lines.ROWS = 10
write = copying._write
def slowly(*args):
    write(*args)
    print("written", flush=True)
    time.sleep(0.05)
copying._write = slowly
from p8fs_cluster.cli.app import app
app(prog_name="p8fs-cluster")
"""
        command = ("kv", "copy", "--from", "rocksdb", "--to", "rocksdb:copy")
        with running(tmp_path / "log", "-c", code, *command, settings=filled) as process:
            process.until(lambda: process.output.count("written") > 2, "it copies")
            assert process.end(signal.SIGINT) == 130
            assert process.output.endswith("the same command with --resume goes on\n") and "Trace" not in process.output
        done = p8fs_cluster(*command, "--resume", "--verify", **filled)
        assert done.returncode == 0 and "3,000 keys" in done.stdout

    def test_a_terminal_shows_how_far_it_is(self, filled: dict[str, Any]) -> None:
        command = ("kv", "copy", "--from", "rocksdb", "--to", "rocksdb:copy", "--verify")
        with terminal(*command, columns=120, **filled) as shown:
            assert shown.wait() == 0, shown.seen
        assert "pass 1" in shown.seen and "/3000" in shown.seen and "/s" in shown.seen and "verify" in shown.seen
