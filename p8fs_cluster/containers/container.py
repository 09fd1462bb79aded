"""The container: dependency-injector's, over the settings, with an end that closes what was opened."""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from dependency_injector import containers, providers

from p8fs_cluster.config.section import Section
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.config.watching import Watch
from p8fs_cluster.coordination import make_async_cluster, make_cluster, make_coordinators
from p8fs_cluster.di import context
from p8fs_cluster.di.adopting import adopted, following, sharing
from p8fs_cluster.di.layers import Layer, ending, put_in_force
from p8fs_cluster.di.overriding import Override, replacements
from p8fs_cluster.di.ownership import brought, owned
from p8fs_cluster.di.ownership import containers as known
from p8fs_cluster.di.providers import Callable, Resource, Singleton
from p8fs_cluster.di.scope_order import ORDER, Kind, Order, kind_of
from p8fs_cluster.di.scopes import Scope
from p8fs_cluster.di.settings import SettingsProvider
from p8fs_cluster.di.teardown import Closable, Lasting, Step, close, close_async, close_begun
from p8fs_cluster.exceptions import CloseError
from p8fs_cluster.forking import Stage, after_fork
from p8fs_cluster.kv import make_async_kv, make_kv
from p8fs_cluster.logging.loggers import FieldLogger
from p8fs_cluster.providers.api import ApiSettings
from p8fs_cluster.providers.logger import Loggers
from p8fs_cluster.providers.sql import SqlEngines
from p8fs_cluster.providers.storage.async_handle import AsyncStorage
from p8fs_cluster.providers.storage.handle import Storage

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from p8fs_cluster.coordination import AsyncCluster, Cluster, Coordinators
    from p8fs_cluster.kv import KV, AsyncKV

__all__ = ["Container"]

S = TypeVar("S", bound=Section)

log = logging.getLogger(__name__)


