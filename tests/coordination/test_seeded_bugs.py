"""Bugs that others have had: each is seeded, and the checker finds it, in scenes that pass without it."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p8fs_cluster import Container, Storage
from p8fs_cluster.coordination.lock import Lock
from p8fs_cluster.coordination.terms import Timing
from p8fs_cluster.exceptions import LeaseLost, StorageError
from tests.chaos.bugs import SEEDED
from tests.chaos.events import Event
from tests.chaos.history import History, violations
from tests.chaos.lines import now
from tests.chaos.network import Network, network
from tests.processes import PATIENCE, running
from tests.servers import MYSQL, Server

WITH_SHORT_LEASES = ("postgresql", "mariadb")


class Actor:
    """One who wants the lock, behind a network of its own."""

    def __init__(self, name: str, lock: Lock, net: Network) -> None:
        self.name = name
        self.lock = lock
        self.network = net
        self.events: list[Event] = []

    def acquire(self, timeout: float = 0) -> bool:
        """Try to take the lock, and note the token."""
        granted = self.lock.acquire(timeout)
        if granted:
            self._note("acquired")
        return granted

    def tick(self) -> None:
        """Note what is believed."""
        if self.lock.held:
            self._note("tick")

    def _note(self, kind: str) -> None:
        before = now()
        with contextlib.suppress(LeaseLost):
            token = self.lock.token
            self.events.append(Event(self.name, kind, before, now(), "counter", token))


class Scene:
    """Three actors in one database."""

    def __init__(self, server: Server, ttl: float, open_until: contextlib.ExitStack) -> None:
        self.server = server
        self.key = str(uuid.uuid4())
        self._open = open_until
        self._timing = Timing(ttl, ttl * 2 / 3 if server.kind == "tidb" else ttl * 0.9, ttl / 2)
        self.storage: Storage = open_until.enter_context(Container(config=server.settings)).storage()
        self.a, self.b, self.c = map(self._actor, "abc")

    def look(self) -> None:
        """Let all tell what they believe, some times in turn."""
        for _ in range(3):
            for actor in (self.a, self.b, self.c):
                actor.tick()

    def broken(self) -> set[str]:
        """Return the rules that were broken."""
        return {each.rule for each in violations(History([*self.a.events, *self.b.events, *self.c.events]))}

    def change_row(self, values: str) -> None:
        """Change the row of the lease by hand."""
        self.storage.execute(f"UPDATE p8fs_leases SET {values} WHERE name = %s", (f"lock:{self.key}",))

    def _actor(self, name: str) -> Actor:
        port = "pg_port" if self.server.provider == "postgresql" else "tidb_port"
        net = self._open.enter_context(network(self.server.settings[port]))
        settings = {**self.server.settings, port: net.port, "cluster_create": True}
        container = self._open.enter_context(Container(config=settings))
        ttl, deadline, interval = dataclasses.astuple(self._timing)
        return Actor(name, container.cluster().lock(self.key, ttl, deadline=deadline, interval=interval), net)


def cut_off(scene: Scene) -> None:
    """A holder hears nothing of the database for longer than its lease lasts; another takes it."""
    scene.a.acquire()
    scene.a.network.silence()
    assert scene.b.acquire(PATIENCE)
    scene.look()


def one_after_the_other(scene: Scene) -> None:
    """Two hold it in turn."""
    for actor in (scene.a, scene.b):
        assert actor.acquire()
        scene.look()
        actor.lock.release()


def clock_of_a_client(scene: Scene) -> None:
    """The clock of one who asks is an hour ahead."""
    scene.a.acquire()
    with pytest.MonkeyPatch.context() as patch:
        ahead = time.time() + 3600
        patch.setattr(time, "time", lambda: ahead)
        scene.b.acquire()
        scene.look()


def released_too_late(scene: Scene) -> None:
    """A holder that was cut off releases what is another's by now."""
    cut_off(scene)
    scene.a.network.heal()
    with contextlib.suppress(LeaseLost):
        scene.a.lock.release()
    scene.c.acquire()
    scene.look()


def taken_away(scene: Scene) -> None:
    """Somebody frees the lease by hand, another takes it, and then its holder renews it."""
    scene.a.acquire()
    scene.change_row("holder = NULL, expires_at = 0")
    assert scene.b.acquire()
    with contextlib.suppress(LeaseLost):
        scene.a.lock.extend()
    scene.look()


