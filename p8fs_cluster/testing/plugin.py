"""The pytest plugin: a container of the test's own, settings in one line, scopes, captured logs; what leaks fails."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from p8fs_cluster import Container

__all__ = ["CapturedLogs", "capture_logs", "container", "container_class", "open_scope", "override_settings"]

SETTINGS = "settings(**changes): settings for the fixtures `container` and `override_settings` of p8fs_cluster"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", SETTINGS)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Make the ini setting known."""
    parser.addini("p8fs_container", "module:Container, the container of the fixture `container`", default="")


@pytest.fixture(scope="session")
def container_class(pytestconfig: pytest.Config) -> Callable[..., Container]:
    """Return the class of the fixture `container`: `p8fs_container` names it, or your own fixture returns it."""
    place = pytestconfig.getini("p8fs_container")
    if not place:
        from p8fs_cluster import Container

        return Container
    try:
        made: Callable[..., Container] = pkgutil.resolve_name(place)
    except (ValueError, ImportError, AttributeError) as exc:
        raise pytest.UsageError(f"the ini setting p8fs_container={place} names no container class: {exc}") from exc
    return made


@pytest.fixture
def container(
    request: pytest.FixtureRequest,
    container_class: Callable[..., Container],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Container]:
    """A container of the test's own, entered: no environment, no `.env`, a RocksDB in the test's temporary directory.

    It is one of your class, if the ini setting `p8fs_container` names it or a fixture `container_class` returns it.
    `@pytest.mark.settings(storage_provider=..., api_port=...)` changes its settings. A connection that is still
    borrowed at the end, or an override that is still in force, fails the test.
    """
    from p8fs_cluster.config.problems import variable_of
    from p8fs_cluster.config.sources.source import unprefixed
    from p8fs_cluster.di import context
    from p8fs_cluster.di.layers import take_back
    from p8fs_cluster.di.teardown import close

    for name in [name for name in os.environ if unprefixed(name) is not None and name != "P8FS_PREFIX"]:
        monkeypatch.delenv(name)
    (tmp_path / "no.env").touch()
    monkeypatch.setenv(variable_of("env_file"), str(tmp_path / "no.env"))
    changes = {"storage_provider": "rocksdb", "rocksdb_path": tmp_path / "p8fs", **_marked(request)}
    with container_class(config=changes) as made:
        before, isolated = _overriding(made), context.here().isolated
        yield made
        leaks = _leaks(made, before)
        for layer in context.here().isolated:
            if layer not in isolated:
                leaks.append("an isolated override: use `with`, or end it")
                close(take_back(layer))
        made.reset_override()
    if leaks:
        pytest.fail("left behind: " + "; ".join(leaks), pytrace=False)


@pytest.fixture
def override_settings(container: Container) -> Iterator[Callable[..., Any]]:
    """Put settings of `container` in force until the end of the test: `override_settings(api_port=9000)`."""
    with contextlib.ExitStack() as stack:

        def put(**changes: Any) -> Any:
            return stack.enter_context(container.config.override(changes))

        yield put


@pytest.fixture
def open_scope(container: Container) -> Iterator[Callable[..., Any]]:
    """Open a scope of `container` until the end of the test: `open_scope("request", {Tenant: tenant})`."""
    with contextlib.ExitStack() as stack:

        def put(name: str = "request", values: Mapping[Any, Any] | None = None) -> Any:
            return stack.enter_context(container.scope(name, values))

        yield put


class CapturedLogs(logging.Handler):
    """The records of the test, oldest first."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.records.append(record)

    @property
    def messages(self) -> list[str]:
        """The messages, formatted with their arguments."""
        return [record.getMessage() for record in self.records]


@pytest.fixture
def capture_logs() -> Iterator[CapturedLogs]:
    """Return what is logged in the test; from the moment a container sets logging up, what its level lets through."""
    root, captured = logging.getLogger(), CapturedLogs()
    level = root.level
    root.addHandler(captured)
    root.setLevel(logging.NOTSET)
    try:
        yield captured
    finally:
        root.removeHandler(captured)
        root.setLevel(level)


def _marked(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return what the markers say; the nearest to the test has the last word."""
    return {
        name: value
        for mark in reversed(list(request.node.iter_markers("settings")))
        for name, value in mark.kwargs.items()
    }


def _overriding(container: Container) -> dict[str, tuple[Any, ...]]:
    return {name: provider.overridden for name, provider in container.providers.items()}


def _leaks(container: Container, before: dict[str, tuple[Any, ...]]) -> list[str]:
    leaks = [
        f"an override of {name!r}: use `with`, or reset it"
        for name, overriding in _overriding(container).items()
        if len(overriding) > len(before.get(name, ()))
    ]
    gc.collect()  # a checkout that only a dead cycle holds has ended
    borrowed = [] if container.storage.overridden else [container.storage().stats()["borrowed"]]
    if any(borrowed):
        leaks.append(f"{borrowed[0]} borrowed connection(s): use `with container.storage()`")
    return leaks