class _Lifecycle:
    """Entering makes a container the active one; the outermost exit closes what was opened, in reverse order."""

    providers: dict[str, Any]
    parent_name: Any
    _entered: int
    _cache: context.Cache
    _entering: Any
    _scope_kinds: dict[str, Kind]

    def __enter__(self) -> Self:
        with self._entering:
            self._entered += 1
            for handle in self._handles():
                handle.reopen()
        context.enter(self)
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
        try:
            close(self._steps())
        finally:
            self._shut()

    async def aclose(self) -> None:
        """Do as `close` does, and await the end of asynchronous resources.

        :raises CloseError: some steps failed; every other one was done.
        """
        try:
            await close_async(self._steps())
        finally:
            self._shut()

    def shutdown_resources(self) -> Any:
        """Close what `close` closes. In a running event loop, return a task to await if something is asynchronous.

        :raises CloseError: some steps failed; every other one was done.
        """
        return close_begun(self._steps(), self._shut)

    def override_providers(self, *, isolated: bool = False, **overriding: Any) -> Override[Self]:
        """Put values or providers in place of the container's own, all at once: one override, in `with` or until reset.

        What depends on them follows, built before or not, and the very same old objects are back when it has ended.
        `config` takes a mapping of settings. `isolated`: only this task or thread sees it, and what it awaits.

        :raises InjectionError: there is no such provider.
        :raises ConfigurationError: the settings would not be valid; nothing is changed then.

        >>> from p8fs_cluster.testing import memory_storage
        >>> with Container().override_providers(storage=memory_storage(), config={"api_port": 9000}) as container:
        ...     container.storage().provider, container.api().port
        ('memory', 9000)
        """
        return Override(put_in_force(Layer(replacements(self, overriding), isolated)), lambda: self)

    def section(self, cls: type[S]) -> S:
        """Return a module's own settings, as they are in force here; on the class, what `Provide[...]` takes for them.

        :raises ConfigurationError: the settings can't be used.

        >>> from p8fs_cluster import Section
        >>> class FeedSettings(Section, prefix="feed_"):
        ...     url: str = "http://localhost"
        >>> Container(config={"feed_url": "http://feeds"}).section(FeedSettings).url
        'http://feeds'
        """
        settings: P8FSConfig = self.providers["config"]()
        return settings.section(cls)

    def scope(self, name: str, values: Mapping[Any, Any] | None = None) -> Scope:
        """Return a scope, to be opened by `with` or `async with`: what is `Scoped` in it is closed at its end.

        Inside, this container is the active one. `values` are what `Scoped.given(...)` declares, by type or by name.
        Frameworks open one for every request, task, job and command. Scopes nest as `scope_order` says.

        :raises InjectionError: there is no such scope, it can't be opened here, or a value is not declared.

        >>> with Container().scope("request"):
        ...     pass
        """
        return Scope(self, self._scope_kinds.get(name) or self._scope_kind(name), values)

    def _scope_kind(self, name: str) -> Kind:
        order: Order = getattr(self.declarative_parent, "scope_order", ORDER)  # type: ignore[attr-defined]
        found = self._scope_kinds[name] = kind_of(name, order)
        return found

    def watch(self) -> Watch:
        """Follow changed files from now on, as `P8FS_RELOAD` says, and SIGHUP, until the container is closed.

        :raises ConfigurationError: the settings can't be used.
        """
        watch: Watch = self.providers["config"].watch()
        return watch

    def reset_singletons(self) -> Any:
        """Forget what singletons hold, except for handles: those stay valid. In a `with` block, again at its end."""
        self._reset_singletons()
        return self._reset_at_the_end()

    @contextlib.contextmanager
    def _reset_at_the_end(self) -> Iterator[Self]:
        try:
            yield self
        finally:
            self._reset_singletons()

    def _reset_singletons(self) -> None:
        for provider in self._owned():
            if isinstance(provider, Singleton):
                if not _is_handle(provider):
                    provider.take()
            elif isinstance(provider, providers.BaseSingleton):
                provider.reset()

    def check(self, *, functions: Iterable[Any] = ()) -> None:
        """Raise if this container can't work; see `p8fs_cluster.containers.checking.check`. Nothing is built or opened.

        :raises InjectionError: with every problem at once.
        """
        from p8fs_cluster.containers.graph.checking import require

        require(self, functions=functions)

    def _left(self) -> bool:
        context.leave(self)
        with self._entering:
            self._entered -= 1
            return not self._entered

    def _steps(self) -> list[Step]:
        """Forget what was opened, except for handles, and return what closes it."""
        steps = [step for handle in self._handles() for step in handle.opened()]
        for provider in self._owned():
            if not _is_handle(provider):
                steps.extend(ending(provider))
        return steps

    def _shut(self) -> None:
        for handle in self._handles():
            handle.shut()
            close(handle.opened())  # what was being opened while the others were closed
        for provider in self._owned():
            if isinstance(provider, SettingsProvider):
                provider.unwatch()

    def _handles(self) -> Iterator[Closable]:
        for provider in self._owned():
            if isinstance(provider, Singleton):
                yield from (value for value in provider.values if isinstance(value, Closable))

    def _owned(self) -> list[Any]:
        """Return the container's providers, and those that came with an override of one of them."""
        own = owned(self.providers.values())
        return [*own, *brought(overriding for provider in own for overriding in provider.overridden)]


def _is_handle(provider: Any) -> bool:
    return isinstance(provider, Singleton) and any(isinstance(value, Lasting) for value in provider.values)


class _Instance(_Lifecycle, containers.DynamicContainer):  # type: ignore[misc]
    """The object that `Container()` returns."""

    def __init__(self) -> None:
        self._entered = 0
        self._cache = context.Cache()
        self._entering = threading.RLock()
        self._scope_kinds = {}
        super().__init__()
        known.add(self)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if isinstance(value, providers.Provider):
            self._cache.values = {}


if TYPE_CHECKING:

    class _Declarative:
        """dependency-injector's, without the `__getattr__` that would let a misspelt provider pass."""

        dependencies: dict[str, providers.Provider[Any]]
        cls_providers: ClassVar[dict[str, providers.Provider[Any]]]
        inherited_providers: ClassVar[dict[str, providers.Provider[Any]]]

        def __init__(self, **overriding: Any) -> None: ...
        def set_provider(self, name: str, provider: providers.Provider[Any]) -> None: ...
        def set_providers(self, **named: providers.Provider[Any]) -> None: ...
        def override(self, overriding: Any) -> None: ...
        def reset_last_overriding(self) -> None: ...
        def reset_override(self) -> None: ...
        def wire(self, modules: Iterable[Any] | None = None, packages: Iterable[Any] | None = None) -> None: ...
        def unwire(self) -> None: ...
        def init_resources(self) -> Any: ...
        def check_dependencies(self) -> None: ...
        def traverse(self, types: Iterable[type[Any]] | None = None) -> Iterator[providers.Provider[Any]]: ...
