"""anydi; `build` checks and compiles what is registered."""

from __future__ import annotations

from anydi import Container, Provide

from benchmarks.features import parts
from benchmarks.features.parts import Egg, FakeRepo, Hen, Keeper, Notes, Repo, Transaction


def _container() -> Container:
    container = Container()
    container.register(Repo, scope="singleton")
    container.register(Notes, scope="singleton")
    container.provider(scope="request")(parts.transaction)
    container.build()
    return container


def _checked(**classes: type) -> None:
    container = Container()
    for name, cls in classes.items():
        container.register(cls, scope="request" if name == "ending" else "singleton")
    container.build()


def by_type() -> bool:
    container = _container()

    def function(repo: object) -> object:
        return repo

    function.__annotations__["repo"] = Provide[Repo]
    return bool(container.inject(function)() is container.resolve(Repo))


def arguments() -> bool:
    container = _container()
    return container.resolve(Notes).repo is container.resolve(Repo)


def override_followed() -> bool:
    container = _container()
    return parts.follows(lambda: container.resolve(Notes), lambda: container.override(Repo, FakeRepo()))


def override_alone() -> bool:
    container = _container()
    return parts.is_alone(lambda: container.resolve(Repo), lambda: container.override(Repo, FakeRepo()))


def once() -> bool:
    container = _container()
    return parts.built_once(lambda: container.resolve(Repo))


def told_of_failure() -> bool:
    container = _container()
    return parts.told_of_failure(container.request_context, lambda scope: container.resolve(Transaction))


def captive() -> bool:
    return parts.refused(lambda: _checked(keeper=Keeper, ending=Transaction))


def missing() -> bool:
    return parts.refused(lambda: _checked(notes=Notes))


def cycle() -> bool:
    return parts.refused(lambda: _checked(egg=Egg, hen=Hen))
