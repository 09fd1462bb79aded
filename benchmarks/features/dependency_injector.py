"""dependency-injector; `Singleton` would be built by several threads, so the one for threads is tried."""

from __future__ import annotations

from dependency_injector import containers, providers

from benchmarks.features import parts
from benchmarks.features.parts import Egg, FakeRepo, Hen, Notes, Repo


class Application(containers.DeclarativeContainer):
    repo = providers.ThreadSafeSingleton(Repo)
    notes = providers.ThreadSafeSingleton(Notes, repo)
    nothing = providers.ThreadSafeSingleton(parts.nothing)


class Missing(containers.DeclarativeContainer):
    repo = providers.Dependency(instance_of=Repo)
    notes = providers.Singleton(Notes, repo)


class Cycle(containers.DeclarativeContainer):
    egg = providers.Singleton(Egg)
    hen = providers.Singleton(Hen, egg)
    egg.add_args(hen)


def override_followed() -> bool:
    application = Application()
    return parts.follows(application.notes, lambda: application.repo.override(providers.Object(FakeRepo())))


def override_alone() -> bool:
    application = Application()
    return parts.is_alone(application.repo, lambda: application.repo.override(providers.Object(FakeRepo())))


def once() -> bool:
    return parts.built_once(Application().repo)


def none_kept() -> bool:
    return parts.called_once(Application().nothing)


def missing() -> bool:
    return parts.refused(Missing().check_dependencies)


def cycle() -> bool:
    return parts.refused(Cycle().check_dependencies)
