"""dishka: a container is made of providers, and checked, as a whole; a test makes another one."""

from __future__ import annotations

from dishka import Container, FromDishka, Provider, Scope, make_container
from dishka.integrations.base import wrap_injection

from benchmarks.features import parts
from benchmarks.features.parts import Egg, Hen, Keeper, Notes, Repo, Transaction


def _container() -> Container:
    provider = Provider(scope=Scope.APP)
    provider.provide_all(Repo, Notes)
    provider.provide(parts.transaction, scope=Scope.REQUEST)
    provider.provide(parts.nothing, provides=type(None))
    return make_container(provider)


def _checked(*classes: type, ending: type | None = None) -> None:
    provider = Provider(scope=Scope.APP)
    provider.provide_all(*classes)
    if ending is not None:
        provider.provide(ending, scope=Scope.REQUEST)
    make_container(provider)


def by_type() -> bool:
    container = _container()

    def function(repo: FromDishka[Repo]) -> Repo:
        return repo

    function.__annotations__["repo"] = FromDishka[Repo]
    injected = wrap_injection(func=function, container_getter=lambda args, kwargs: container)
    return bool(injected() is container.get(Repo))


def arguments() -> bool:
    container = _container()
    return container.get(Notes).repo is container.get(Repo)


def all_of_a_type() -> bool:
    provider = Provider(scope=Scope.APP)
    provider.provide_all(Repo, Notes)
    provider.provide(lambda: Notes(Repo()), provides=Notes)
    provider.collect(Notes)
    return len(make_container(provider).get(list[Notes])) == 2


def once() -> bool:
    container = _container()
    return parts.built_once(lambda: container.get(Repo))


def none_kept() -> bool:
    container = _container()
    return parts.called_once(lambda: container.get(type(None)))


def told_of_failure() -> bool:
    return parts.told_of_failure(_container(), lambda request: request.get(Transaction))


def captive() -> bool:
    return parts.refused(lambda: _checked(Keeper, ending=Transaction))


def missing() -> bool:
    return parts.refused(lambda: _checked(Notes))


def cycle() -> bool:
    return parts.refused(lambda: _checked(Egg, Hen))
