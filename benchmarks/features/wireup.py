"""wireup: a container is made of functions and classes, and checked, as a whole."""

from __future__ import annotations

import wireup
from wireup import SyncContainer, inject_from_container, injectable

from benchmarks.features import parts
from benchmarks.features.parts import Egg, FakeRepo, Hen, Keeper, Notes, Repo, Transaction


def _container() -> SyncContainer:
    return _of(injectable(Repo), injectable(Notes), injectable(parts.transaction, lifetime="scoped"))


def _of(*injectables: object) -> SyncContainer:
    return wireup.create_sync_container(injectables=list(injectables))


def by_type() -> bool:
    container = _container()

    def function(repo: object) -> object:
        return repo

    function.__annotations__["repo"] = wireup.Injected[Repo]
    return bool(inject_from_container(container)(function)() is container.get(Repo))


def arguments() -> bool:
    container = _container()
    return container.get(Notes).repo is container.get(Repo)


def override_followed() -> bool:
    container = _container()
    fake = FakeRepo()
    return parts.follows(lambda: container.get(Notes), lambda: container.override.injectable(Repo, new=fake))


def override_alone() -> bool:
    container = _container()
    fake = FakeRepo()
    return parts.is_alone(lambda: container.get(Repo), lambda: container.override.injectable(Repo, new=fake))


def once() -> bool:
    container = _container()
    return parts.built_once(lambda: container.get(Repo))


def told_of_failure() -> bool:
    return parts.told_of_failure(_container().enter_scope, lambda scope: scope.get(Transaction))


def captive() -> bool:
    return parts.refused(lambda: _of(injectable(Keeper), injectable(Transaction, lifetime="scoped")))


def missing() -> bool:
    return parts.refused(lambda: _of(injectable(Notes)))


def cycle() -> bool:
    return parts.refused(lambda: _of(injectable(Egg), injectable(Hen)))