else:
    _Declarative = containers.DeclarativeContainer


class Container(_Lifecycle, _Declarative):
    """Settings in; storage, SQLAlchemy engine, loggers and API settings out. Making one reads and opens nothing.

    Subclass it for providers of your own, or take it in with `providers.Container(Container)`.

    >>> with Container(config={"storage_provider": "rocksdb", "rocksdb_path": "data/notes"}) as container:
    ...     container.storage().provider, container.api().port
    ('rocksdb', 8000)
    """

    instance_type = _Instance

    scope_order: ClassVar[Order] = ORDER
    """Chains of scopes, each from the longest to the shortest: add your own to `Container.scope_order`."""

    config = SettingsProvider()
    storage: Singleton[Storage] = Singleton(Storage, config.provider)
    async_storage: Singleton[AsyncStorage] = Singleton(AsyncStorage, config.provider, storage.provider)
    coordination: Singleton[Coordinators] = Singleton(make_coordinators, config.provider, storage.provider)
    cluster: Singleton[Cluster] = Singleton(make_cluster, coordination)
    async_cluster: Singleton[AsyncCluster] = Singleton(make_async_cluster, coordination)
    kv: Singleton[KV[bytes]] = Singleton(make_kv, config.provider, storage.provider)
    async_kv: Singleton[AsyncKV[bytes]] = Singleton(
        make_async_kv, config.provider, async_storage.provider, storage.provider
    )
    api: Singleton[ApiSettings] = Singleton(ApiSettings, config.provider)
    loggers: Singleton[Loggers] = Singleton(Loggers, config.provider)
    logger: Callable[FieldLogger] = Callable(Loggers.get, loggers)
    sql: Singleton[SqlEngines] = Singleton(SqlEngines, storage)
    engine: Callable[Engine] = Callable(SqlEngines.current, sql)
    session: Callable[Session] = Callable(SqlEngines.session, sql)

    def __new__(cls, *args: Any, **overriding: Any) -> Self:
        made: Any = super().__new__(cls, *args, **overriding)
        bases: list[Any] = [base for base in cls.__mro__[1:] if issubclass(base, Container) and base is not Container]
        selves: Any = providers.traverse(*made.providers.values(), types=[providers.Self]) if bases else ()
        for itself in selves:
            if itself() in bases:  # as dependency-injector gives it, a class in place of what was made of it
                itself.set_container(made)
        if cls is not Container:
            from p8fs_cluster.containers.graph.filling import fill

            fill(made)
        return made  # type: ignore[no-any-return]

    @classmethod
    def section(cls, section: type[S]) -> S:
        found: Any = cls.config.provided.section.call(section)
        return found  # type: ignore[no-any-return]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.scope_order = tuple(map(tuple, cls.scope_order))
        bases = cls.__mro__[1:]
        inherited = [provider for base in bases for provider in getattr(base, "providers", {}).values()]
        for name, provider in adopted(cls.cls_providers, inherited).items():
            setattr(cls, name, provider)
        for base in bases:  # of several bases dependency-injector takes the last one's, and Python the first one's
            for name in getattr(base, "cls_providers", ()):
                if cls.providers[name] is not (provider := getattr(cls, name)):
                    setattr(cls, name, provider)
        for name, provider in following(cls).items():
            setattr(cls, name, provider)
        for name, provider in sharing(cls, Container).items():
            setattr(cls, name, provider)


@atexit.register
def _close_all() -> None:
    for container in tuple(known):
        try:
            container.close()
        except CloseError:
            log.exception("closing at exit")


def _after_fork() -> None:
    """Leave the parent's resources alone, and build anew what is built from one."""
    for container in tuple(known):
        container._entering = threading.RLock()
        own = owned(container.providers.values())
        resources = {provider for provider in own if isinstance(provider, providers.BaseResource)}
        for provider in own:
            if isinstance(provider, Resource) or (
                isinstance(provider, Singleton) and resources & owned([provider]).keys()
            ):
                provider.forget_parent()
            elif isinstance(provider, Singleton):
                provider.forget_unfinished()
    context.changed()


after_fork(Stage.CONTAINERS, _after_fork)
