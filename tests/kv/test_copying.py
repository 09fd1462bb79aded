"""Copies from one store into another: whole, resumed after kills, in passes over what is written to, and verified."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import Container
from p8fs_cluster.exceptions import KVError
from p8fs_cluster.kv import copy_marker, copy_verifying, copying, json_lines
from p8fs_cluster.kv.copy_marker import MARKER, CopyRefused, begun, ended
from p8fs_cluster.kv.copy_sides import Side
from p8fs_cluster.kv.copy_verifying import Comparison
from p8fs_cluster.kv.copying import Pass, records
from tests import servers
from tests.command import p8fs_cluster
from tests.kv.conftest import TABLE, drop, settings_of
from tests.processes import running, until
from tests.servers import MYSQL, SQL

PAIRS = [
    *(("rocksdb", kind) for kind in SQL),
    *((kind, "rocksdb") for kind in SQL),
    ("rocksdb", "rocksdb"),
    *(("postgresql", kind) for kind in MYSQL),
    ("mariadb", "postgresql"),
]


def untold(_: int) -> None:
    """Show no progress."""


class Copy:
    """Two stores, and a copy from one into the other."""

    def __init__(self, source: Container, target: Container) -> None:
        self.old, self.new = source, target
        self.source = Side.of(source.config, source.storage)
        self.target = Side.of(target.config, target.storage)
        self.marker: copy_marker.Marker | None = None

    def run(self) -> Pass:
        self.marker = begun(self.source, self.target, resume=self.marker is not None)
        return copying.copied(self.source, self.target, self.marker, untold)

    def compared(self) -> Comparison:
        return copy_verifying.compared(self.source, self.target, untold)

    def both(self) -> tuple[Any, Any]:
        return tuple([record[:3] for record in records(side)] for side in (self.source, self.target))  # type: ignore[return-value]


@contextlib.contextmanager
def opened(source: dict[str, Any], target: dict[str, Any]) -> Iterator[Copy]:
    with Container(config=source) as old, Container(config=target) as new:
        yield Copy(old, new)


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str, str], dict[str, Any]]:
    return lambda kind, name: settings_of(kind, request, tmp_path / name)


@pytest.fixture(params=PAIRS, ids=" to ".join)
def copy(request: pytest.FixtureRequest, settings: Any) -> Iterator[Copy]:
    source, target = request.param
    with opened(settings(source, "source"), settings(target, "target")) as copy:
        yield copy


@pytest.fixture(params=SQL)
def into_sql(request: pytest.FixtureRequest, settings: Any) -> Iterator[Copy]:
    with opened(settings("rocksdb", "source"), settings(request.param, "target")) as copy:
        yield copy


def fill(container: Container) -> None:
    kv = container.kv()
    kv.put_many({b"\xff\0": b"", "é": b"\0'\\\"\xff", "large": bytes(range(256)) * 800})
    kv.namespace("sessions").put_many({f"{number:03}": b"%d" % number for number in range(200)}, ttl=1000)
    kv.namespace("sessions").put("over", b"", ttl=0.001)
    kv.namespace("ünïcode").put("a", b"1", ttl=50_000_000)
    until(lambda: not kv.namespace("sessions").exists("over"))


def test_all_of_it_is_there_with_versions_and_ends(copy: Copy) -> None:
    fill(copy.old)
    done = copy.run()
    assert (done.read, done.put, done.deleted) == (204, 204, 0)
    ours, theirs = copy.both()
    assert ours == theirs and len(ours) == 204
    kv = copy.new.kv()
    assert kv.get("é") == b"\0'\\\"\xff" and kv.count() == 3 and kv.ttl("é") == float("inf")
    assert 990 < kv.namespace("sessions").ttl("199") <= 1000.5
    assert kv.namespace("ünïcode").ttl("a") == pytest.approx(50_000_000, abs=10)
    entry = copy.old.kv().namespace("sessions").entry("007")
    assert kv.namespace("sessions").compare_and_set("007", entry.version, b"as there"), "versions stay usable"
    assert copy.run().brought == 1
    comparison = copy.compared()
    assert comparison.equal and comparison.source.keys == comparison.target.keys == 204
    assert copy.run().brought == 0


def test_a_pass_brings_what_has_changed(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, number in (("ROWS", 7), ("_DELETES", 3)):
        monkeypatch.setattr(copying, name, number)
    monkeypatch.setattr(json_lines, "ROWS", 5)
    kv = copy.old.kv().namespace("n")
    kv.put_many({f"{number:03}": b"old" for number in range(0, 100, 2)})
    assert copy.run().put == 50
    kv.put_many({f"{number:03}": b"new" for number in range(20, 40)})
    kv.delete_many([f"{number:03}" for number in range(50, 80)])
    kv.expire("000", 1000)
    kv.expire("002", 1000)
    kv.expire("002", None)
    kv.put("zzz", b"")
    done = copy.run()
    assert (done.put, done.deleted) == (23, 15)
    ours, theirs = copy.both()
    assert ours == theirs and copy.compared().equal
    assert 990 < copy.new.kv().namespace("n").ttl("000") <= 1000.5
    kv.clear()
    kv.put("last", b"")
    assert copy.run().deleted == len(ours)
    ours, theirs = copy.both()
    assert len(ours) == 1 and ours == theirs and copy.run().brought == 0 and copy.compared().equal


def test_values_that_do_not_fit_into_memory_at_once_are_read_apart(copy: Copy) -> None:
    copy.old.kv().put_many({"a": b"1" * 1000, "b": b"2" * 1000, "c": b"3" * 10, "d": b"4" * 10, "e": b"5" * 5000})
    runner = copy.source.runner
    parts = [[key[1:] for key, *_ in part] for part in json_lines.stretches(runner, size=1100) if part]
    assert parts == [[b"a"], [b"b", b"c", b"d"], [b"e"]]
    assert next(len(part) for part in json_lines.stretches(runner)) == 5


def test_what_has_expired_in_the_target_is_written_over_or_deleted(into_sql: Copy) -> None:
    kv = into_sql.old.kv()
    kv.put_many({"a": b"1", "b": b"2"}, ttl=1000)
    into_sql.run()
    into_sql.new.storage().execute(f"UPDATE {TABLE} SET expires_at = 1 WHERE expires_at IS NOT NULL")
    kv.delete("b")
    done = into_sql.run()
    assert (done.put, done.deleted) == (1, 1) and into_sql.compared().equal
    assert into_sql.new.kv().sweep() == 0


def test_a_key_that_somebody_writes_meanwhile_is_written_over(into_sql: Copy) -> None:
    into_sql.old.kv().put_many({"a": b"1", "b": b"2"}, ttl=1000)
    into_sql.marker = begun(into_sql.source, into_sql.target, resume=False)
    batch = copying.Batch(new=list(records(into_sql.source)))
    into_sql.new.kv().put("b", b"other")
    copying._write(into_sql.target, into_sql.marker, batch)
    ours, theirs = into_sql.both()
    assert ours == theirs


class TestRefusals:
    def test_of_a_target_that_holds_keys(self, copy: Copy) -> None:
        copy.old.kv().put("a", b"1")
        copy.new.kv().namespace("others").put("x", b"2")
        for resume, told in ((False, "into an empty store"), (True, "nothing to resume")):
            with pytest.raises(CopyRefused, match=f"holds keys already, and no copy is under way.*{told}"):
                begun(copy.source, copy.target, resume=resume)
        assert copy.new.kv().namespace("others").get("x") == b"2" and not copy.new.kv().exists("a")

    def test_of_a_copy_that_is_under_way(self, copy: Copy, settings: Any) -> None:
        copy.old.kv().put("a", b"1")
        copy.run()
        with pytest.raises(CopyRefused, match=r"is under way since .*go on with it by --resume"):
            begun(copy.source, copy.target, resume=False)
        with opened({**settings("rocksdb", "other")}, copy.new.config()) as other:
            other.old.kv().put("b", b"1")
            for resume in (True, False):
                with pytest.raises(CopyRefused, match=r"is under way since .*by --from and --resume"):
                    begun(other.source, copy.target, resume=resume)
        assert copy.new.kv().get("a") == b"1"

    def test_of_one_that_was_verified(self, copy: Copy) -> None:
        copy.old.kv().put("a", b"1")
        copy.run()
        assert copy.marker and copy.compared().equal
        ended(copy.target, copy.marker)
        copy.new.kv().put("a", b"mine")
        with pytest.raises(CopyRefused, match="nothing to resume"):
            copy.run()
        assert copy.new.kv().get("a") == b"mine"

    def test_of_a_source_that_holds_nothing_any_more(self, copy: Copy) -> None:
        """As when its volume is not mounted, and the service has begun anew: a pass would delete all of the copy."""
        copy.old.kv().put("a", b"1")
        copy.run()
        copy.old.kv().delete("a")
        with pytest.raises(CopyRefused, match="holds no keys any more"):
            copy.run()
        assert copy.new.kv().get("a") == b"1"

    def test_of_one_store(self, settings: Any) -> None:
        ours = settings("rocksdb", "source")
        with (
            opened(ours, {**ours, "rocksdb_mode": "secondary"}) as copy,
            pytest.raises(CopyRefused, match="same store"),
        ):
            begun(copy.source, copy.target, resume=False)

    def test_of_a_folder_that_is_reached_by_another_name(self, settings: Any, tmp_path: Path) -> None:
        ours = settings("rocksdb", "source")
        (tmp_path / "source").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "source")
        with opened(ours, {**ours, "rocksdb_path": tmp_path / "link" / "rocksdb"}) as copy:
            assert copy.source.is_same(copy.target)


def test_resuming_where_nothing_was_begun_begins(copy: Copy) -> None:
    copy.old.kv().put("a", b"1")
    assert copying.copied(copy.source, copy.target, begun(copy.source, copy.target, resume=True), untold).put == 1


def test_who_was_taken_over_writes_nothing_any_more(copy: Copy) -> None:
    kv = copy.old.kv()
    kv.put("a", b"1")
    copy.run()
    slow = copy.marker
    assert slow is not None
    kv.put("a", b"2")
    copy.run()
    assert copy.marker and copy.compared().equal
    kv.put("a", b"3")
    with pytest.raises(KVError, match="another copy has taken over"):
        copying.copied(copy.source, copy.target, slow, untold)
    ended(copy.target, copy.marker)
    for marker in (slow, copy.marker):
        with pytest.raises(KVError, match="another copy has taken over"):
            copying.copied(copy.source, copy.target, marker, untold)
        with pytest.raises(KVError, match="another copy has taken over"):
            ended(copy.target, marker)
    assert copy.new.kv().get("a") == b"2"


def test_the_marker_is_nobodys_key(copy: Copy) -> None:
    copy.old.kv().put("a", b"1")
    copy.run()
    kv = copy.new.kv()
    assert copy.target.runner.run(lambda store: store.entries((MARKER,)))
    assert list(kv.scan()) == [(b"a", b"1")] and kv.count() == 1
    assert list(json_lines.exported(copy.target.runner)) == ['{"namespace": "", "key": "a", "value": "1"}']
    kv.clear()
    assert copy_marker.found(copy.target.runner)


def test_a_value_that_is_too_large_for_the_target_is_told_by_its_key(settings: Any) -> None:
    with opened(settings("rocksdb", "source"), {**settings("mariadb", "target"), "kv_max_value": 100}) as copy:
        copy.old.kv().put("a", b"1")
        copy.old.kv().namespace("n").put("large", b"s3cret" * 100)
        told = r'\{"namespace": "n", "key": "large"\} does not fit into the target.*at most 100 bytes.*not 600'
        with pytest.raises(KVError, match=told) as caught:
            copy.run()
        assert "s3cret" not in str(caught.value)
        copy.old.kv().namespace("n").put("large", b"small")
        assert copy.run().read == 2 and copy.compared().equal


class TestVerifying:
    def test_finds_what_was_changed_by_hand(self, into_sql: Copy) -> None:
        kv = into_sql.old.kv().namespace("n")
        kv.put_many({f"{number:02}": b"s3cret" for number in range(50)})
        into_sql.run()
        storage = into_sql.new.storage()
        storage.execute(f"DELETE FROM {TABLE} WHERE k = %s", (b"n\x0007",))
        storage.execute(f"UPDATE {TABLE} SET v = %s WHERE k = %s", (b"other", b"n\x0021"))
        storage.execute(f"UPDATE {TABLE} SET expires_at = %s WHERE k = %s", (1 << 60, b"n\x0033"))
        into_sql.new.kv().namespace("n").put("more", b"")
        comparison = into_sql.compared()
        assert (comparison.differing, comparison.equal) == (4, False)
        assert comparison.first == [b"n\x0007", b"n\x0021", b"n\x0033", b"n\0more"]
        assert str(comparison.source) != str(comparison.target)
        into_sql.new.kv().namespace("n").delete_many(["21", "33"])
        assert into_sql.run().brought == 4 and into_sql.compared().equal

    def test_is_not_misled_by_ends(self, into_sql: Copy) -> None:
        """Values that end a little later on one side are waited for; those that live on differ."""
        kv, storage = into_sql.old.kv(), into_sql.new.storage()
        kv.put_many({"a": b"", "b": b"", "c": b""}, ttl=1000)
        into_sql.run()
        later = "(SELECT v FROM (SELECT max(expires_at) - 999700000 AS v FROM p8fs_kv) AS o)"
        storage.execute(f"UPDATE {TABLE} SET expires_at = {later} WHERE k = %s", (b"\0a",))
        kv.delete("a")
        kv.delete("b")
        comparison = into_sql.compared()
        assert comparison.first == [b"\0b"] and comparison.target.keys == 2
        into_sql.run()
        kv.expire("c", 0.001)
        storage.execute(f"UPDATE {TABLE} SET expires_at = expires_at - 999000000 WHERE k = %s", (b"\0c",))
        assert into_sql.compared().equal

    def test_names_a_few_of_many(self, into_sql: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(copy_verifying, "_LOOKED_AT", 5)
        into_sql.old.kv().put_many({f"{number:02}": b"" for number in range(30)})
        comparison = into_sql.compared()
        assert comparison.differing == comparison.source.keys == 30 and len(comparison.first) == 10


CUT = """
import sys
from p8fs_cluster.kv import copying, json_lines
copying.ROWS = json_lines.ROWS = 50
copying._DELETES = 20
from p8fs_cluster.cli.app import app
app(prog_name="p8fs-cluster")
"""


def rows(container: Container) -> int:
    return container.kv().namespace("n").count()


@pytest.mark.parametrize("kind", SQL)
def test_a_copy_that_is_killed_is_gone_on_with(kind: str, settings: Any, tmp_path: Path) -> None:
    ours, theirs = settings("rocksdb", "source"), settings(kind, "target")
    both = {**ours, **theirs}
    with Container(config=ours) as old:
        kv = old.kv().namespace("n")
        kv.put_many({f"{number:05}": b"%d" % number for number in range(3000)}, ttl=5000)
    sides = ("--from", f"rocksdb:{ours['rocksdb_path']}", "--to", theirs["storage_provider"])
    arguments = ("-c", CUT, "kv", "copy", *sides)
    with Container(config=theirs) as new:
        for least in (0, 1, 400, 1200):
            with running(tmp_path / "log", *arguments, "--resume", settings=both) as process:
                process.until(lambda least=least: copy_marker.found(Side.of(new.config, new.storage).runner)  # type: ignore[misc]
                              and rows(new) >= least, f"{least} are copied")  # fmt: skip
                process.end(signal.SIGKILL)
            assert rows(new) >= least
        with Container(config=ours) as old:
            old.kv().namespace("n").delete_many([f"{number:05}" for number in range(0, 3000, 7)])
            old.kv().namespace("n").put_many({f"{number:05}": b"again" for number in range(1, 300, 7)})
        with running(tmp_path / "log", *arguments, "--resume", settings=both) as process:
            process.until(lambda: new.kv().namespace("n").get("00001") == b"again", "a pass goes on")
            process.end(signal.SIGKILL)
    done = p8fs_cluster(*arguments[2:], "--resume", "--verify", "--json", **both)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["verified"]["equal"] and told["verified"]["target"]["keys"] == 3000 - len(range(0, 3000, 7))
    with opened(ours, theirs) as copy:
        first, second = copy.both()
        assert first == second and copy_marker.found(copy.target.runner) is None
        assert 4900 < copy.new.kv().namespace("n").ttl("02999") <= 5001


WRITER = """
import itertools, sys
from p8fs_cluster import Container
with Container(config={"storage_provider": "rocksdb", "rocksdb_path": sys.argv[1]}) as container:
    kv = container.kv().namespace("n")
    for number in itertools.count():
        kv.put_many({f"{(number * 37 + n) % 5000:05}": b"%d" % number * 50 for n in range(40)}, ttl=3000)
        kv.delete_many([f"{(number * 53 + n) % 5000:05}" for n in range(30)])
        kv.put(f"more:{number:07}", b"")
        print(number, flush=True)
