"""Check that the settings are the newest, and use the log file and the storage once, each step with its time."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from p8fs_cluster.config.problems import variable_of
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.di.settings import SettingsProvider
from p8fs_cluster.exceptions import ClusterError, ConfigurationError, StorageError
from p8fs_cluster.kv.stores import Stores
from p8fs_cluster.logging.setup import check_log_file
from p8fs_cluster.providers.storage.handle import Storage

__all__ = ["Run", "Step", "run", "steps"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """One step of a check: its name, its duration in seconds, its result, and its fault if it had one."""

    name: str
    seconds: float
    detail: str = ""
    fault: ClusterError | None = None

    @property
    def ok(self) -> bool:
        """Return whether it worked."""
        return self.fault is None


Run = Callable[[str, Callable[[], str]], Step]
"""Runs a step of a name, as `run` does."""


def run(name: str, action: Callable[[], str]) -> Step:
    """Run one step; `action` returns its detail. Our own errors become the step's fault, others are raised.

    >>> run("think", lambda: "done").detail
    'done'
    """
    started = time.monotonic()
    try:
        detail = action()
    except ClusterError as exc:
        return Step(name, time.monotonic() - started, fault=exc)
    return Step(name, time.monotonic() - started, detail)


def steps(config: SettingsProvider, storage: Storage, run: Run = run) -> Iterator[Step]:
    """Tell if the last reload failed; open the log file, if there is one, and the storage; do one round trip to it.

    A round trip is a write, a read and a delete where there is no SQL, else a query, after which the version of the
    key-value store's table is asked for. `run` runs each step.

    :raises ConfigurationError: there are no settings to begin with.
    """
    settings, stale = config(), config.fault
    if stale is not None:
        yield run("load the settings again", lambda: _stale(stale))
    elif changed := settings.changed_files():
        log.warning("%s", changed)
        yield run("look for changed files", lambda: changed)
    if settings.log_file is not None:
        yield run("open the log file", lambda: check_log_file(settings))
    if files := [name for name, value in vars(settings).items() if "_ssl" in name and isinstance(value, Path)]:
        yield run("read the certificates", lambda: _readable(settings, files))
    opened = run("open the storage", lambda: _opened(storage))
    yield opened
    if opened.ok:
        yield run("one round trip", lambda: _queried(storage) if storage.sqlalchemy_url else _written(storage))
        if storage.spec.kv is not None:
            yield run("look for the key-value table", lambda: _found(config, storage))


def _stale(fault: Exception) -> NoReturn:
    told = fault if isinstance(fault, ClusterError) else type(fault).__name__  # others' words may hold a secret
    raise ConfigurationError(f"the last reload failed, and the last good settings stay in force: {told}") from fault


def _readable(settings: P8FSConfig, names: list[str]) -> str:
    """Look at files that are read only when a connection is made, or not even then: libpq does without some."""
    for name in names:
        path: Path = getattr(settings, name)
        if str(path) == "system":  # libpq's word for the system's own authorities
            continue
        try:
            path.read_bytes()
        except OSError as exc:
            told = f"{settings.describe(name)} names {path}, which can't be read: {exc.strerror}"
            raise ConfigurationError(told) from exc
    return ", ".join(names)


def _opened(storage: Storage) -> str:
    storage.open()
    return storage.provider


def _queried(storage: Storage) -> str:
    token = uuid.uuid4().hex
    rows = storage.execute("SELECT %s", (token,))
    if rows != [(token,)]:
        raise StorageError(f"{storage.provider} answered a query with something else than was asked for: {rows!r:.80}")
    return f"query; {storage.inspect()}"


def _found(config: SettingsProvider, storage: Storage) -> str:
    """Tell of the table, which those who don't use it need not have."""
    version = Stores(config, lambda: storage).version()
    if version:
        return f"version {version}"
    return f"none yet: `p8fs-cluster kv init` makes it, and first use does with {variable_of('kv_create')}=true"


def _written(storage: Storage) -> str:
    key, token = f"p8fs_cluster.check.{uuid.uuid4().hex}".encode(), uuid.uuid4().bytes
    with storage as database:
        database[key] = token
    with storage as database:
        found = database.get(key)
        database.delete(key)
    if found != token:
        raise StorageError(f"{storage.provider} did not give back what was written")
    return "write, read, delete"
