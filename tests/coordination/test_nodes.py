"""The nodes of a cluster, on every store, on threads and asyncio."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p8fs_cluster import Container
from p8fs_cluster.coordination.views import Node, Row, View, next_members
from p8fs_cluster.exceptions import CoordinationError, StorageError
from tests.coordination.conftest import Case, only
from tests.processes import running, until


def test_nodes_join_with_all_that_is_known_of_them(case: Case) -> None:
    me = case.cluster.join(labels={"zone": "a"}, address="10.0.0.1:8000", ttl=case.timing["ttl"])
    view = case.cluster.nodes()
    [node] = view.nodes
    assert (node.id, view.me, view.stale) == (me, me, False)
    assert (node.service, node.address, node.labels) == ("p8fs", "10.0.0.1:8000", {"zone": "a"})
    assert node.beat >= node.started
    assert node.incarnation > 0
    with pytest.raises(CoordinationError, match="joined already"):
        case.cluster.join()


def test_views_are_numbered_and_agreed_upon(sql_case: Case) -> None:
    case = sql_case
    clusters = [case.other() for _ in range(3)]
    numbers = [clusters[0].nodes().number]
    for cluster in clusters:
        cluster.join(ttl=case.timing["ttl"])
        views = [each.nodes() for each in clusters]
        assert len({(view.number, tuple(node.id for node in view)) for view in views}) == 1
        numbers.append(views[0].number)
    assert numbers == sorted(set(numbers))
    assert [each.nodes().number for each in clusters] == [numbers[-1]] * 3, "nothing has changed"


def test_who_has_left_is_no_node_any_more(case: Case) -> None:
    first = case.cluster.join(ttl=case.timing["ttl"])
    case.cluster.leave()
    assert len(case.cluster.nodes()) == 0
    assert case.cluster.join(ttl=case.timing["ttl"]) != first, "whoever comes again is another"


def test_leaving_and_the_end_of_a_container_are_seen_at_once(sql_case: Case) -> None:
    case = sql_case
    other = Container(config=case.settings)
    gone = case.twin(other).join(ttl=15)
    before = case.cluster.nodes()
    assert gone in {node.id for node in before}
    changes = case.cluster.watch(before, interval=0.05)
    other.close()
    change = next(iter(changes))
    assert (change.kind, change.node.id) == ("left", gone)
    assert change.view.number > before.number


@only("sql_case", "postgresql", "mariadb", "async postgresql", "async mariadb")  # 15 s on TiDB
def test_a_killed_process_is_lost(sql_case: Case, tmp_path: Path) -> None:
    code = f"""
import time
from p8fs_cluster import Container
with Container(config={sql_case.settings!r}) as container:
    print(container.cluster().join(ttl=1), flush=True)
    time.sleep(600)
"""
    sql_case.cluster.join(ttl=1)
    with running(tmp_path / "log", "-c", code) as process:
        process.until(lambda: process.output.count("-") >= 4, "it has joined")
        gone = process.output.strip()
        view = sql_case.cluster.nodes()
        assert gone in {node.id for node in view}
        changes = iter(sql_case.cluster.watch(view, interval=0.05))
        process.end(signal.SIGKILL)
        change = next(changes)
    assert (change.kind, change.node.id) == ("lost", gone)


def test_an_outage_makes_nobody_lost(moved_case: Case) -> None:
    """Three ttls without an answer; then all beat again, one after the other."""
    case = moved_case
    assert case.clock is not None
    me = case.cluster.join(ttl=15)
    coordinator = case.container.coordination().coordinator()
    store = coordinator.connected("calls").store
    _add_node(case, "other", now=case.clock.now())
    view = case.cluster.nodes()
    assert {node.id for node in view} == {me, "other"}
    with Outage(store):
        for _ in range(45):
            case.clock.move(1)
        until(lambda: case.cluster.nodes().stale, "it is stale")
        assert case.cluster.nodes().number == view.number
    healed = case.cluster.nodes()
    assert {node.id for node in healed} == {me, "other"}
    assert healed.number == view.number
    assert healed.stale, "nobody has beaten yet"
    until(lambda: _beats(case, me), "this process beats again")
    after = case.cluster.nodes()
    assert {node.id for node in after} == {me, "other"}, "one ttl of grace"
    case.clock.move(5)
    _add_node(case, "other", now=case.clock.now())
    for _ in range(15):
        case.clock.move(1)
        until(lambda: _beats(case, me), "it beats")
        assert {node.id for node in case.cluster.nodes()} >= {me}
    until(lambda: "other" not in _pass(case, me), "whoever is really gone, is lost in the end")


def _pass(case: Case, me: str) -> set[str]:
    assert case.clock is not None
    case.clock.move(1)
    until(lambda: _beats(case, me), "it beats")
    return {node.id for node in case.cluster.nodes()}


def _beats(case: Case, me: str) -> bool:
    assert case.clock is not None
    case.clock.move(0.01)
    [(expires,)] = case.sql_of("SELECT expires_at FROM p8fs_leases WHERE name = %s", (f"node:{me}",))
    return bool(expires / 1e6 > case.clock.now() + 10)


def _add_node(case: Case, id_: str, now: float) -> None:
    micro = round(now * 1e6)
    case.sql_of("DELETE FROM p8fs_leases WHERE name = %s", (f"node:{id_}",))
    case.sql_of(
        "INSERT INTO p8fs_leases (name, holder, fence, expires_at, ttl, acquired_at, healed_at, owner, resign, "
        "waiting_until) VALUES (%s, 'somebody', 1, %s, 15000000, %s, %s, '{}', 0, 0)",
        (f"node:{id_}", micro + 15_000_000, micro, micro),
    )


class Outage:
    """Every statement fails, as it does when the server can't be reached."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __enter__(self) -> None:
        def fail(*args: Any, **kwargs: Any) -> Any:
            from p8fs_cluster.exceptions import StorageUnavailable

            raise StorageUnavailable("down")

        for name in ("execute", "update", "transact"):
            setattr(self._store, name, fail)

    def __exit__(self, *exc_info: object) -> None:
        for name in ("execute", "update", "transact"):
            delattr(self._store, name)


