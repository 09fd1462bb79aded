"""wireup: a container is made of functions and classes, and checked, as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import wireup
from wireup import Injected, SyncContainer, inject_from_container, injectable
from wireup.errors import WireupError

from benchmarks.features import judging, parts
from benchmarks.features.parts import (
    Box,
    Connection,
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
    Second,
    Slow,
    Transaction,
)


def _of(*injectables: object) -> SyncContainer:
    return wireup.create_sync_container(injectables=list(injectables))


def _container() -> SyncContainer:
    scoped = [injectable(each, lifetime="scoped") for each in (parts.transaction, parts.second)]
    return _of(*map(injectable, (Repo, Notes, Slow, Counted, parts.connection)), *scoped)


def _nothing() -> Notes | None:
    parts.nothing()
    return None


by_default = None


def by_marker() -> None:
    container = _container()

    @inject_from_container(container)
    def repo_of(repo: Injected[Repo]) -> Repo:
        return repo

    assert repo_of() is container.get(Repo)


by_type = by_marker  # the marker is the type's


def arguments() -> None:
    container = _container()
    assert container.get(Notes).repo is container.get(Repo)


def all_of_a_type() -> None:
    one = injectable(OnePlugin, as_type=Plugin, qualifier="one")
    container = _of(one, injectable(OtherPlugin, as_type=Plugin, qualifier="other"))

    @inject_from_container(container)
    def all_plugins(plugins: Injected[Sequence[Plugin]]) -> Sequence[Plugin]:
        return plugins

    assert [type(plugin) for plugin in all_plugins()] == [OnePlugin, OtherPlugin]


def optional() -> None:
    assert _of(injectable(Lenient)).get(Lenient).repo is None


generic = None
undeclared = None


def missing() -> None:
    judging.missing(lambda: _of(injectable(Notes)), WireupError)


def cycle() -> None:
    judging.cycle(lambda: _of(injectable(Egg), injectable(Hen)), WireupError)


def wrong_type() -> None:
    judging.wrong_type(lambda: _of(injectable(Box, as_type=Repo), injectable(Notes)), WireupError)


def captive() -> None:
    ending = injectable(Transaction, lifetime="scoped")
    judging.refused(lambda: _of(injectable(Keeper), ending), WireupError, "The check passed.")


def unfilled() -> None:
    container = _of(injectable(Box))

    def repo_of(repo: Injected[Repo]) -> None: ...

    judging.refused(lambda: inject_from_container(container)(repo_of), WireupError, "Nothing was said before the call.")


forgotten = None


def once() -> None:
    container = _container()
    judging.built_once(lambda: container.get(Counted))


def independent() -> None:
    container = _container()
    judging.independent(lambda: container.get(Slow), lambda: container.get(Repo))


def none_kept() -> None:
    container = _of(injectable(_nothing))

    @inject_from_container(container)
    def notes_of(notes: Injected[Notes | None]) -> Notes | None:
        return notes

    judging.called_once(notes_of)


def reverse() -> None:
    judging.reverse(_container().enter_scope, lambda scope: scope.get(Second))


def told_of_failure() -> None:
    judging.told_of_failure(_container().enter_scope, lambda scope: scope.get(Transaction))


def shared() -> None:
    counted = injectable(Counted, lifetime="scoped")
    container = wireup.create_sync_container(injectables=[counted], concurrent_scoped_access=True)
    with container.enter_scope() as scope:
        judging.built_once(lambda: scope.get(Counted))


def same_task() -> None:
    container = wireup.create_async_container(injectables=[injectable(parts.opened, lifetime="scoped")])
    judging.same_task(container.enter_scope, lambda scope: scope.get(Transaction))


def per_call() -> None:
    @inject_from_container(_container())
    def call(use: Callable[[Transaction], None], given: Injected[Transaction]) -> None:
        use(given)

    judging.per_call(call)


def replaced() -> None:
    container = _container()
    judging.replaced(lambda: container.get(Repo), lambda: container.override({Repo: FakeRepo()}))


def override_followed() -> None:
    container = _container()
    judging.follows(lambda: container.get(Notes), lambda: container.override({Repo: FakeRepo()}))


def override_alone() -> None:
    container = _container()
    judging.is_alone(lambda: container.get(Repo), lambda: container.override({Repo: FakeRepo()}))


def fork() -> None:
    container = _container()
    judging.own_after_fork(lambda: container.get(Connection))


picture = None
settings = None  # `config=` takes values, and gives them as they are
reload = None
