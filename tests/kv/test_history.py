"""The checker of calls, on histories written by hand: right ones pass, each wrong one breaks its rule."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster.exceptions import CommitUnknown, NotCommitted, StorageTimeout
from tests.chaos.kv.calls import DONE, FAILED, ODD, REFUSED, SOME, UNKNOWN, Call, Calls, Journal
from tests.chaos.kv.history import History, violations
from tests.chaos.kv.keys import ACCOUNTS, CODES, COUNTS, PAIRS
from tests.chaos.lines import Tail
from tests.chaos.told import Fault

K = "k"


def call(verb: str, begun: float, ended: float, **rest: Any) -> Call:
    return Call("a", verb, begun, ended, **{"outcome": DONE, **rest})


def put(value: str, begun: float, ended: float, key: str = K, **rest: Any) -> Call:
    return call("put", begun, ended, wrote={key: value}, **rest)


def get(value: str | None, begun: float, ended: float, key: str = K, **rest: Any) -> Call:
    return call("get", begun, ended, saw={key: value}, **rest)


def swap(old: str | None, new: str | None, begun: float, ended: float, **rest: Any) -> Call:
    """Return a call that writes, or deletes, in place of what it found."""
    return call("compare_and_set", begun, ended, required={K: old}, wrote={K: new}, **rest)


def unknown(one: Call) -> Call:
    return dataclasses.replace(one, ended=math.inf, outcome=UNKNOWN)


def rules(*calls: Call, **rest: Any) -> set[str]:
    return {each.rule for each in violations(History(calls, **rest))}


def test_calls_in_turn_are_right() -> None:
    assert rules(put("x", 1, 2), get("x", 3, 4), swap("x", "y", 5, 6), get("y", 7, 8), swap("y", None, 9, 10),
                 get(None, 11, 12), swap(None, "z", 13, 14), get("z", 15, 16)) == set()  # fmt: skip


def test_calls_at_once_may_have_been_in_any_order() -> None:
    assert rules(put("x", 1, 9), put("y", 1, 9), get("y", 2, 3), get("x", 4, 5), get("x", 10, 11)) == set()
    assert rules(put("x", 1, 9), get(None, 2, 3), get("x", 2, 3), get("x", 10, 11)) == set()


def test_a_value_that_a_later_one_was_written_over_is_not_read_again() -> None:
    assert rules(put("x", 1, 2), put("y", 3, 4), get("x", 5, 6)) == {"two values at once"}
    assert rules(put("x", 1, 2), put("y", 3, 6), get("y", 4, 5), get("x", 7, 8)) == {"two values at once"}
    assert rules(put("x", 1, 2), put("y", 3, 6), get("x", 4, 5), get("y", 7, 8)) == set()


def test_a_deleted_value_does_not_come_back() -> None:
    assert rules(put("x", 1, 2), call("delete", 3, 4, wrote={K: None}), get("x", 5, 6)) == {"there and not there"}
    assert rules(put("x", 1, 2), get(None, 3, 4), get("x", 5, 6)) == {"there and not there", "gone without a delete"}


def test_a_value_whose_end_is_being_changed_may_seem_to_be_gone() -> None:
    extended = call("expire", 3, 6, ends={K: 99.0})
    calls = (put("x", 1, 2, ends={K: 2.0}), extended, get(None, 4, 5), get("x", 7, 8))
    assert rules(*calls) == set()
    assert rules(*calls, get(None, 6.1, 6.2)) == {"there and not there"}


def test_an_acknowledged_value_is_not_gone() -> None:
    assert rules(put("x", 1, 2), get(None, 3, 4)) == {"gone without a delete"}
    assert rules(put("x", 1, 2), swap(None, "y", 3, 4)) == {"gone without a delete"}
    assert rules(put("x", 1, 2), unknown(swap("x", None, 2, 3)), get(None, 3, 4)) == set()
    assert rules(put("x", 1, 2), swap("x", None, 2, 3, outcome=REFUSED), get(None, 3, 4)) == {"gone without a delete"}
    assert rules(call("delete", 0, 1, wrote={K: None}), put("x", 2, 3), get(None, 4, 5)) == {"gone without a delete"}


def test_a_value_that_expires_may_be_gone_but_not_be_seen_for_longer() -> None:
    written = put("x", 1, 2, ends={K: 5.0})
    assert rules(written, get("x", 3, 4), get(None, 5, 6)) == set()
    assert rules(written, get("x", 8, 9)) == {"seen after its end"}
    assert rules(written, call("expire", 5, 6, ends={K: 5.0}), get("x", 8, 9)) == set()
    assert rules(written, call("expire", 5, 6, ends={K: 1.0}), get("x", 8, 9)) == {"seen after its end"}


def test_a_value_has_one_successor() -> None:
    assert rules(put("x", 1, 2), swap("x", "y", 3, 9), swap("x", "z", 3, 9)) == {"two successors"}
    assert rules(put("x", 1, 2), swap("x", "y", 3, 9), swap("x", None, 3, 9)) == {"two successors"}
    assert rules(put("x", 1, 2), swap("x", "y", 3, 9), swap("x", "z", 3, 9, outcome=REFUSED)) == set()


def test_what_was_there_all_the_time_is_not_refused() -> None:
    refused = swap("x", "y", 3, 4, outcome=REFUSED)
    assert rules(put("x", 1, 2), refused, get("x", 5, 6)) == {"refused what was there"}
    assert rules(put("x", 1, 2), call("expire", 2, 3, ends={K: 99.0}), refused, get("x", 5, 6)) == set()
    assert rules(put("x", 1, 3.5), refused, get("x", 5, 6)) == set()


def test_an_unknown_write_is_done_once_at_any_time_or_never() -> None:
    write = unknown(put("y", 3, 4))
    assert rules(put("x", 1, 2), write, get("x", 5, 6)) == set()
    assert rules(put("x", 1, 2), write, get("x", 5, 6), get("y", 90, 91)) == set()
    assert rules(put("x", 1, 2), write, get("y", 5, 6), put("z", 7, 8), get("y", 9, 10)) == {"two values at once"}
    assert rules(put("x", 1, 2), write, get("y", 1, 2.5)) >= {"seen before it was written"}


@pytest.mark.parametrize("outcome", [FAILED, REFUSED])
def test_a_call_that_failed_wrote_nothing(outcome: str) -> None:
    assert rules(put("x", 1, 2, outcome=outcome), get("x", 3, 4)) == {"written by a call that failed"}


def test_nothing_is_seen_that_nobody_wrote() -> None:
    assert rules(get("x", 3, 4)) == {"seen and never written"}


def test_a_version_is_of_one_value() -> None:
    assert rules(put("x", 1, 2, versions={K: 7}), put("y", 3, 4, versions={K: 7})) == {"version used twice"}
    assert rules(put("x", 1, 2, versions={K: 7}), get("x", 3, 4, versions={K: 8})) == {"two versions"}
    assert rules(put("x", 1, 2, versions={K: 7}), call("expire", 2, 3, ends={K: 9.0}, versions={K: 8}),
                 get("x", 3, 4, versions={K: 8})) == set()  # fmt: skip


def add(total: int, begun: float, ended: float) -> Call:
    saw = {COUNTS[0]: str(total - 1) if total > 1 else None}
    return call("increment", begun, ended, saw=saw, wrote={COUNTS[0]: str(total)})


def lost(begun: float) -> Call:
    return unknown(call("increment", begun, 0, wrote={COUNTS[0]: SOME}))


def total(number: int, begun: float, ended: float) -> Call:
    return get(str(number), begun, ended, COUNTS[0])


def test_each_increment_counts_once() -> None:
    assert rules(add(1, 1, 2), add(2, 3, 4), total(2, 5, 6)) == set()
    assert rules(add(1, 1, 9), add(1, 1, 9)) == {"written twice"}
    assert rules(add(1, 1, 2), add(2, 3, 9), add(2, 3, 9)) == {"written twice", "two successors"}
    assert rules(add(1, 1, 2), total(2, 5, 6)) == {"seen and never written", "counted twice"}


def test_an_unknown_increment_counts_once_or_not_at_all() -> None:
    assert rules(add(1, 1, 2), lost(3), total(1, 5, 6)) == set()
    assert rules(add(1, 1, 2), lost(3), total(2, 5, 6)) == set()
    assert rules(add(1, 1, 2), lost(3), add(3, 5, 6), total(3, 7, 8)) == set()
    assert rules(add(1, 1, 2), lost(3), total(3, 5, 6)) == {"counted twice"}
    assert rules(add(2, 1, 2), lost(3)) == {"counted twice"}, "it began too late for that"


def test_a_sum_does_not_go_back() -> None:
    assert rules(add(1, 1, 2), add(2, 3, 4), lost(1), total(1, 5, 6)) >= {"counted back"}


def test_a_code_is_had_by_one() -> None:
    code = CODES[0]

    def take(value: str | None, begun: float) -> Call:
        return call("take", begun, begun + 5, saw={code: value}, wrote={code: None})

    given, none = put("x", 1, 2, code), get(None, 90, 91, code)
    assert rules(given, take("x", 3), take(None, 3), none) == set()
    assert "code taken twice" in rules(given, take("x", 3), take("x", 3), none)
    assert rules(given, unknown(take(None, 3)), none) == set()
    assert rules(given, put("y", 3, 4, code), unknown(take(None, 3)), none) == {"code lost"}


def test_amounts_keep_their_sum() -> None:
    right = dict.fromkeys(ACCOUNTS, "100 first")
    first = call("put_many", 1, 2, wrote=right)
    assert rules(first, call("get_many", 3, 4, saw=right)) == set()
    wrong = {**right, ACCOUNTS[0]: "99 other"}
    assert "sum changed" in rules(first, call("get_many", 3, 4, saw=wrong))


def test_pairs_are_seen_whole() -> None:
    one, other = PAIRS[0]
    both = call("put_many", 1, 9, wrote={one: "x", other: "x"})
    assert rules(both, call("get_many", 2, 3, saw={one: "x", other: "x"})) == set()
    assert rules(both, call("get_many", 2, 3, saw={one: "x", other: None})) == {"half of a call seen"}


def test_somebody_gets_through_after_a_fault() -> None:
    fault = Fault("crash", 2, 3, 3)
    assert rules(put("x", 4, 5), faults=[fault], patience=5) == set()
    assert rules(put("x", 4, 9), faults=[fault], patience=5) == {"nobody gets through"}
    assert rules(put("x", 1, 2), faults=[fault], patience=5) == {"nobody gets through"}


def test_errors_are_of_our_own() -> None:
    assert rules(put("x", 1, 2, outcome=ODD)) == {"odd error"}


def test_what_is_told_of_calls_is_put_together(tmp_path: Path) -> None:
    journal, tail, calls = Journal(tmp_path / "a"), Tail(tmp_path / "a"), Calls()
    with journal.call("put", wrote={K: "x"}) as came:
        came["versions"] = {K: 7}
    for error in (CommitUnknown("?"), StorageTimeout("?"), NotCommitted("no"), RuntimeError("?")):
        with journal.call("put", wrote={K: "y"}):
            raise error
    journal.add({"n": 9, "verb": "put", "begun": 3.0, "wrote": {K: "z"}})  # it was killed then
    for line in tail.read():
        calls.add("a", line)
    done, *rest = calls.all()
    assert (done.outcome, done.saw, done.wrote, done.versions) == (DONE, {}, {K: "x"}, {K: 7})
    assert done.begun <= done.ended < math.inf and calls.latest == done.begun
    assert [each.outcome for each in rest] == [UNKNOWN, UNKNOWN, FAILED, ODD, UNKNOWN]
    assert [each.ended == math.inf for each in rest] == [True, True, False, False, True]
