"""The live view of the settings: it follows, is never torn, and can't be written to."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

import pytest

from p8fs_cluster.config.live import LiveConfig
from p8fs_cluster.config.settings import P8FSConfig, config
from p8fs_cluster.config.store import Once, SettingsStore
from p8fs_cluster.exceptions import ConfigurationError


def test_it_loads_once_at_the_first_read_and_follows() -> None:
    loads: list[P8FSConfig] = []

    def load() -> P8FSConfig:
        loads.append(P8FSConfig(pg_host=f"load{len(loads)}"))
        return loads[-1]

    view = LiveConfig(load)
    assert not loads
    assert (view.pg_host, view.pg_port, view.current) == ("load0", 5438, loads[0])
    view.follow(lambda: P8FSConfig(pg_host="other", pg_password="p@ss"))
    assert view.pg_connection_string == "postgresql://postgres:p%40ss@other:5438/app"
    assert view.current.pg_host == "other"
    view.follow(lambda: None)
    assert view.pg_host == "load0"
    assert len(loads) == 1


def test_a_load_that_a_change_overtook_is_not_shown() -> None:
    """A reader has the base; before it shows it, a reload puts another one in force."""
    hosts = iter(["old", "new"])

    class Overtaken(SettingsStore):
        def __call__(self) -> P8FSConfig:
            first = not self.loaded
            snapshot = super().__call__()
            if first:
                self.reload()
                view.follow(lambda: None)
            return snapshot

    view = LiveConfig(P8FSConfig)
    object.__setattr__(view, "_store", Overtaken(lambda: P8FSConfig(pg_host=next(hosts))))
    assert view.pg_host == "new"


def test_methods_of_the_model_and_unknown_names() -> None:
    view = LiveConfig(P8FSConfig)
    assert view.origin("pg_host") == "the default"
    assert view.model_dump()["pg_port"] == 5438
    assert "pg_host" in dir(view)
    with pytest.raises(AttributeError):
        view.pg_hots  # type: ignore[attr-defined]  # noqa: B018


def test_it_can_not_be_written_to_and_shows_no_secret() -> None:
    view = LiveConfig(lambda: P8FSConfig(pg_password="hunter2"))
    with pytest.raises(AttributeError, match="frozen"):
        view.pg_host = "x"
    with pytest.raises(AttributeError, match="frozen"):
        del view.pg_host
    assert view.pg_password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(view)


def test_the_view_of_the_process_pickles_as_itself() -> None:
    assert pickle.loads(pickle.dumps(config)) is config  # noqa: S301


def test_reads_are_never_torn() -> None:
    view = LiveConfig(lambda: P8FSConfig(pg_host="h0", pg_database="h0"))
    snapshots = [P8FSConfig(pg_host=f"h{n}", pg_database=f"h{n}") for n in range(2)]
    torn: list[str] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            current = view.current
            if current.pg_host != current.pg_database or current.pg_host not in view.pg_connection_string + "h0h1":
                torn.append(current.pg_host)
            dsn = view.pg_connection_string
            if dsn not in (snapshots[0].pg_connection_string, snapshots[1].pg_connection_string):
                torn.append(dsn)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in range(2_000):
        view.follow(partial(snapshots.__getitem__, n % 2))
    stop.set()
    for thread in threads:
        thread.join()
    assert torn == []


def test_once_is_once_under_threads() -> None:
    started = threading.Barrier(32)
    loads: list[int] = []
    base = Once(lambda: loads.append(1) or object())
    seen: list[object] = []

    def read() -> None:
        started.wait()
        seen.append(base())

    threads = [threading.Thread(target=read) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert len(set(map(id, seen))) == 1


def test_the_last_good_base_stays() -> None:
    results: Iterator[Any] = iter([P8FSConfig(), ConfigurationError("bad"), P8FSConfig(pg_host="new")])

    def load() -> P8FSConfig:
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    base = SettingsStore(load)
    assert base.loaded == ()
    first = base()
    with pytest.raises(ConfigurationError, match="bad"):
        base.reload()
    assert (base(), str(base.fault)) == (first, "bad")
    assert (base.reload().pg_host, base().pg_host, base.fault) == ("new", "new", None)


def test_a_follower_that_fails_takes_the_reload_back() -> None:
    class Following:
        hosts: ClassVar[list[str]] = []

        def changed(self) -> None:
            self.hosts.append(base().pg_host)
            if base().pg_host == "bad":
                raise OSError("can't follow")

    hosts = iter(["good", "bad"])
    base, following = SettingsStore(lambda: P8FSConfig(pg_host=next(hosts))), Following()
    base()
    base.follow(following.changed)
    with pytest.raises(OSError, match="can't follow"):
        base.reload()
    assert following.hosts == ["bad", "good"]
    assert base().pg_host == "good"
    assert isinstance(base.fault, OSError)