"""


@pytest.mark.parametrize("kind", SQL)
def test_a_store_that_is_written_to_is_copied_in_passes(kind: str, settings: Any, tmp_path: Path) -> None:
    theirs, path = settings(kind, "target"), tmp_path / "live"
    with running(tmp_path / "writer", "-c", WRITER, path) as writer:
        writer.until(lambda: writer.output.count("\n") > 200, "it writes")
        command = ("kv", "copy", "--from", f"rocksdb:{path}", "--to", theirs["storage_provider"])
        first = p8fs_cluster(*command, "--json", **theirs)
        assert first.returncode == 0, first.stderr
        assert json.loads(first.stdout)["passes"][0]["put"] > 1000
        for _ in range(2):
            before = writer.output.count("\n")
            writer.until(lambda before=before: writer.output.count("\n") > before + 50, "it goes on")  # type: ignore[misc]
            again = p8fs_cluster(*command, "--resume", "--passes", "2", "--json", **theirs)
            assert again.returncode == 0, again.stderr
            assert all(each["put"] for each in json.loads(again.stdout)["passes"])
        assert p8fs_cluster(*command, "--resume", "--verify", **theirs).returncode == 1, "it is written to"
        writer.end(signal.SIGKILL)
    done = p8fs_cluster(*command, "--resume", "--verify", "--json", **theirs)
    assert done.returncode == 0, done.stderr + done.stdout
    with opened({"storage_provider": "rocksdb", "rocksdb_path": path}, theirs) as copy:
        ours, others = copy.both()
        assert ours == others and len(ours) > 1000


def test_batches_are_bounded(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "SIZE", 1000)
    with opened(settings("rocksdb", "source"), settings("rocksdb", "target")) as copy:
        copy.old.kv().put_many({f"{number:02}": b"v" * 90 for number in range(50)})
        copy.old.kv().put("large", b"v" * 5000)
        sizes = [batch.size for batch in copying._batches(copy.source, copy.target)]
        assert max(sizes) == 5006 + 32 and sorted(sizes)[-2] == 1000 and len(sizes) == 8
        marker = begun(copy.source, copy.target, resume=False)
        copying.copied(copy.source, copy.target, marker, untold)
        copy.old.kv().clear()
        monkeypatch.setattr(copying, "_DELETES", 20)
        batches = copying._batches(copy.source, copy.target)
        assert [len(batch.deletes) for batch in batches] == [20, 20, 11]


def test_one_batch_is_read_while_another_is_written() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            made.append(number)
            yield number

    items = copying.ahead(numbers())
    assert next(items) == 0
    until(lambda: made == [0, 1], "the next one is made")
    assert next(items) == 1
    items.close()  # type: ignore[attr-defined]
    assert len(made) <= 4


def test_a_server_that_goes_away_is_told_and_the_copy_goes_on(tmp_path: Path) -> None:
    ours = {"storage_provider": "rocksdb", "rocksdb_path": tmp_path / "source"}
    with Container(config=ours) as old:
        old.kv().namespace("n").put_many({f"{number:05}": b"s3cret" for number in range(3000)})
    arguments = ("-c", CUT, "kv", "copy", "--from", f"rocksdb:{tmp_path / 'source'}", "--to", "postgresql")
    with (
        servers.postgresql({"own": b""}, fsync="off") as server,
        Container(config={**server.settings, "kv_create": True}) as new,
    ):
        new.kv().exists("a")
        both = {**ours, **server.settings, "pool_timeout": 1}
        with running(tmp_path / "log", *arguments, settings=both) as process:
            process.until(lambda: rows(new), "it copies")
            server.kill()
            assert process.wait() == 1
        assert "the same command with --resume goes on" in process.output and "s3cret" not in process.output
        server.start()
        done = p8fs_cluster(*arguments[2:], "--resume", "--verify", **both)
        assert done.returncode == 0, done.stderr
        assert rows(new) == 3000


def test_a_source_gets_no_table(postgresql_server: servers.Server) -> None:
    """A name that is misspelt would be an empty store."""
    drop(postgresql_server.settings)
    done = p8fs_cluster("kv", "copy", "--from", "postgresql", "--to", "rocksdb:new", "--verify",
                        **postgresql_server.settings, kv_create=True)  # fmt: skip
    assert done.returncode == 1 and "the tables of the key-value store are not there" in done.stderr
    with Container(config=postgresql_server.settings) as container:
        assert container.storage().execute("SELECT to_regclass('p8fs_kv')") == [(None,)]


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_of_two_that_go_on_at_once_one_ends_it(kind: str, settings: Any, tmp_path: Path) -> None:
    ours, theirs = settings("rocksdb", "source"), settings(kind, "target")
    with Container(config=ours) as old:
        old.kv().namespace("n").put_many({f"{number:05}": b"%d" % number for number in range(3000)})
    sides = ("--from", f"rocksdb:{ours['rocksdb_path']}", "--to", theirs["storage_provider"])
    arguments = ("-c", CUT, "kv", "copy", *sides, "--resume", "--verify")
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(running(tmp_path / f"log{number}", *arguments, settings={**ours, **theirs}))
            for number in range(3)
        ]
        codes = sorted(process.wait() for process in processes)
        told = "".join(process.output for process in processes)
    assert codes[0] == 0 and codes[1] > 0, told
    assert told.count("the copy has ended") == 1 and "Traceback" not in told
    with opened(ours, theirs) as copy:
        first, second = copy.both()
        assert first == second and len(first) == 3000 and copy_marker.found(copy.target.runner) is None
