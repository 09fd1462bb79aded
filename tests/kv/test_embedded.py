"""RocksDB and memory: records and their format, a column family of its own, kills, forks, other modes."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import Container
from p8fs_cluster.exceptions import KVError, StorageError, StorageUnavailable
from p8fs_cluster.kv.keys import new_version
from p8fs_cluster.providers.storage.engines import EngineSpec
from p8fs_cluster.providers.storage.handle import Storage
from p8fs_cluster.providers.storage.keys import Span
from p8fs_cluster.providers.storage.rocksdb.engine import RocksDB
from p8fs_cluster.testing import MemoryEngine, MovedClock, memory_storage
from tests.kv.conftest import Case
from tests.processes import forked, running

EMBEDDED = pytest.mark.parametrize("thread_case", ["memory", "rocksdb"], indirect=True)
EVERYTHING = Span(b"", b"\xff")


def pairs(case: Case) -> Any:
    checkout = case.container.storage().connection()
    with checkout:
        return checkout.lifecycle.engine.pairs()  # type: ignore[attr-defined]


@EMBEDDED
def test_records_of_format_1_written_by_hand(thread_case: Case) -> None:
    """They are what the first release wrote: whoever changes the format reads this one still, and this test stays."""
    far = 4_000_000_000_000_000
    store = pairs(thread_case)
    store.write(
        [
            (b"\x00auth\x00token", b"\x01" + bytes(8) + (7).to_bytes(8, "big") + b"value"),
            (b"\x00auth\x00late", b"\x01" + far.to_bytes(8, "big") + (8).to_bytes(8, "big") + b"5"),
            (b"\x01" + far.to_bytes(8, "big") + b"auth\x00late", b""),
            (b"\x00auth\x00old", b"\x01" + (1).to_bytes(8, "big") + (9).to_bytes(8, "big") + b"gone"),
            (b"\x01" + (1).to_bytes(8, "big") + b"auth\x00old", b""),
        ]
    )
    kv = thread_case.container.kv().namespace("auth")
    assert list(kv.scan()) == [(b"late", b"5"), (b"token", b"value")] and kv.entry("token").version == 7
    assert kv.compare_and_set("token", 7, b"new") and kv.increment("late") == 6 and kv.sweep() == 1
    left = dict(store.first(EVERYTHING, None))
    assert {key for key in left if key < b"\x01"} == {b"\x00auth\x00late", b"\x00auth\x00token"}
    assert b"\x01" + (1).to_bytes(8, "big") + b"auth\x00old" not in left
    assert left[b"\x00auth\x00late"][:9] == b"\x01" + far.to_bytes(8, "big") and left[b"\x00auth\x00late"][17:] == b"6"


@EMBEDDED
@pytest.mark.parametrize("stored", [b"", b"\x02" + bytes(16) + b"s3cret", b"\x01short"])
def test_a_record_of_an_unknown_format_is_an_error(thread_case: Case, stored: bytes) -> None:
    pairs(thread_case).write([(b"\x00\x00a", stored)])
    kv = thread_case.container.kv()
    for call in (lambda: kv.get("a"), lambda: list(kv.scan()), kv.count, lambda: kv.take("a"), lambda: kv.entry("a")):
        with pytest.raises(StorageError, match=r"newer release|damaged") as caught:
            call()
        assert "s3cret" not in str(caught.value)
    told = kv.stats()
    assert (told["calls"], told["errors"]) == (5, 5)
    for refused in (lambda: kv.get(""), lambda: kv.put("a", "text"), lambda: kv.put("a", b"", ttl=0)):
        with pytest.raises(KVError):
            refused()
    assert kv.stats() == told, "nothing was sent"


@EMBEDDED
def test_a_key_that_is_written_again_and_again_takes_little_room(thread_case: Case) -> None:
    kv = thread_case.container.kv()
    for number in range(2000):
        kv.put("a", b"", ttl=3600)
        kv.put("b", b"1", ttl=60 if number % 2 else None)
        kv.increment("b")
    assert len(list(pairs(thread_case).first(EVERYTHING, None))) < 20


def test_nothing_is_left_of_what_was_deleted_or_written_again() -> None:
    clock = MovedClock()
    with Container() as container, container.storage.override(memory_storage(clock=clock)):
        kv = container.kv()
        for delete in (lambda: kv.delete("a"), lambda: kv.take("a"), kv.clear, lambda: kv.delete_prefix("a")):
            for ttl in (5, 7, None, 9):
                kv.put("a", b"", ttl=ttl)
                clock.move(0.5)
            delete()
        kv.put("b", b"", ttl=10)
        kv.put("c", b"", ttl=100)
        clock.move(11)
        assert kv.sweep() == 1 and kv.sweep() == 0  # "b", though more was due before it
        kv.put("c", b"")
        clock.move(110)
        assert kv.sweep() == 0 and list(kv.scan(keys_only=True)) == [b"c"]
        [(key, _)] = pairs(Case("memory", container, None, {})).first(EVERYTHING, None)
        assert key == b"\x00\x00c"


@pytest.fixture
def rocksdb(tmp_path: Path) -> dict[str, Any]:
    return {"storage_provider": "rocksdb", "rocksdb_path": tmp_path / "rocksdb"}


def test_the_applications_keys_are_apart(rocksdb: dict[str, Any], tmp_path: Path) -> None:
    with Container(config=rocksdb) as container:
        storage, kv = container.storage(), container.kv()
        kv.put("a", b"kv")
        with storage.connection() as connection:
            connection[b"a"] = b"own"
        assert list(storage.scan()) == [(b"a", b"own")] and list(kv.scan()) == [(b"a", b"kv")]
        storage.checkpoint(tmp_path / "copy")
        kv.put("a", b"later")
    with Container(config=rocksdb) as container:
        assert container.kv().get("a") == b"later", "it is closed and opened again"
    with Container(config={**rocksdb, "rocksdb_path": tmp_path / "copy"}) as container:
        assert container.kv().get("a") == b"kv"
        assert list(container.storage().scan()) == [(b"a", b"own")]


@pytest.mark.parametrize("mode", ["read-only", "secondary"])
@pytest.mark.parametrize("used", [False, True])
def test_who_looks_on_reads_and_is_refused_to_write(rocksdb: dict[str, Any], mode: str, used: bool) -> None:
    with Container(config=rocksdb) as container:
        container.storage().ping()
        if used:
            container.kv().put("a", b"1")
    with Container(config={**rocksdb, "rocksdb_mode": mode}) as looking:
        kv = looking.kv()
        assert kv.get("a") == (b"1" if used else None) and kv.count() == int(used)
        for write in (lambda: kv.put("b", b""), lambda: kv.increment("b"), lambda: kv.put_if_absent("b", b"")):
            with pytest.raises(StorageError, match=f"P8FS_ROCKSDB_MODE={mode}.*looks on"):
                write()


def test_a_secondary_follows(rocksdb: dict[str, Any]) -> None:
    with Container(config=rocksdb) as container:
        container.kv().put("a", b"1")
        with Container(config={**rocksdb, "rocksdb_mode": "secondary"}) as looking:
            assert looking.kv().get("a") == b"1"
            container.kv().put("a", b"2")
            assert looking.kv().get("a") == b"2"


def test_a_process_that_is_killed_in_the_middle_of_writes_leaves_whole_calls(
    rocksdb: dict[str, Any], tmp_path: Path
) -> None:
    code = f"""
