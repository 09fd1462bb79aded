"""The keys of embedded stores, in the order of bytes; servers are asked by SQL."""

from __future__ import annotations

import random
from typing import Any

import pytest

from p8fs_cluster.exceptions import StorageError
from tests.conformance.cases import Case

KEYS = [b"\x00", b"a", b"a\xff", b"a\xff\xff", b"b", b"b:1", b"b:10", b"b:2", b"\xfe", b"\xff", b"\xff\xff"]


def scanned(case: Case, *args: Any, **kwargs: Any) -> list[bytes]:
    return [key for key, value in case.storage.scan(*args, **kwargs) if value == b"of " + key]


def test_every_span_in_both_directions(case: Case) -> None:
    if case.sql:
        with pytest.raises(StorageError, match="ask it by SQL"):
            list(case.storage.scan())
        return
    with case.storage as connection:
        for key in random.sample(KEYS, len(KEYS)):
            connection[key] = b"of " + key
    bounds = [None, b"", b"a\xff", b"b:1", b"b:1x", b"\xff", b"\xff\xff\xff"]
    for prefix in (b"", b"a", b"a\xff", b"b:", b"\xff", b"z"):
        for start in bounds:
            for stop in bounds:
                wanted = [
                    key
                    for key in sorted(KEYS)
                    if key.startswith(prefix) and key >= (start or b"") and (stop is None or key < stop)
                ]
                assert scanned(case, prefix, start=start, stop=stop) == wanted, (prefix, start, stop)
                assert scanned(case, prefix, start=start, stop=stop, reverse=True) == wanted[::-1]


def test_a_scan_that_is_left_early_gives_its_connection_back(case: Case) -> None:
    if case.sql:
        return
    with case.storage as connection:
        for number in range(2500):
            connection[b"%05d" % number] = b"x"
    pairs = case.storage.scan()
    assert next(pairs) == (b"00000", b"x")
    pairs.close()
    assert case.size() == 0
    assert sum(1 for _ in case.storage.scan()) == 2500