def late_reply(scene: Scene) -> None:
    """The reply that grants it comes late, and none after that; another takes it when it ends."""
    one_after_the_other(scene)  # so that all have their connections
    scene.a.network.delay = 0.9
    assert scene.a.acquire(PATIENCE)
    scene.a.network.silence()
    assert scene.b.acquire(PATIENCE)
    scene.look()


def one_asks_beside_another(scene: Scene) -> None:
    """Two on one host want it at once."""
    scene.a.acquire()
    scene.b.acquire()
    scene.look()


def rolled_back(scene: Scene) -> None:
    """The transaction that grants it can't be committed."""
    one_after_the_other(scene)  # so that there is a row
    name = f"refuse_{scene.key.replace('-', '_')}"
    scene.storage.execute(f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql "
                          "AS 'BEGIN RAISE EXCEPTION ''no commit''; END'")  # fmt: skip
    scene.storage.execute(f"CREATE CONSTRAINT TRIGGER {name} AFTER UPDATE ON p8fs_leases DEFERRABLE INITIALLY DEFERRED "
                          f"FOR EACH ROW WHEN (NEW.name = 'lock:{scene.key}') EXECUTE FUNCTION {name}()")  # fmt: skip
    try:
        with contextlib.suppress(StorageError):
            scene.a.acquire()
    finally:
        scene.storage.execute(f"DROP FUNCTION {name}() CASCADE")
    assert scene.b.acquire()
    scene.look()


SCENES: dict[str, tuple[Callable[[Scene], None], str, tuple[str, ...], float]] = {
    "flag": (cut_off, "two believers", WITH_SHORT_LEASES, 2),
    "same_token": (one_after_the_other, "token granted twice", WITH_SHORT_LEASES, 2),
    "client_clock": (clock_of_a_client, "two believers", WITH_SHORT_LEASES, 2),
    "release_by_name": (released_too_late, "two believers", WITH_SHORT_LEASES, 2),
    "renew_by_name": (taken_away, "two believers", WITH_SHORT_LEASES, 2),
    "deadline_from_reply": (late_reply, "two believers", WITH_SHORT_LEASES, 4),
    "host_name": (one_asks_beside_another, "two believers", WITH_SHORT_LEASES, 2),
    "kept_after_rollback": (rolled_back, "two believers", ("postgresql",), 2),
    "affected_rows": (one_asks_beside_another, "two believers", MYSQL, 2),
}
"""Bug → the scene that shows it, the rule that it breaks, the servers, the seconds of the lease."""

CASES = [(bug, kind) for bug, (_, _, kinds, _) in SCENES.items() for kind in kinds]


@pytest.fixture
def scene(request: pytest.FixtureRequest, bug: str, kind: str) -> Iterator[Scene]:
    ttl = 15 if kind == "tidb" else SCENES[bug][3]
    with contextlib.ExitStack() as open_until:
        made = Scene(request.getfixturevalue(f"{kind}_server"), ttl, open_until)
        yield made
        for actor in (made.a, made.b, made.c):
            actor.network.heal()


@pytest.mark.parametrize(("bug", "kind"), CASES)
def test_a_scene_passes_without_its_bug(bug: str, kind: str, scene: Scene) -> None:
    SCENES[bug][0](scene)
    assert scene.broken() == set()
    assert [event for event in scene.b.events if event.kind == "tick"] or bug in ("client_clock", "host_name",
                                                                                 "affected_rows")  # fmt: skip


@pytest.mark.parametrize(("bug", "kind"), CASES)
def test_a_seeded_bug_is_found(bug: str, kind: str, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    act, rule, *_ = SCENES[bug]
    SEEDED[bug](monkeypatch.setattr)
    act(scene)
    assert rule in scene.broken()


def test_every_bug_has_a_scene() -> None:
    assert SCENES.keys() == SEEDED.keys()


@pytest.mark.parametrize(("bug", "faults"), [("flag", ("silence",)), ("client_clock", ("clock",))])
def test_the_chaos_run_finds_a_seeded_bug(bug: str, faults: tuple[str, ...], tmp_path: Path) -> None:
    chosen = ("--bug", bug, "--faults", *faults)
    arguments = ("--seconds", 10, "--seed", 1, "--server", "postgresql", "--logs", tmp_path)
    with running(tmp_path / "log", "-m", "tests.chaos", *chosen, *arguments) as program:
        assert program.wait() == 1, program.output
    assert "two believers" in program.output