from pathlib import PosixPath
from p8fs_cluster import Container
with Container(config={rocksdb!r}) as container:
    kv = container.kv()
    for number in range(10**6):
        kv.put_many({{f"k{{n}}": b"%d" % number for n in range(20)}}, ttl=1000)
        kv.increment("n")
        print(number, flush=True)
"""
    for least in (5, 300):
        with running(tmp_path / f"log{least}", "-c", code) as process:
            process.until(lambda least=least: process.output.count("\n") > least, "it writes")  # type: ignore[misc]
        told = int((tmp_path / f"log{least}").read_text().split()[-1])
        with Container(config=rocksdb) as container:
            kv = container.kv()
            [value] = set(kv.get_many([f"k{n}" for n in range(20)]).values())
            assert int(value) in (told, told + 1), "what was told is there"
            assert len(list(Case("rocksdb", container, None, rocksdb).kv.scan("k"))) == 20
            case = Case("rocksdb", container, None, rocksdb)
            ends = [key for key, _ in pairs(case).first(EVERYTHING, None) if key.startswith(b"\x01")]
            assert len(ends) == 20, "each value has one end in the index"


def test_a_fork_in_the_middle_of_writes_leaves_the_parent_alone(rocksdb: dict[str, Any]) -> None:
    with Container(config=rocksdb) as container:
        kv = container.kv()
        kv.put("a", b"1")

        def child() -> str:
            try:
                kv.put("a", b"child")
            except StorageError as exc:
                return str(exc)
            return "written"

        assert "P8FS_ROCKSDB_PATH" in forked(child)
        assert kv.get("a") == b"1" and kv.put("a", b"2")


def test_the_settings_in_force_are_asked(rocksdb: dict[str, Any], tmp_path: Path) -> None:
    with Container(config=rocksdb) as container:
        kv = container.kv().namespace("n")
        kv.put("a", b"1")
        with container.config.override({"rocksdb_path": tmp_path / "other"}):
            assert kv.get("a") is None and kv.put("a", b"2") and kv.get("a") == b"2"
        assert kv.get("a") == b"1"
        with container.storage.override(memory_storage()):
            assert kv.get("a") is None
        assert kv.get("a") == b"1"
    with pytest.raises(StorageError):
        kv.get("a")


@EMBEDDED
def test_a_session_holds_the_store(thread_case: Case, tmp_path: Path) -> None:
    kv = thread_case.container.kv().namespace("n")
    calls = kv.stats()["calls"]
    with kv.session() as held:
        version = held.put("a", b"1")
        assert held.get(b"a") == kv.get("a") == b"1" and held.entry("a").version == version
        assert held.put("late", b"2", ttl=50) and held.ttl("late") == pytest.approx(50, abs=5)
        assert held.get("nothing") is None and list(held.scan(keys_only=True)) == [b"a", b"late"]
        for refused in (lambda: held.get(""), lambda: held.get(b"k" * 2048), lambda: held.put("a", "text"),
                        lambda: held.get(None), lambda: held.put("a", b"", ttl=0)):  # fmt: skip
            with pytest.raises(KVError):
                refused()
        if thread_case.kind == "rocksdb":
            with thread_case.container.config.override({"rocksdb_path": tmp_path / "other"}):
                assert kv.get("a") is None and held.get("a") == b"1"
        with kv.json.session() as held_json:
            held_json.put("j", {"a": 1})
            assert held_json.get("j") == {"a": 1} == kv.json.get("j")
    assert kv.stats()["calls"] > calls + 10 and kv.get("a") == b"1"
    assert thread_case.container.storage().stats()["borrowed"] == 0


@pytest.mark.parametrize("call", ["get", "put", "count"])
def test_no_store_is_opened_on_an_event_loop(
    rocksdb: dict[str, Any], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    opening = []
    monkeypatch.setattr(RocksDB, "open", _noting(opening, RocksDB.open))

    async def first_call() -> None:
        async with Container(config=rocksdb) as container:
            kv = container.async_kv()
            await getattr(kv, call)(*{"get": ("a",), "put": ("a", b"1")}.get(call, ()))

    asyncio.run(first_call())
    assert len(opening) == 1 and threading.main_thread() not in opening


def _noting(threads: list[threading.Thread], opened: Any) -> Any:
    def open_(engine: Any) -> None:
        threads.append(threading.current_thread())
        opened(engine)

    return open_


def test_a_session_ends_with_the_store(rocksdb: dict[str, Any]) -> None:
    with Container(config=rocksdb) as container, container.kv().session() as held:
        held.put("a", b"1")
    for call in (lambda: held.get("a"), lambda: held.put("a", b"2")):
        with pytest.raises(StorageUnavailable, match="closed"):
            call()


def test_a_store_is_opened_anew_after_a_failed_write(rocksdb: dict[str, Any]) -> None:
    with Container(config=rocksdb) as container:
        kv = container.kv()
        kv.put("a", b"1")
        checkout = container.storage().connection()
        with checkout:
            engine = checkout.lifecycle.engine
        stale = engine.pairs()  # type: ignore[attr-defined]
        with pytest.raises(OSError, match="IO error"), container.storage():
            raise OSError("IO error")
        engine._write_nothing = _failing_once(engine)  # type: ignore[attr-defined]
        assert kv.get("a") == b"1" and kv.put("a", b"2")
        with pytest.raises(StorageError, match="closed"):
            stale.get(b"\x00\x00a")


def _failing_once(engine: Any) -> Any:
    original, failures = engine._write_nothing, [True]

    def write_nothing() -> None:
        if failures:
            failures.pop()
            raise OSError("IO error")
        original()

    return write_nothing


def test_expiry_is_by_the_clock_that_the_test_moves() -> None:
    clock = MovedClock()
    with Container() as container, container.storage.override(memory_storage(clock=clock)):
        kv = container.kv()
        kv.put("a", b"", ttl=60)
        clock.move(59.999)
        assert kv.exists("a") and kv.ttl("a") == pytest.approx(0.001)
        clock.move(0.001)
        assert not kv.exists("a")


def test_expiry_on_rocksdb_outlasts_the_process(rocksdb: dict[str, Any]) -> None:
    with Container(config=rocksdb) as container:
        container.kv().put("a", b"", ttl=0.05)
        container.kv().put("b", b"", ttl=1000)
    time.sleep(0.06)
    with Container(config=rocksdb) as container:
        assert list(container.kv().scan(keys_only=True)) == [b"b"] and container.kv().sweep() == 1


def test_an_engine_without_a_key_value_store_says_so() -> None:
    class Plain(MemoryEngine):
        pairs = None  # type: ignore[assignment]

    for spec in (
        EngineSpec(provider="plain", engine=Plain, embedded=True),
        EngineSpec(provider="plain", engine=Plain, sqlalchemy_url="plain://"),
    ):
        with Container() as container:
            storage = Storage(container.config, lambda _, spec=spec: spec)  # type: ignore[misc]
            with container.storage.override(storage), pytest.raises(KVError, match="plain has no key-value store"):
                container.kv().get("a")


def test_a_child_draws_other_versions_than_its_parent() -> None:
    drawn = [forked(new_version), forked(new_version), new_version()]
    assert len(set(drawn)) == 3


def test_versions_depend_on_no_seed_of_the_program() -> None:
    drawn = []
    for _ in range(2):
        random.seed(5)
        drawn.append(new_version())
    assert drawn[0] != drawn[1]


@EMBEDDED
def test_others_write_while_keys_are_read(thread_case: Case) -> None:
    kv, over = thread_case.kv, threading.Event()
    kv.put_many({f"{number:03}": b"" for number in range(200)})

    def write() -> None:
        while not over.is_set():
            kv.delete_many([f"{number:03}" for number in range(100, 200)])
            kv.put_many({f"{number:03}": b"" for number in range(100, 200)})

    writer, interval = threading.Thread(target=write), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    writer.start()
    try:
        for _ in range(100):
            assert [int(key) for key in kv.scan(keys_only=True)][:100] == list(range(100))
            assert 100 <= kv.count() <= 200
    finally:
        over.set()
        writer.join()
        sys.setswitchinterval(interval)
