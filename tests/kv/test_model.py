"""Any sequence of operations, beside a dict that does the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from p8fs_cluster.exceptions import KVConflict, KVError
from p8fs_cluster.providers.storage.kv_decisions import summed
from tests.kv.conftest import Case, opened, settings_of
from tests.servers import SQL

KEYS = st.sampled_from([b"a", b"ab", b"b\xff", b"b\xff\x00", b"\x00", b"\xff\xff"])
PREFIXES = st.sampled_from([b"", b"a", b"b\xff", b"\xff", b"c"])
VALUES = st.sampled_from([b"", b"1", b"-7", b"text", b"%d" % (2**63 - 1), b"\x00'\\"])
ENDS = st.tuples(st.none() | KEYS, st.none() | KEYS)
TTLS = st.sampled_from([None, 5.0, 50.0])


class Model(RuleBasedStateMachine):
    """The store and a dict: key → value, version, end."""

    case: ClassVar[Case]

    def __init__(self) -> None:
        super().__init__()
        self.kv = self.case.kv.namespace("model")
        self.kv.clear()
        self.other = self.case.kv.namespace("modem")
        self.other.put("stays", b"here")
        self.there: dict[bytes, tuple[bytes, int, float | None]] = {}
        self.given: dict[bytes, list[int]] = {}

    def now(self) -> float:
        return self.case.clock.now() if self.case.clock else 0.0

    def wrote(self, key: bytes, value: bytes, version: Any, ttl: float | None) -> None:
        given = self.given.setdefault(key, [])
        assert isinstance(version, int) and version not in given, "a version was used again"
        given.append(version)
        self.there[key] = value, version, None if ttl is None else self.now() + ttl

    def version(self, key: bytes) -> int | None:
        return self.there[key][1] if key in self.there else None

    @rule(key=KEYS, value=VALUES, ttl=TTLS)
    def put(self, key: bytes, value: bytes, ttl: float | None) -> None:
        self.wrote(key, value, self.kv.put(key, value, ttl=ttl), ttl)

    @rule(items=st.dictionaries(KEYS, VALUES), ttl=TTLS)
    def put_many(self, items: dict[bytes, bytes], ttl: float | None) -> None:
        for key, version in self.kv.put_many(items, ttl=ttl).items():
            self.wrote(key, items[key], version, ttl)

    @rule(keys=st.lists(KEYS))
    def delete_many(self, keys: list[bytes]) -> None:
        self.kv.delete_many(keys)
        for key in keys:
            self.there.pop(key, None)

    @rule(key=KEYS, value=VALUES, ttl=TTLS)
    def put_if_absent(self, key: bytes, value: bytes, ttl: float | None) -> None:
        version = self.kv.put_if_absent(key, value, ttl=ttl)
        assert (version is None) == (key in self.there)
        if version is not None:
            self.wrote(key, value, version, ttl)

    @rule(key=KEYS, value=VALUES, ttl=TTLS, right=st.booleans(), data=st.data())
    def compare_and_set(self, key: bytes, value: bytes, ttl: float | None, right: bool, data: Any) -> None:
        old = self.given.get(key) or [1]
        expected = self.version(key) if right and key in self.there else data.draw(st.sampled_from(old))
        version = self.kv.compare_and_set(key, expected, value, ttl=ttl)
        assert (version is not None) == (expected == self.version(key))
        if version is not None:
            self.wrote(key, value, version, ttl)

    @rule(key=KEYS, right=st.booleans())
    def delete_if(self, key: bytes, right: bool) -> None:
        version = (self.version(key) or 1) if right else 12345
        assert self.kv.delete_if(key, version) == (version == self.version(key))
        if version == self.version(key):
            del self.there[key]

    @rule(key=KEYS)
    def take(self, key: bytes) -> None:
        assert self.kv.take(key) == self.there.pop(key, (None,))[0]

    @rule(key=KEYS, ttl=TTLS)
    def expire(self, key: bytes, ttl: float | None) -> None:
        version = self.kv.expire(key, ttl)
        assert (version is not None) == (key in self.there)
        if version is not None:
            self.wrote(key, self.there[key][0], version, ttl)

    @rule(key=KEYS, by=st.sampled_from([1, -3, 2**62]), ttl=TTLS)
    def increment(self, key: bytes, by: int, ttl: float | None) -> None:
        old = self.there.get(key)
        total = by if old is None else summed(old[0], by)
        if total is None:
            with pytest.raises(KVError):
                self.kv.increment(key, by, ttl_on_create=ttl)
            return
        counted = self.kv.increment(key, by, ttl_on_create=ttl)
        assert counted == total
        self.wrote(key, b"%d" % total, counted.version, ttl)
        if old is not None:
            self.there[key] = (*self.there[key][:2], old[2])

    @rule(checks=st.dictionaries(KEYS, st.booleans()), puts=st.dictionaries(KEYS, VALUES), deletes=st.sets(KEYS))
    def atomic(self, checks: dict[bytes, bool], puts: dict[bytes, bytes], deletes: set[bytes]) -> None:
        atomic = self.kv.atomic()
        for key, right in checks.items():
            atomic.check(key, self.version(key) if right else 999)
        for key in deletes:
            atomic.delete(key)
        for key, value in puts.items():
            atomic.put(key, value)
        versions = atomic.commit()
        assert (versions is not None) == all(checks.values())
        if versions is not None:
            for key in deletes:
                self.there.pop(key, None)
            for key, version in versions.items():
                self.wrote(key, puts[key], version, None)

    @rule(reads=st.sets(KEYS), puts=st.dictionaries(KEYS, VALUES), rival=st.none() | KEYS)
    def transaction(self, reads: set[bytes], puts: dict[bytes, bytes], rival: bytes | None) -> None:
        written = {}
        try:
            with self.kv.transaction() as tx:
                for key in reads:
                    assert tx.get(key) == self.there.get(key, (None,))[0]
                if rival is not None:
                    self.wrote(rival, b"rival", self.kv.put(rival, b"rival"), None)
                for key, value in puts.items():
                    written[key] = tx.put(key, value)
        except KVConflict:
            assert rival in reads
            return
        assert rival not in reads
        for key, version in written.items():
            self.wrote(key, puts[key], version, None)

    @rule(prefix=PREFIXES)
    def delete_prefix(self, prefix: bytes) -> None:
        if prefix:
            self.kv.delete_prefix(prefix)
        else:
            self.kv.clear()
        self.there = {key: row for key, row in self.there.items() if not key.startswith(prefix)}

    @rule(limit=st.integers(1, 3))
    def sweep(self, limit: int) -> None:
        assert 0 <= self.kv.sweep(limit) <= limit

    @rule(seconds=st.sampled_from([4.0, 5.0, 60.0]))
    @precondition(lambda self: self.case.clock)
    def move(self, seconds: float) -> None:
        assert self.case.clock
        self.case.clock.move(seconds)
        now = self.now()
        self.there = {key: row for key, row in self.there.items() if row[2] is None or row[2] > now}

    @rule(key=KEYS)
    @precondition(lambda self: self.case.sql)
    def end(self, key: bytes) -> None:
        self.case.container.storage().execute("UPDATE p8fs_kv SET expires_at = 1 WHERE k = %s", (b"model\0" + key,))
        self.there.pop(key, None)

    @rule(prefix=PREFIXES, ends=ENDS, reverse=st.booleans(), limit=st.integers(1, 5))
    def scan(self, prefix: bytes, ends: tuple[Any, Any], reverse: bool, limit: int) -> None:
        start, stop = ends
        expected = [
            (key, self.there[key][0])
            for key in sorted(self.there, reverse=reverse)
            if key.startswith(prefix) and (start is None or key >= start) and (stop is None or key < stop)
        ][:limit]
        assert list(self.kv.scan(prefix, start=start, stop=stop, reverse=reverse, limit=limit)) == expected

    @invariant()
    def they_are_the_same(self) -> None:
        assert dict(self.kv.scan()) == {key: row[0] for key, row in self.there.items()}
        assert self.kv.count() == len(self.there)
        for key, (value, version, end) in self.there.items():
            entry = self.kv.entry(key)
            assert (entry.value, entry.version) == (value, version)
            if self.case.clock:
                assert entry.ttl == (float("inf") if end is None else pytest.approx(end - self.now()))
        assert list(self.other.scan()) == [(b"stays", b"here")]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("kind", "examples"),
    [("memory", 60), ("async memory", 10), ("rocksdb", 25), ("postgresql", 8), ("async postgresql", 4), ("mariadb", 8),
     ("async mariadb", 4), *([("tidb", 4)] if "tidb" in SQL else [])],
)  # fmt: skip
def test_any_sequence_does_what_a_dict_does(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, examples: int
) -> None:
    for module in ("async_ranges", "ranges"):
        monkeypatch.setattr(f"p8fs_cluster.kv.{module}.FIRST", 2)
        monkeypatch.setattr(f"p8fs_cluster.kv.{module}.BATCH", 2)
        monkeypatch.setattr(f"p8fs_cluster.kv.{module}.size_after", lambda _: 2)
    name = kind.removeprefix("async ")
    with opened(name, name != kind, settings_of(name, request, tmp_path)) as case:
        case.kv.clear()
        machine = type("Model", (Model,), {"case": case})
        run_state_machine_as_test(
            machine,  # type: ignore[arg-type]
            settings=settings(
                max_examples=examples, stateful_step_count=30, deadline=None,
                suppress_health_check=list(HealthCheck), database=None,
            ),
        )  # fmt: skip
