"""The container: dependency-injector's, over the settings, with an end that closes what was opened."""

from __future__ import annotations

import atexit
import inspect
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from dependency_injector import containers, providers

from p8fs_cluster.containers import scope
from p8fs_cluster.containers.building import Singleton, adopted, owned
from p8fs_cluster.exceptions import CloseError
from p8fs_cluster.providers.api import ApiSettings
from p8fs_cluster.providers.logger import Loggers
from p8fs_cluster.providers.settings import SettingsProvider
from p8fs_cluster.providers.sql import SqlEngines
from p8fs_cluster.providers.storage import Storage

__all__ = ["Container"]

log = logging.getLogger(__name__)

_HANDLES = (Storage, Loggers, ApiSettings, SqlEngines)
"""What stays valid when its container is closed and entered again."""

Step = tuple[int, str, Callable[[], Any]]


class _Lifecycle:
    """Entering makes a container the active one; the outermost exit closes what was opened, in reverse order."""

    providers: dict[str, providers.Provider[Any]]
    entered: int
    injections: dict[Any, Any]
    _entering: Any

    def __enter__(self) -> Self:
        with self._entering:
            self.entered += 1
            for storage in self._storages():
                storage.reopen()
        scope.enter(self)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._entering:  # who enters meanwhile waits, and finds it open
            if self._left():
                self.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._left():
            await self.aclose()

    def close(self) -> None:
        """Close all that was opened, in the reverse order of opening. Handles refuse until the container is entered.

        :raises CloseError: some steps failed; every other one was done.
        """
        errors: list[tuple[str, BaseException]] = []
        for _, name, step in self._steps():
            try:
                if inspect.isawaitable(pending := step()):
                    _dispose(pending)
                    raise RuntimeError("an asynchronous resource: use `async with container` or `await aclose()`")
            except BaseException as exc:
                errors.append((name, exc))
        self._finish(errors)

    async def aclose(self) -> None:
        """Do as `close` does, and await the end of asynchronous resources.

        :raises CloseError: some steps failed; every other one was done.
        """
        errors: list[tuple[str, BaseException]] = []
        for _, name, step in self._steps():
            try:
                if inspect.isawaitable(pending := step()):
                    await pending
            except BaseException as exc:
                errors.append((name, exc))
        self._finish(errors)

    def _left(self) -> bool:
        scope.leave(self)
        with self._entering:
            self.entered -= 1
            return not self.entered

    def _steps(self) -> list[Step]:
        steps: list[Step] = []
        for storage in self._storages():
            steps.extend(storage.opened())
        for provider in owned(self.providers.values()):
            if isinstance(provider, providers.BaseResource) and provider.initialized:
                name = f"resource ({getattr(provider.provides, '__name__', provider.provides)})"
                steps.append((getattr(provider, "opened_at", 0), name, provider.shutdown))
        return sorted(steps, key=lambda step: step[0], reverse=True)

    def _finish(self, errors: list[tuple[str, BaseException]]) -> None:
        for storage in self._storages():
            storage.shut()
        for provider in self._built():
            if not isinstance(provider.instance, _HANDLES):
                provider.reset()
        for _, exc in errors:
            if not isinstance(exc, Exception):
                raise exc
        if errors:
            raise CloseError(tuple(errors))

    def _storages(self) -> Iterator[Storage]:
        for provider in self._built():
            if isinstance(instance := provider.instance, Storage):
                yield instance

    def _built(self) -> list[Singleton[Any]]:
        return [p for p in owned(self.providers.values()) if isinstance(p, Singleton) and p.built]


class _Instance(_Lifecycle, containers.DynamicContainer):
    """What `Container()` returns."""

    def __init__(self) -> None:
        self.entered = 0
        self.injections = {}
        self._entering = threading.RLock()
        super().__init__()
        _instances.add(self)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, providers.Provider):
            self.injections.clear()
        super().__setattr__(name, value)


class Container(_Lifecycle, containers.DeclarativeContainer):
    """Settings in; storage, SQLAlchemy engine, loggers and API settings out. Making one reads and opens nothing.

    Subclass it for providers of your own, or take it in with `providers.Container(Container)`.

    >>> with Container(config={"storage_provider": "rocksdb", "rocksdb_path": "data/notes"}) as container:
    ...     container.storage().provider, container.api().port
    ('rocksdb', 8000)
    """

    instance_type = _Instance

    config = SettingsProvider()
    storage: providers.Provider[Storage] = Singleton(Storage, config.provider)
    api: providers.Provider[ApiSettings] = Singleton(ApiSettings, config.provider)
    loggers: providers.Provider[Loggers] = Singleton(Loggers, config.provider)
    logger: providers.Provider[logging.Logger] = providers.Callable(Loggers.get, loggers)
    sql: providers.Provider[SqlEngines] = Singleton(SqlEngines, storage)
    engine = providers.Callable(SqlEngines.current, sql)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, provider in adopted(cls.cls_providers, cls.inherited_providers.values()).items():
            setattr(cls, name, provider)


_instances: weakref.WeakSet[_Instance] = weakref.WeakSet()


def _dispose(pending: Any) -> None:
    close = getattr(pending, "close", None)
    if close:
        close()


@atexit.register
def _close_all() -> None:
    for container in tuple(_instances):
        try:
            container.close()
        except CloseError:
            log.exception("closing at exit")