def test_without_a_view_an_outage_is_an_error(moved_case: Case) -> None:
    with moved_case.cluster.lock("tables", ttl=15):
        """The tables are there."""
    with (
        Outage(moved_case.container.coordination().coordinator().connected("calls").store),
        pytest.raises(StorageError),
    ):
        moved_case.cluster.nodes()


ROWS = st.builds(
    Row,
    id=st.sampled_from("abcdef"),
    holder=st.sampled_from([None, "holder"]),
    incarnation=st.just(1),
    expires_at=st.integers(0, 100),
    ttl=st.just(15),
    started_at=st.integers(0, 60),
    healed_at=st.integers(0, 60),
    about=st.just("{}"),
)


@given(st.lists(ROWS, unique_by=lambda row: row.id), st.sets(st.sampled_from("abcdef")), st.booleans())
def test_nobody_is_lost_without_a_witness(rows: list[Row], old: set[str], reader: bool) -> None:
    now = 60
    members, stale = next_members(sorted(old), rows, now, reader)
    live = {row.id for row in rows if row.is_live(now)}
    left = {row.id for row in rows if row.holder is None}
    assert live <= set(members)
    assert members == sorted(set(members))
    if not (reader or any(row.is_witness(now) for row in rows)):
        assert old - left <= set(members)
    else:
        assert set(members) == live
        assert not stale


def _view(ids: Any) -> View:
    import datetime

    epoch = datetime.datetime.fromtimestamp(0, datetime.UTC)
    return View(1, tuple(Node(id_, 1, "p8fs", "", "", "", {}, epoch, epoch) for id_ in ids))


@given(st.sets(st.uuids().map(str), min_size=2, max_size=8))
def test_only_the_keys_of_who_goes_move(ids: set[str]) -> None:
    keys = [f"key {number}" for number in range(200)]
    before, gone = _view(sorted(ids)), min(ids)
    after = _view(sorted(ids - {gone}))
    for key in keys:
        owner = before.owner_of(key).id
        assert after.owner_of(key).id == owner or owner == gone


def test_shards_are_even_and_cover_all_keys() -> None:
    ids = [f"00000000-0000-4000-8000-{number:012}" for number in range(10)]
    view = _view(ids)
    keys = [f"key {number}" for number in range(10_000)]
    shares = [len(View(1, view.nodes, me=id_).shard(keys)) for id_ in ids]
    assert sum(shares) == 10_000
    assert min(shares) > 800


def test_shard_wants_a_node_that_has_joined(case: Case) -> None:
    with pytest.raises(CoordinationError, match=r"cluster\.join\(\)"):
        case.cluster.shard(["a"])
    case.cluster.join(ttl=case.timing["ttl"])
    assert case.cluster.shard(["a", "b"]) == ["a", "b"]
    assert case.cluster.shard([b"a"]) == [b"a"]


@pytest.mark.parametrize("labels", [{"zone": 1}, {1: "a"}, {"zone": None}, {"zone": "x" * 5000}])
def test_labels_that_no_node_can_have_are_refused(moved_case: Case, labels: Any) -> None:
    with pytest.raises(CoordinationError):
        moved_case.cluster.join(labels=labels)
    assert moved_case.cluster.join(labels={"zone": "a"})


def test_watching_ends_with_its_container(case: Case) -> None:
    seen: list[Any] = []
    started = threading.Event()

    def watch() -> None:
        changes = case.cluster.watch(case.cluster.nodes(), interval=0.05)
        started.set()
        seen.extend(itertools.islice(changes, 100))

    thread = threading.Thread(target=watch)
    thread.start()
    assert started.wait(60)
    case.cluster.join(ttl=case.timing["ttl"])

    case.close()
    thread.join(60)
    assert not thread.is_alive()


def test_a_forked_child_is_no_node(postgresql_server: Any) -> None:
    from tests.processes import forked

    with Container(config={**postgresql_server.settings, "cluster_create": True}) as container:
        me = container.cluster().join()

        def child() -> tuple[Any, list[str]]:
            view = container.cluster().nodes()
            return view.me, [node.id for node in view]

        own, ids = forked(child)
        assert own is None
        assert me in ids
        assert os.getpid() > 0
