"""How much a key, a value and a call may have: checked before anything is sent."""

from __future__ import annotations

import random
from typing import Any

import pytest

from p8fs_cluster import Container
from p8fs_cluster.di import context
from p8fs_cluster.exceptions import KVError
from p8fs_cluster.testing import memory_storage
from tests.kv.conftest import Case, opened


def test_the_largest_value_is_stored_as_it_is(case: Case) -> None:
    """On the servers of MySQL's protocol; elsewhere 8 MiB, as 256 MiB take long."""
    kv = case.kv
    size = min(kv.limits.value_bytes, 8 << 20)
    value = random.Random(size).randbytes(size)
    version = kv.put("large", value)
    assert kv.entry("large").version == version and kv.get("large") == value
    quotes = b"'\\\0\n\r\x1a\"" * (kv.limits.value_bytes // 7) if size < 8 << 20 else b"'"
    assert kv.compare_and_set("large", version, quotes) and kv.get("large") == quotes
    assert kv.take("large") == quotes


def test_a_call_of_the_largest_size_is_one_call(sql_case: Case) -> None:
    kv = sql_case.container.kv()
    left = min(kv.limits.call_bytes, 16 << 20)
    values = {f"{number}": b"\0" * (left // 4 - 10) for number in range(4)}
    kv.put_many(values)
    assert kv.get_many(values) == values
    assert kv.atomic().check("none", None).put("0", values["0"]).put("1", values["1"]).delete("2").commit()


@pytest.fixture
def small() -> Any:
    with Container(config={"kv_max_value": 10}) as container, container.storage.override(memory_storage()):
        yield container.kv().namespace("n")


def test_a_setting_lowers_the_limit_of_values(small: Any) -> None:
    assert small.limits.value_bytes == 10 and small.limits.key_bytes == 2048
    small.put("a", b"1234567890")
    writes: list[Any] = [
        lambda: small.put("b", b"s3cret-long"),
        lambda: small.put_many({"b": b"", "c": b"s3cret-long"}),
        lambda: small.put_if_absent("b", b"s3cret-long"),
        lambda: small.compare_and_set("a", small.entry("a").version, b"s3cret-long"),
        lambda: small.atomic().put("b", b"").put("c", b"s3cret-long").commit(),
        lambda: small.json.put("b", "s3cret-lon"),
    ]
    for write in writes:
        with pytest.raises(KVError, match=r"at most 10 bytes.*kv\.limits\.value_bytes.*not 1[12]") as caught:
            write()
        assert "s3cret" not in str(caught.value)
    with pytest.raises(KVError), small.transaction() as tx:
        tx.put("b", b"")
        tx.put("c", b"s3cret-long")
    assert list(small.scan()) == [(b"a", b"1234567890")]


def test_a_setting_raises_no_limit_of_the_engine(sql_case: Case) -> None:
    with opened(sql_case.kind, False, {**sql_case.settings, "kv_max_value": 1 << 40}) as case:
        assert case.kv.limits == sql_case.kv.limits


def test_what_is_too_much_for_one_call_is_refused_and_not_split(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from p8fs_cluster.providers.storage.kv_rows import KeyRows

    limits = replace(case.kv.limits, call_bytes=100)
    monkeypatch.setattr("p8fs_cluster.kv.stores.EMBEDDED_LIMITS", limits)
    for engine in KeyRows.__subclasses__():
        monkeypatch.setattr(engine, "limits", limits)
    context.changed()
    kv = case.kv
    calls: list[Any] = [
        lambda: kv.put_many({f"{number}": b"x" * 20 for number in range(5)}),
        lambda: kv.get_many([f"{number:030}" for number in range(5)]),
        lambda: kv.delete_many([f"{number:030}" for number in range(5)]),
        lambda: kv.atomic().check("a" * 90, None).put("b", b"x" * 20).commit(),
        lambda: kv.run_in_transaction(lambda tx: [tx.put(f"{number}", b"x" * 20) for number in range(5)]),
    ]
    for call in calls:
        with pytest.raises(KVError, match=r"at most 100 bytes.*never split"):
            call()
    assert kv.count() == 0
