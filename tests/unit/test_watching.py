"""Changed files are followed: every way in which files change, one snapshot at a time, and the last good one stays."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import Container, Section
from p8fs_cluster.config import watching
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import ConfigurationError
from tests.processes import forked, until
from tests.unit.test_sources import mount


@pytest.fixture
def container() -> Iterator[Container]:
    """One that watches whatever the test has set up, from the first `watch()` on."""
    with Container() as opened:
        yield opened


def replace(path: Path, text: str) -> None:
    """Write as an editor does that keeps the old file until the new one is whole."""
    beside = path.with_name(path.name + "~")
    beside.write_text(text)
    beside.replace(path)


def host_is(container: Container, host: str) -> Callable[[], bool]:
    return lambda: container.config().pg_host == host


def env(host: str) -> str:
    return f"P8FS_PG_HOST={host}\nP8FS_PG_DATABASE={host}\n"


class TestFollowing:
    def test_replaced_rewritten_deleted_and_made_again(self, container: Container) -> None:
        path = Path(".env")
        container.watch()
        path.write_text(env("made"))
        until(host_is(container, "made"))
        replace(path, env("replaced"))
        until(host_is(container, "replaced"))
        path.write_text(env("rewritten"))
        until(host_is(container, "rewritten"))
        path.unlink()
        until(host_is(container, "localhost"))
        path.write_text(env("again"))
        until(host_is(container, "again"))

    @pytest.mark.parametrize("variable", ["P8FS_CONFIG_DIR", "P8FS_SECRETS_DIR"])
    def test_swaps_of_a_mounted_folder(
        self, variable: str, container: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "volumes" / "mounted"
        monkeypatch.setenv(variable, str(mount(folder, P8FS_PG_HOST="h0", P8FS_PG_DATABASE="h0")))
        container.watch()
        for n in range(1, 8):
            before = os.path.realpath(folder / "..data")
            mount(folder, P8FS_PG_HOST=f"h{n}", P8FS_PG_DATABASE=f"h{n}")
            shutil.rmtree(before)
            until(host_is(container, f"h{n}"))
            assert container.config().pg_database == f"h{n}"

    def test_a_folder_that_is_deleted_and_made_again(
        self, container: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "a" / "b"
        monkeypatch.setenv("P8FS_CONFIG_DIR", str(mount(folder, P8FS_PG_HOST="first")))
        container.watch()
        shutil.rmtree(tmp_path / "a")
        until(lambda: container.config.fault is not None)
        assert container.config().pg_host == "first"
        mount(folder, P8FS_PG_HOST="second")
        until(host_is(container, "second"))
        replace(folder / "P8FS_PG_HOST", "third")
        until(host_is(container, "third"))
        assert container.config.fault is None

    def test_a_file_behind_a_link(self, container: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "real").mkdir()
        target = tmp_path / "real" / "p8fs.toml"
        target.write_text("pg_host = 'first'")
        Path("p8fs.toml").symlink_to(target)
        monkeypatch.setenv("P8FS_CONFIG_FILE", "p8fs.toml")
        container.watch()
        replace(target, "pg_host = 'second'")
        until(host_is(container, "second"))
        other = tmp_path / "real" / "other.toml"
        other.write_text("pg_host = 'third'")
        Path("new").symlink_to(other)
        Path("new").replace("p8fs.toml")
        until(host_is(container, "third"))

    def test_many_writes_end_with_the_last(self, container: Container) -> None:
        container.watch()
        seen: list[tuple[str, str]] = []
        container.config.subscribe(lambda old, new, names: seen.append((new.pg_host, new.pg_database)))
        for n in range(100):
            replace(Path(".env"), env(f"h{n}"))
        until(host_is(container, "h99"))
        assert all(host == database for host, database in seen)

    def test_before_the_first_file_was_there(
        self, container: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "project" / "inner").mkdir(parents=True)
        (tmp_path / "project" / "pyproject.toml").touch()
        monkeypatch.chdir(tmp_path / "project" / "inner")
        container.watch()
        (tmp_path / "project" / ".env").write_text(env("above"))
        until(host_is(container, "above"))

    def test_where_folders_can_not_be_watched_they_are_looked_at(
        self, container: Container, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        from watchfiles import _rust_notify

        plain = _rust_notify.RustNotify

        def limited(folders: list[str], debug: bool, polling: bool, *others: Any) -> Any:
            if not polling:
                raise OSError("too many watches")
            return plain(folders, debug, polling, *others)

        monkeypatch.setattr(_rust_notify, "RustNotify", limited)
        container.watch()
        assert "too many watches" in caplog.text
        Path(".env").write_text(env("seen"))
        until(host_is(container, "seen"))


class TestWhoFollows:
    def test_storage_api_logging_sections_and_subscribers(self, container: Container) -> None:
        class Feed(Section, prefix="feed_"):
            url: str = "none"

        Path(".env").write_text("P8FS_STORAGE_PROVIDER=rocksdb\nP8FS_ROCKSDB_PATH=one\n")
        storage, api, log = container.storage(), container.api(), container.logger("p8fs_api")
        changes: list[tuple[str, str, set[str]]] = []
        container.config.subscribe(lambda old, new, names: changes.append((old.api_host, new.api_host, set(names))))
        with storage as database:
            database[b"k"] = b"one"
        container.watch()
        replace(
            Path(".env"),
            "P8FS_STORAGE_PROVIDER=rocksdb\nP8FS_ROCKSDB_PATH=two\nP8FS_API_HOST=0.0.0.0\nP8FS_LOG_LEVEL=DEBUG\n"
            "P8FS_FEED_URL=new\n",
        )
        until(lambda: len(changes) == 1)
        assert changes == [
            ("127.0.0.1", "0.0.0.0", {"rocksdb_path", "api_host", "log_level", "feed_url"}),
        ]
        with storage as database:
            assert database.get(b"k") is None
        assert (api.host, log.level, container.section(Feed).url) == ("0.0.0.0", logging.DEBUG, "new")

    def test_a_subscriber_that_fails_changes_nothing_for_others(
        self, container: Container, caplog: pytest.LogCaptureFixture
    ) -> None:
        heard: list[str] = []

        def broken(old: P8FSConfig, new: P8FSConfig, names: frozenset[str]) -> None:
            raise OSError("broken")

        container.config.subscribe(broken)
        end = container.config.subscribe(lambda old, new, names: heard.append(new.pg_host))
        with container.config.override({"pg_host": "db"}):
            pass
        end()
        end()
        with container.config.override({"pg_host": "unheard"}):
            pass
        assert heard == ["db", "localhost"]
        assert "a subscriber of the settings failed" in caplog.text


class TestInvalid:
    def test_the_last_good_one_stays_and_everybody_says_so(
        self, container: Container, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        Path(".env").write_text(env("good") + "P8FS_PG_PASSWORD=hunter1")
        container.watch()
        until(host_is(container, "good"))
        replace(Path(".env"), "P8FS_PG_PORT=abc\nP8FS_LOG_LEVEL=LOUD\nP8FS_PG_PASSWORD=hunter2\n")
        until(lambda: container.config.fault is not None)
        assert container.config().pg_host == "good"
        assert f"P8FS_PG_PORT (from {Path.cwd()}/.env, line 1)" in caplog.text
        assert f"P8FS_LOG_LEVEL (from {Path.cwd()}/.env, line 2)" in caplog.text
        assert caplog.text.count("can't be loaded again") == 1
        assert isinstance(container.config.fault, ConfigurationError)
        replace(Path(".env"), env("better"))
        until(host_is(container, "better"))
        assert container.config.fault is None
        assert "settings loaded again: P8FS_PG_DATABASE, P8FS_PG_HOST, P8FS_PG_PASSWORD changed" in caplog.text
        assert "hunter" not in caplog.text

    def test_an_explanation_says_that_it_is_stale(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from p8fs_cluster.config.live import LiveConfig

        view = LiveConfig(P8FSConfig)
        assert view.explain("pg_host").stale == ""
        monkeypatch.setenv("P8FS_PG_PORT", "abc")
        with pytest.raises(ConfigurationError):
            view.store.reload()
        assert "P8FS_PG_PORT (from the environment)" in view.explain("pg_host").stale
        assert "the last reload failed" in str(view.explain("pg_host"))
        json.dumps(view.explain("pg_host").as_dict())


@pytest.mark.parametrize(
    ("given", "running"),
    [
        ({}, True),
        ({"P8FS_ENVIRONMENT": "production"}, False),
        ({"P8FS_ENVIRONMENT": "production", "P8FS_RELOAD": "true"}, True),
        ({"P8FS_RELOAD": "false"}, False),
    ],
)
def test_who_watches(given: dict[str, str], running: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with Container() as container:
        with container.watch() as watch:
            assert watch.running is running
            assert container.watch() is watch
        assert not watch.running
        container.watch()
    assert not watch.running, "the end of the container ends it"


def test_the_live_view_is_watched_with_the_default_container() -> None:
    done = forked(_default_container)
    assert done == {"live": "seen", "container": "seen"}


def _default_container() -> dict[str, str]:
    from p8fs_cluster import container
    from p8fs_cluster.config.settings import config

    with config.watch():
        replace(Path(".env"), env("seen"))
        until(lambda: config.pg_host == "seen")
    return {"live": config.pg_host, "container": container.config().pg_host}


class TestSignal:
    def test_hang_up_reloads_where_files_are_not_watched(
        self, container: Container, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("P8FS_RELOAD", "false")
        before = signal.getsignal(signal.SIGHUP)
        with container.watch():
            monkeypatch.setenv("P8FS_PG_HOST", "new")
            os.kill(os.getpid(), signal.SIGHUP)
            until(host_is(container, "new"))
        assert signal.getsignal(signal.SIGHUP) == before

    def test_levels_of_loggers_follow(self, container: Container, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("P8FS_RELOAD", "false")
        container.logger("p8fs_api")
        with container.watch():
            monkeypatch.setenv("P8FS_LOG_LEVELS", "p8fs_node.sync=DEBUG,p8fs_api=ERROR")
            os.kill(os.getpid(), signal.SIGHUP)
            until(lambda: logging.getLogger("p8fs_node.sync").level == logging.DEBUG)
            assert logging.getLogger("p8fs_api").level == logging.ERROR

    def test_somebody_elses_handler_is_left_alone(self, container: Container) -> None:
        heard: list[int] = []
        before = signal.signal(signal.SIGHUP, lambda number, frame: heard.append(number))
        try:
            with container.watch():
                os.kill(os.getpid(), signal.SIGHUP)
                until(lambda: heard == [signal.SIGHUP])
        finally:
            signal.signal(signal.SIGHUP, before)


def test_a_forked_child_goes_on_watching(container: Container) -> None:
    Path(".env").write_text(env("parent"))
    container.watch()
    until(host_is(container, "parent"))

    def child() -> str:
        replace(Path(".env"), env("child"))
        until(host_is(container, "child"))
        return container.config().pg_host

    assert forked(child) == "child"
    until(host_is(container, "child"))


def test_a_missing_folder_is_waited_for_in_the_nearest_one_there_is(tmp_path: Path) -> None:
    folders = watching.folders_of([tmp_path / "a" / "b" / "c.toml", tmp_path / "d"])
    assert list(folders) == [str(tmp_path)]
