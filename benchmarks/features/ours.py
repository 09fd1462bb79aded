"""p8fs_cluster."""

from __future__ import annotations

from dependency_injector import providers

from benchmarks.features import parts
from benchmarks.features.parts import Egg, FakeRepo, Hen, Keeper, Notes, Repo, Transaction
from p8fs_cluster import Container, Injected, Provide, Scoped, all_of, inject


class Application(Container):
    repo = providers.Singleton(Repo)
    notes = providers.Singleton(Notes)
    other_notes = providers.Factory(Notes, repo)
    nothing = providers.Singleton(parts.nothing)
    transaction = Scoped(parts.transaction)


class Captive(Container):
    transaction = Scoped(Transaction)
    keeper = providers.Singleton(Keeper)


class Missing(Container):
    notes = providers.Singleton(Notes)


class Cycle(Container):
    egg = providers.Singleton(Egg)
    hen = providers.Singleton(Hen)


@inject
def _repo(repo: Injected[Repo]) -> Repo:
    return repo


@inject
def _all_notes(notes: list[Notes] = Provide[all_of(Notes)]) -> list[Notes]:
    return notes


def by_type() -> bool:
    with Application() as application:
        return _repo() is application.repo()


def arguments() -> bool:
    application = Application()
    return application.notes().repo is application.repo()


def all_of_a_type() -> bool:
    with Application() as application:
        notes = _all_notes()
        return len(notes) == 2 and notes[0] is application.notes()


def override_followed() -> bool:
    application = Application()
    return parts.follows(application.notes, lambda: application.repo.override(FakeRepo()))


def override_alone() -> bool:
    application = Application()
    return parts.is_alone(application.repo, lambda: application.repo.override(FakeRepo(), isolated=True))


def once() -> bool:
    return parts.built_once(Application().repo)


def none_kept() -> bool:
    return parts.called_once(Application().nothing)


def told_of_failure() -> bool:
    application = Application()
    return parts.told_of_failure(lambda: application.scope("request"), lambda scope: application.transaction())


def captive() -> bool:
    return parts.refused(Captive().check)


def missing() -> bool:
    return parts.refused(Missing().check)


def cycle() -> bool:
    return parts.refused(Cycle().check)
