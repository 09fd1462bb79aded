"""The checker of histories, on histories written by hand: right ones pass, each wrong one breaks its rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.events import COUNTER, SCHEDULER, Event, Log, Token, event_of
from tests.chaos.history import History, Increment, Write, violations
from tests.chaos.lines import Tail
from tests.chaos.told import Fault


def tick(node: str, at: float, fence: int | None, *, before: float | None = None, until: float | None = None,
         lease: str = SCHEDULER) -> Event:  # fmt: skip
    """Return a look at what a node believed, which took no time unless it is said."""
    token = None if fence is None else (0, fence)
    return Event(node, "tick", at if before is None else before, at, lease, token, until)


def ticks(node: str, fence: int, *times: float, until: float | None = None) -> list[Event]:
    return [tick(node, at, fence, until=until) for at in times]


def acquired(node: str, at: float, token: Token) -> Event:
    return Event(node, "acquired", at, at, SCHEDULER, token)


def rules(*events: Event, **rest: object) -> list[str]:
    return [each.rule for each in violations(History(sorted(events, key=lambda event: event.at), **rest))]  # type: ignore[arg-type]


def test_leaders_in_turn_are_right() -> None:
    assert rules(*ticks("a", 1, 1, 2, 3), tick("a", 3.1, None), *ticks("b", 2, 3.2, 4, 5), *ticks("a", 3, 6, 7)) == []


def test_a_tick_inside_the_belief_of_another_is_wrong() -> None:
    assert "two believers" in rules(*ticks("a", 1, 1, 2, 3), *ticks("b", 2, 2.5))


def test_beliefs_that_overlap_are_wrong() -> None:
    assert "two believers" in rules(*ticks("a", 1, 1, 2, 3), *ticks("b", 2, 2.5, 4))


def test_a_belief_around_that_of_another_is_wrong() -> None:
    """As of a node that was stopped, and believes when it goes on."""
    assert "two believers" in rules(*ticks("a", 1, 1, 9), *ticks("b", 2, 4, 5, 6))


def test_a_third_term_between_does_not_hide_an_overlap() -> None:
    assert "two believers" in rules(*ticks("a", 1, 1, 9), *ticks("b", 2, 2), *ticks("c", 3, 8, 10))


def test_beliefs_in_different_leases_are_right() -> None:
    assert rules(*ticks("a", 1, 1, 2, 3), *(tick("b", at, 2, lease=COUNTER) for at in (1, 2, 3))) == []


def test_a_look_that_took_long_may_have_been_at_any_moment_of_it() -> None:
    """A node was stopped between the clock and the look, or after the look: nobody knows."""
    assert rules(*ticks("a", 1, 1, 2), tick("a", 8, 1, before=2.5), *ticks("b", 2, 3, 4, 5)) == []


def test_a_long_look_inside_a_belief_is_wrong() -> None:
    assert "two believers" in rules(tick("a", 4, 1, before=3), *ticks("b", 2, 2, 5))


def test_a_node_that_was_killed_believed_up_to_its_deadline() -> None:
    assert "two believers" in rules(*ticks("a", 1, 1, 2, until=4), *ticks("b", 2, 3, 5))
    assert rules(*ticks("a", 1, 1, 2, until=4), *ticks("b", 2, 4.1, 5)) == []


@pytest.mark.parametrize("end", [tick("a", 2.1, None), Event("a", "giving up", 2.1, 2.1, SCHEDULER)])
def test_a_node_that_gave_up_did_not(end: Event) -> None:
    assert rules(*ticks("a", 1, 1, 2, until=4), end, *ticks("b", 2, 3, 5)) == []


def test_a_token_that_is_granted_twice_is_wrong() -> None:
    assert rules(acquired("a", 1, (0, 1)), acquired("b", 2, (0, 1))) == ["token granted twice"]
    assert rules(acquired("a", 1, (0, 1)), acquired("b", 2, (0, 2)), acquired("c", 3, (1, 1))) == []


@pytest.mark.parametrize("fence", [4, 5])
def test_a_token_that_does_not_grow_is_wrong(fence: int) -> None:
    assert rules(*ticks("a", 5, 1, 2), *ticks("b", fence, 3, 4), *ticks("c", 9, 5)) == ["token not greater"]


def test_a_token_of_a_later_timeline_is_greater() -> None:
    after = [Event("b", "tick", at, at, SCHEDULER, (1, 1)) for at in (3, 4)]
    assert rules(*ticks("a", 5, 1, 2), *after) == []


def test_writes_in_the_order_of_their_fences_are_right() -> None:
    assert rules(writes=[Write("1", "a", 1), Write("2", "a", 1), Write("3", "b", 2)]) == []


def test_a_write_of_an_earlier_leader_is_wrong() -> None:
    assert rules(writes=[Write("1", "b", 2), Write("2", "a", 1)]) == ["stale write accepted"]


def test_two_writers_by_one_fence_are_wrong() -> None:
    assert rules(writes=[Write("1", "b", 2), Write("2", "a", 2)]) == ["two writers of one fence"]


@pytest.mark.parametrize(("kind", "ident"), [("accepted", "other"), ("refused", "1")])
def test_a_node_that_was_told_otherwise_is_wrong(kind: str, ident: str) -> None:
    told = Event("a", kind, 1, 1, SCHEDULER, id=ident)
    assert rules(told, writes=[Write("1", "a", 1)]) == ["write told wrongly"]


def test_a_counter_that_was_read_and_written_in_turn_is_right() -> None:
    increments = [Increment("1", "a", 0, 1, 7), Increment("2", "b", 1, 2, 8)]
    told = Event("a", "incremented", 1, 1, id="1")  # of the other the node never heard
    assert rules(told, increments=increments, value=2) == []


def test_a_value_that_two_have_read_is_wrong() -> None:
    increments = [Increment("1", "a", 0, 1, 7), Increment("2", "b", 0, 1, 8)]
    assert rules(increments=increments, value=1) == ["lost update", "lost update"]


def test_a_counter_that_has_another_value_is_wrong() -> None:
    assert rules(increments=[Increment("1", "a", 0, 1, 7)], value=2) == ["lost update"]


def test_a_commit_that_is_gone_is_wrong() -> None:
    assert rules(Event("a", "incremented", 1, 1, id="1")) == ["commit lost"]


def test_an_increment_of_an_earlier_holder_is_wrong() -> None:
    increments = [Increment("1", "a", 0, 1, 8), Increment("2", "b", 1, 2, 7)]
    assert rules(increments=increments, value=2) == ["stale increment"]


@pytest.mark.parametrize(("led", "broken"), [(12.9, []), (13.1, ["nobody leads"]), (None, ["nobody leads"])])
def test_somebody_has_to_lead_in_time(led: float | None, broken: list[str]) -> None:
    fault = Fault("restart", begun=5, healed=10, since=10)
    after = [] if led is None else ticks("a", 2, led)
    assert rules(*ticks("a", 1, 1, 2), *after, faults=[fault], patience=3) == broken


def test_a_look_that_began_before_does_not_tell_of_a_leader() -> None:
    fault = Fault("restart", begun=5, healed=10, since=10)
    assert rules(tick("a", 10.5, 1, before=9), faults=[fault], patience=3) == ["nobody leads"]


def test_who_suffers_alone_does_not_count_until_it_is_healed() -> None:
    fault = Fault("silence", begun=10, healed=14, since=10, node="a")
    assert rules(*ticks("a", 1, 9, 11), *ticks("b", 2, 12.5), faults=[fault], patience=3) == []
    assert rules(*ticks("a", 1, 9, 11), *ticks("b", 2, 13.5), faults=[fault], patience=3) == ["nobody leads"]
    assert rules(*ticks("a", 1, 9, 11), *ticks("a", 2, 14.5), faults=[fault], patience=5) == []


def test_a_leader_that_loses_its_term_without_need_is_wrong() -> None:
    fault = Fault("exhaust", begun=3, healed=6, since=3, node="a", harmless=True)
    assert rules(*ticks("a", 1, 1, 2, 4, 5, 7), faults=[fault], patience=3) == []
    assert rules(*ticks("a", 1, 1, 2), tick("a", 5, None), *ticks("b", 2, 5.5), faults=[fault], patience=3) == [
        "term lost without need"
    ]


def test_who_did_not_lead_loses_nothing() -> None:
    fault = Fault("exhaust", begun=3, healed=6, since=3, node="b", harmless=True)
    assert rules(tick("b", 1, None), *ticks("a", 1, 1, 2), *ticks("b", 2, 5), faults=[fault], patience=3) == []


def test_what_a_node_writes_is_read_again_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "a"
    tail = Tail(path)
    assert tail.read() == []
    log = Log(path, "a")
    log.write("tick", lease=SCHEDULER, token=(1, 2), until=3.5)
    [event] = map(event_of, tail.read())
    assert (event.node, event.kind, event.token, event.until) == ("a", "tick", (1, 2), 3.5)
    log.write("tick", 1.0, lease=SCHEDULER)
    with path.open("a") as file:
        file.write('{"node": "a", "ki')  # a kill has cut it off
    [event] = map(event_of, tail.read())
    assert (event.before, event.token) == (1.0, None)
    assert event.at > 1.0
