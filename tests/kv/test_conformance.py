"""What every engine does alike, through either handle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pydantic
import pytest

from p8fs_cluster.exceptions import KVConflict, KVError
from tests.kv.conftest import Case


@pytest.fixture
def kv(case: Case) -> Any:
    return case.kv.namespace("auth")


def test_a_value_is_written_read_replaced_and_deleted(kv: Any) -> None:
    assert kv.get("token") is None and not kv.exists("token")
    first = kv.put("token", b"one")
    assert kv.get("token") == kv.get(b"token") == b"one" and kv.exists("token")
    second = kv.put("token", b"")
    assert kv.get("token") == b"" and kv.exists("token") and first != second
    kv.delete("token")
    kv.delete("token")
    assert kv.get("token") is None and kv.entry("token") is None and kv.ttl("token") is None


def test_any_bytes_are_a_key_and_a_value(kv: Any) -> None:
    every = bytes(range(256))
    keys = [b"\0", b"\0\0", b"\xff", b"\xff\xff", b"%s", b"'\\\"", "é\u20ac".encode(), every * 7]
    for number, key in enumerate(keys):
        kv.put(key, every * number)
    assert kv.get_many(keys) == {key: every * number for number, key in enumerate(keys)}
    assert [key for key, _ in kv.scan()] == sorted(keys)
    assert list(kv.scan(reverse=True, keys_only=True)) == sorted(keys, reverse=True)


def test_namespaces_are_apart(case: Case) -> None:
    spaces = [case.kv, *(case.kv.namespace(name) for name in ("a", "ab", "a\x01", "é"))]
    for number, space in enumerate(spaces):
        space.put("key", b"%d" % number)
        space.put(b"\0key", b"")
    for number, space in enumerate(spaces):
        assert space.get("key") == b"%d" % number
        assert list(space.scan(keys_only=True)) == [b"\0key", b"key"] and space.count() == 2
    spaces[1].clear()
    assert [space.count() for space in spaces] == [2, 0, 2, 2, 2]


def test_an_entry_tells_version_and_time(kv: Any) -> None:
    version = kv.put("a", b"value")
    entry = kv.entry("a")
    assert (entry.key, entry.value, entry.version, entry.ttl) == (b"a", b"value", version, math.inf)
    assert "value'" not in repr(entry)
    kv.put("a", b"value", ttl=100)
    assert 0 < kv.entry("a").ttl <= 100 and 0 < kv.ttl("a") <= 100
    kv.put("a", b"value")
    assert kv.ttl("a") == math.inf, "a value that is replaced has the time of its own"


def test_many_at_once(kv: Any) -> None:
    versions = kv.put_many({"b": b"2", b"a": b"1", "c": b"3"}, ttl=50)
    assert list(versions) == ["b", b"a", "c"] and len(set(versions.values())) == 3
    assert kv.entry("b").version == versions["b"] and kv.ttl("c") <= 50
    assert kv.get_many(["c", b"a", "missing", "a"]) == {"c": b"3", b"a": b"1", "a": b"1"}
    kv.delete_many(["a", "c", "missing"])
    assert list(kv.scan()) == [(b"b", b"2")]
    assert kv.get_many([]) == kv.put_many({}) == {} and kv.delete_many([]) is None


def test_an_expired_value_is_returned_by_nothing(case: Case, kv: Any) -> None:
    kv.put("a", b"5", ttl=100)
    version = kv.entry("a").version
    case.end("auth", "a")
    assert kv.get("a") is None and kv.entry("a") is None and kv.ttl("a") is None and not kv.exists("a")
    assert kv.get_many(["a"]) == {} and list(kv.scan()) == [] and kv.count() == 0
    assert kv.take("a") is None and kv.expire("a", 5) is None
    assert kv.compare_and_set("a", version, b"6") is None and not kv.delete_if("a", version)
    assert kv.atomic().check("a", version).put("b", b"").commit() is None
    assert kv.atomic().check("a", None).put("b", b"").commit() is not None
    assert kv.increment("a") == 1 and kv.ttl("a") == math.inf
    kv.put("a", b"5", ttl=100)
    case.end("auth", "a")
    assert kv.put_if_absent("a", b"new") is not None and kv.get("a") == b"new"


def test_the_sweeper_deletes_what_has_expired_and_nothing_else(case: Case, kv: Any) -> None:
    for number in range(5):
        kv.put(f"old {number}", b"", ttl=100)
        case.end("auth", f"old {number}")
    kv.put("new", b"", ttl=1e6)
    kv.put("for ever", b"")
    assert [kv.sweep(3), kv.sweep(3), kv.sweep(3)] == [3, 2, 0]
    assert list(kv.scan(keys_only=True)) == [b"for ever", b"new"]


def test_a_replaced_end_counts_no_more(case: Case, kv: Any) -> None:
    for write in (lambda: kv.put("a", b""), lambda: kv.expire("a", None), lambda: kv.put("a", b"", ttl=1e6)):
        kv.put("a", b"", ttl=100)
        write()
        if case.clock:
            case.clock.move(200)
        assert kv.sweep() == 0 and kv.get("a") == b""


def test_put_if_absent(kv: Any) -> None:
    version = kv.put_if_absent("a", b"1", ttl=60)
    assert kv.put_if_absent("a", b"2") is None
    assert (kv.get("a"), kv.entry("a").version) == (b"1", version) and kv.ttl("a") <= 60
    kv.delete("a")
    assert kv.put_if_absent("a", b"3") != version and kv.ttl("a") == math.inf


def test_compare_and_set(kv: Any) -> None:
    assert kv.compare_and_set("a", 1, b"") is None and not kv.exists("a")
    first = kv.put("a", b"1")
    second = kv.compare_and_set("a", first, b"2", ttl=60)
    assert second is not None and kv.entry("a").version == second and kv.ttl("a") <= 60
    assert kv.compare_and_set("a", first, b"3") is None and kv.get("a") == b"2"
    kv.delete("a")
    assert kv.compare_and_set("a", second, b"3") is None and not kv.exists("a")
    kv.put("a", b"2")
    assert kv.compare_and_set("a", second, b"3") is None, "an old version never comes back"


def test_delete_if_and_take(kv: Any) -> None:
    version = kv.put("a", b"1")
    assert not kv.delete_if("a", version % 1000 + 1) and kv.exists("a")
    assert kv.delete_if("a", version) and not kv.exists("a") and not kv.delete_if("a", version)
    kv.put("a", b"code")
    assert (kv.take("a"), kv.take("a"), kv.get("a")) == (b"code", None, None)


def test_take_keeps_what_it_can_not_read(kv: Any) -> None:
    kv.put("a", b"no JSON")
    with pytest.raises(KVError, match="no JSON"):
        kv.json.take("a")
    assert kv.get("a") == b"no JSON"
    kv.json.put("a", {"user": "ada"})
    assert (kv.json.take("a"), kv.json.take("a")) == ({"user": "ada"}, None)


def test_expire_changes_end_and_version(kv: Any) -> None:
    assert kv.expire("a", 60) is None and not kv.exists("a")
    version = kv.put("a", b"1")
    changed = kv.expire("a", 60)
    assert changed not in (None, version) and kv.entry("a").version == changed and 0 < kv.ttl("a") <= 60
    assert kv.expire("a", None) and kv.ttl("a") == math.inf and kv.get("a") == b"1"


def test_increment(kv: Any) -> None:
    assert kv.increment("n", ttl_on_create=60) == 1
    counted = kv.increment("n", 41, ttl_on_create=1e6)
    assert counted == 42 and kv.get("n") == b"42" and kv.entry("n").version == counted.version
    assert 0 < kv.ttl("n") <= 60, "the end of its making stays"
    assert kv.increment("n", -50) == -8 and kv.get("n") == b"-8"
    kv.put("n", b"%d" % (2**63 - 1))
    for stored in (
        b"%d" % (2**63 - 1),
        b"",
        b"1.0",
        b" 1",
        b"1\n",
        b"+1",
        b"\xff",
        b"nine",
        b"\0",
        b"99999999999999999999",
    ):
        version = kv.put("n", stored)
        with pytest.raises(KVError, match="increment") as caught:
            kv.increment("n")
        assert "nine" not in str(caught.value) and (kv.get("n"), kv.entry("n").version) == (stored, version)
    kv.put("n", b"-9223372036854775808")
    assert kv.increment("n") == -(2**63) + 1


def test_scan_by_prefix_range_limit_and_pages(kv: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("async_ranges", "ranges"):
        monkeypatch.setattr(f"p8fs_cluster.kv.{module}.FIRST", 3)
        monkeypatch.setattr(f"p8fs_cluster.kv.{module}.BATCH", 3)
        monkeypatch.setattr(f"p8fs_cluster.kv.{module}.size_after", lambda _: 3)
    keys = [b"a%02d" % number for number in range(10)]
    kv.put_many({key: key for key in keys} | {"b": b"", "\U0010ffff": b""})
    assert list(kv.scan("a")) == [(key, key) for key in keys]
    assert list(kv.scan("a", keys_only=True, reverse=True)) == keys[::-1]
    assert list(kv.scan(start="a03", stop="a07", keys_only=True)) == keys[3:7]
    assert list(kv.scan(start="a03", stop="a07", keys_only=True, reverse=True)) == keys[6:2:-1]
    assert list(kv.scan("a", limit=7, keys_only=True)) == keys[:7]
    assert list(kv.scan("a", start=b"a06\0", limit=6, keys_only=True)) == keys[7:]
    assert list(kv.scan("a", stop="a02", limit=6, keys_only=True, reverse=True)) == keys[1::-1]
    assert list(kv.scan(start="z", stop="a")) == list(kv.scan("a", start="b")) == list(kv.scan("c")) == []
    assert (kv.count("a"), kv.count("a0"), kv.count()) == (10, 10, 12)
    kv.delete_prefix("a")
    assert list(kv.scan(keys_only=True)) == [b"b", "\U0010ffff".encode()]
    kv.clear()
    assert kv.count() == 0


def test_a_session_gives_the_same_keys(case: Case) -> None:
    kv = case.kv.namespace("session")
    with kv.session() as held:
        assert held.put("a", b"1", ttl=100) and held.get("a") == b"1" and held.take("a") == b"1"
        held.put("b", b"2")
    assert kv.get("b") == b"2"


def test_a_scan_goes_on_while_others_write(kv: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("async_ranges", "ranges"):
        monkeypatch.setattr(f"p8fs_cluster.kv.{module}.FIRST", 2)
        monkeypatch.setattr(f"p8fs_cluster.kv.{module}.BATCH", 2)
        monkeypatch.setattr(f"p8fs_cluster.kv.{module}.size_after", lambda _: 2)
    kv.put_many({f"{number}": b"" for number in range(8)})
    seen = []
    for key in kv.scan(keys_only=True):
        seen.append(key)
        kv.delete(key)
        kv.put(b"%s new" % key, b"")
        kv.delete("6")
    assert [key for key in seen if b" " not in key] == [b"0", b"1", b"2", b"3", b"4", b"5", b"7"]


def test_atomic_does_all_or_nothing(kv: Any) -> None:
    a, b = kv.put("a", b"1"), kv.put("b", b"1")
    written = kv.atomic().check("a", a).check("c", None).put("a", b"2").put("c", b"2", ttl=60).delete("b").commit()
    assert written == {"a": kv.entry("a").version, "c": kv.entry("c").version} and kv.ttl("c") <= 60
    assert list(kv.scan()) == [(b"a", b"2"), (b"c", b"2")]
    for failing in (kv.atomic().check("a", a), kv.atomic().check("b", b), kv.atomic().check("c", None)):
        assert failing.check("d", None).put("d", b"").delete("a").commit() is None
    assert list(kv.scan()) == [(b"a", b"2"), (b"c", b"2")]
    assert kv.sweep() == 0, "nothing is left of the keys that were checked"
    assert kv.atomic().put("x", b"").delete("x").delete("a").commit() == {}
    assert list(kv.scan(keys_only=True)) == [b"c"]
    assert kv.atomic().commit() == {} and kv.atomic().put("e", b"").put("e", b"e").commit() and kv.get("e") == b"e"
    with pytest.raises(KVError, match="already"):
        (done := kv.atomic()).commit(), done.commit()


def test_a_transaction_reads_its_writes_and_commits_at_the_end(kv: Any) -> None:
    kv.put_many({"a": b"1", "b": b"1"})
    with kv.transaction() as tx:
        assert tx.get("a") == b"1" and tx.get("c") is None
        version = tx.put("a", b"2", ttl=60)
        tx.delete("b")
        assert tx.get("a") == b"2" and tx.get("b") is None and not tx.exists("b")
        assert kv.get("a") == b"1" and kv.exists("b")
    assert kv.entry("a").version == version and not kv.exists("b") and kv.ttl("a") <= 60
    with pytest.raises(ZeroDivisionError), kv.transaction() as tx:
        tx.put("a", b"3")
        raise ZeroDivisionError
    assert kv.get("a") == b"2"


@pytest.mark.parametrize("seen", ["a", "absent"])
def test_a_transaction_whose_reads_were_overwritten_does_nothing(kv: Any, seen: str) -> None:
    kv.put("a", b"1")
    with pytest.raises(KVConflict), kv.transaction() as tx:
        tx.get(seen)
        tx.put("b", b"")
        kv.put(seen, b"2")
    assert not kv.exists("b")


def test_run_in_transaction_goes_again_after_a_conflict(kv: Any) -> None:
    kv.put("n", b"1")
    runs = []

    def work(tx: Any) -> str:
        number = int(tx.get("n"))
        if not runs:
            kv.put("n", b"10")
        runs.append(number)
        tx.put("n", b"%d" % (number + 1))
        return "done"

    assert kv.run_in_transaction(work) == "done"
    assert runs == [1, 10] and kv.get("n") == b"11"
    runs.clear()
    with pytest.raises(KVConflict):
        kv.run_in_transaction(work, retry=0)
    for retry in (-1, True, "3", None):
        with pytest.raises(KVError, match="retry is a number of times"):
            kv.run_in_transaction(work, retry=retry)


class Note(pydantic.BaseModel):
    title: str
    pages: int = 1


@dataclass
class Point:
    x: int
    y: int


def test_models_dataclasses_and_json(kv: Any) -> None:
    notes, points = kv.typed(Note), kv.typed(Point)
    notes.put("n", Note(title="first"))
    points.put_many({"p": Point(1, 2)})
    kv.json.put("j", {"deep": [1, None, "é"]})
    assert notes.get("n") == Note(title="first") and points.get("p") == Point(1, 2)
    assert kv.json.get("j") == {"deep": [1, None, "é"]} and kv.json.get("n") == {"title": "first", "pages": 1}
    assert list(notes.scan("n")) == [(b"n", Note(title="first"))] and notes.entry("n").value.pages == 1
    with notes.transaction() as tx:
        tx.put("n", Note(title=tx.get("n").title + "!"))
        assert tx.get("n").title == "first!"
    with pytest.raises(KVError, match=r"no Note: title \(missing\)"):
        notes.get("p")
    with pytest.raises(KVError, match="no Note"):
        notes.put("n", Point(1, 2))
    for value in (object(), math.nan, {1, 2}):
        with pytest.raises(KVError, match=r"kv\.json"):
            kv.json.put("j", value)
    kv.put("j", b"s3cret")
    with pytest.raises(KVError) as caught:
        kv.json.get("j")
    assert "s3cret" not in f"{caught.value}{caught.value.__cause__!r}"


@pytest.mark.parametrize("ttl", [0, -1, math.nan, math.inf, 1e300, "60", True])
def test_a_ttl_that_is_none_is_refused(kv: Any, ttl: Any) -> None:
    writes: list[Any] = [
        lambda: kv.put("a", b"", ttl=ttl), lambda: kv.put_many({"a": b""}, ttl=ttl), lambda: kv.expire("a", ttl),
        lambda: kv.put_if_absent("a", b"", ttl=ttl), lambda: kv.compare_and_set("a", 1, b"", ttl=ttl),
        lambda: kv.increment("a", ttl_on_create=ttl), lambda: kv.atomic().put("a", b"", ttl=ttl),
    ]  # fmt: skip
    for write in writes:
        with pytest.raises(KVError, match="ttl is"):
            write()
    assert not kv.exists("a")


@pytest.mark.parametrize("key", ["", b"", 5, None, "\ud800", b"k" * 2045, "é" * 1023])
def test_a_key_that_is_none_is_refused(kv: Any, key: Any) -> None:
    for call in (kv.get, kv.entry, kv.ttl, kv.exists, kv.delete, kv.take, kv.increment):
        with pytest.raises(KVError):
            call(key)
    for write in (lambda: kv.put(key, b""), lambda: kv.put_many({key: b""}), lambda: kv.get_many([key])):
        with pytest.raises(KVError):
            write()
    kv.put(b"k" * 2044 if key is None else b"\xff" * 2044, b"at most")
    assert list(kv.scan(b"k" * 2043)) in ([], [(b"k" * 2044, b"at most")])
    assert kv.count() == 1
    [last] = kv.scan(keys_only=True)
    assert list(kv.scan(start=last + b"\0")) == []


def test_what_is_no_value_limit_or_version_is_refused(kv: Any) -> None:
    calls: list[Any] = [
        lambda: kv.put("a", "text"), lambda: kv.put("a", bytearray(b"x")), lambda: kv.put("a", None),
        lambda: kv.scan(limit=0), lambda: kv.scan(limit=True), lambda: kv.scan(5), lambda: kv.sweep(-1),
        lambda: kv.compare_and_set("a", 0, b""), lambda: kv.compare_and_set("a", None, b""),
        lambda: kv.delete_if("a", 2**63), lambda: kv.atomic().check("a", "1"), lambda: kv.increment("a", 1.0),
        lambda: kv.increment("a", 2**63), lambda: kv.get_many("abc"), lambda: kv.put_many([("a", b"")]),
        lambda: kv.put_many({"a": b"", b"a": b""}), lambda: kv.delete_prefix(""), lambda: kv.namespace("again"),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(KVError):
            call()
    assert kv.count() == 0


@pytest.mark.parametrize("name", ["", "a\0b", "n" * 2048, 5, "\ud800"])
def test_a_name_of_a_namespace_that_is_none_is_refused(case: Case, name: Any) -> None:
    with pytest.raises(KVError):
        case.kv.namespace(name)


def test_its_numbers(case: Case, kv: Any) -> None:
    before = case.kv.stats()
    version = kv.put("a", b"")
    assert kv.atomic().check("a", version + 1).commit() is None
    with pytest.raises(KVConflict), kv.transaction() as tx:
        tx.get("a")
        kv.put("a", b"2")
    kv.put("old", b"", ttl=5)
    case.end("auth", "old")
    assert kv.sweep() == 1
    after = kv.stats()
    assert after["provider"] == case.container.storage().provider
    assert [after[name] - before[name] for name in ("conflicts", "swept", "errors")] == [2, 1, 0]
    assert after["calls"] - before["calls"] >= 6
