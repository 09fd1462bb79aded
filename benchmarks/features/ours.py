"""p8fs_cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from dependency_injector import providers

from benchmarks.features import judging, parts
from benchmarks.features.parts import (
    Counted,
    Egg,
    FakeRepo,
    Hen,
    Keeper,
    Lenient,
    Notes,
    OnePlugin,
    OtherPlugin,
    Plugin,
    Repo,
    Slow,
    Transaction,
)
from p8fs_cluster import (
    Closing,
    ConfigurationError,
    Container,
    Injected,
    InjectionError,
    Provide,
    Scoped,
    all_of,
    inject,
)
from p8fs_cluster.containers.graph.drawing import mermaid
from p8fs_cluster.containers.graph.model import read


class Application(Container):
    repo = providers.Singleton(Repo)
    notes = providers.Singleton(Notes)
    one_plugin = providers.Singleton(OnePlugin)
    other_plugin = providers.Singleton(OtherPlugin)
    nothing = providers.Singleton(parts.nothing)
    counted = providers.Singleton(Counted)
    slow = providers.Singleton(Slow)
    connection = providers.Resource(parts.connection)
    resource = providers.Resource(parts.transaction)


class InScopes(Container):
    transaction = Scoped(parts.transaction)
    second = Scoped(parts.second, transaction)
    counted = Scoped(Counted)
    opened = Scoped(parts.opened)


class WithoutRepo(Container):
    lenient = providers.Singleton(Lenient)


class Captive(Container):
    transaction = Scoped(Transaction)
    keeper = providers.Singleton(Keeper)


class Missing(Container):
    notes = providers.Singleton(Notes)


class Cycle(Container):
    egg = providers.Singleton(Egg)
    hen = providers.Singleton(Hen)


class WrongType(Container):
    keeper = providers.Singleton(Keeper, Transaction())
    notes = providers.Singleton(Notes, keeper)


def by_default() -> None:
    @inject
    def repo_of(repo: Repo = Provide[Application.repo]) -> Repo:
        return repo

    with Application() as application:
        assert repo_of() is application.repo()


def by_marker() -> None:
    @inject
    def repo_of(repo: Annotated[Repo, Provide[Application.repo]]) -> Repo:
        return repo

    with Application() as application:
        assert repo_of() is application.repo()  # type: ignore[call-arg]


def by_type() -> None:
    @inject
    def repo_of(repo: Injected[Repo]) -> Repo:
        return repo

    with Application() as application:
        assert repo_of() is application.repo()  # type: ignore[call-arg]


def arguments() -> None:
    application = Application()
    assert application.notes().repo is application.repo()


def all_of_a_type() -> None:
    @inject
    def all_plugins(plugins: list[Plugin] = Provide[all_of(Plugin)]) -> list[Plugin]:
        return plugins

    with Application() as application:
        assert all_plugins() == [application.one_plugin(), application.other_plugin()]


def optional() -> None:
    assert WithoutRepo().lenient().repo is None


generic = None
undeclared = None


def missing() -> None:
    judging.missing(Missing().check, InjectionError)


def cycle() -> None:
    judging.cycle(Cycle().check, InjectionError)


def wrong_type() -> None:
    judging.wrong_type(WrongType().check, InjectionError)


def captive() -> None:
    judging.refused(Captive().check, InjectionError, "The check passed.")


def unfilled() -> None:
    @inject
    def repo_of(repo: Injected[Repo]) -> None: ...

    judging.refused(lambda: WithoutRepo().check(functions=[repo_of]), InjectionError, "The check passed.")


def forgotten() -> None:
    def repo_of(repo: Repo = Provide[Application.repo]) -> None: ...

    judging.refused(lambda: Application().check(functions=[repo_of]), InjectionError, "The check passed.")


def once() -> None:
    judging.built_once(Application().counted)


def independent() -> None:
    application = Application()
    judging.independent(application.slow, application.repo)


def none_kept() -> None:
    judging.called_once(Application().nothing)


def reverse() -> None:
    application = InScopes()
    judging.reverse(lambda: application.scope("request"), lambda scope: application.second())


def told_of_failure() -> None:
    application = InScopes()
    judging.told_of_failure(lambda: application.scope("request"), lambda scope: application.transaction())


def shared() -> None:
    application = InScopes()
    with application.scope("request"):
        judging.built_once(application.counted)


def same_task() -> None:
    application = InScopes()
    ask: Any = application.opened  # type checkers take it for what is awaited
    judging.same_task(lambda: application.scope("request"), lambda scope: ask())


def per_call() -> None:
    @inject
    def call(use: Callable[[Transaction], None], given: Transaction = Closing[Provide[Application.resource]]) -> None:
        use(given)

    with Application():
        judging.per_call(call)


def replaced() -> None:
    application = Application()
    judging.replaced(application.repo, lambda: application.repo.override(FakeRepo()))


def override_followed() -> None:
    application = Application()
    judging.follows(application.notes, lambda: application.repo.override(FakeRepo()))


def override_alone() -> None:
    application = Application()
    judging.is_alone(application.repo, lambda: application.override_providers(repo=FakeRepo(), isolated=True))


def fork() -> None:
    with Application() as application:
        judging.own_after_fork(application.connection)


def picture() -> None:
    assert "notes" in mermaid(read(Application))


def settings() -> None:
    container = Container(config={"api_port": 8000})
    judging.refused(lambda: container.config.override({"api_port": 0}), ConfigurationError, "A port of 0 was accepted.")


def reload() -> None:
    changed = threading.Event()
    file = Path(".env")
    file.write_text("P8FS_RELOAD=true\nP8FS_API_PORT=8000\n", "utf-8")
    container = Container()
    container.config.subscribe(lambda old, new, names: changed.set())
    assert container.api().port == 8000
    with container.watch():
        file.write_text("P8FS_RELOAD=true\nP8FS_API_PORT=9000\n", "utf-8")
        assert changed.wait(30)
    assert container.api().port == 9000
