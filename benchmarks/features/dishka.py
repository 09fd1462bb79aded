"""dishka: a container is made of providers, and checked, as a whole; a test makes another one."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dishka import Container, FromDishka, Provider, Scope, make_async_container, make_container
from dishka.exception_base import DishkaError
from dishka.integrations.base import wrap_injection
from dishka.plotter import render_mermaid

from benchmarks.features import judging, parts
from benchmarks.features.parts import (
    Box,
    Connection,
    Counted,
    Egg,
    Hen,
    Keeper,
    Lenient,
    Notes,
    OnePlugin,
    OtherPlugin,
    Plugin,
    Repo,
    Second,
    Seen,
    Slow,
    Transaction,
)


def _provider() -> Provider:
    provider = Provider(scope=Scope.APP)
    provider.provide_all(Repo, Notes, Slow)
    provider.provide(parts.connection)
    provider.provide(parts.nothing, provides=type(None))
    provider.provide(parts.transaction, scope=Scope.REQUEST)
    provider.provide(parts.second, scope=Scope.REQUEST)
    return provider


def _container() -> Container:
    return make_container(_provider(), lock_factory=threading.Lock)


def _checked(*classes: type, ending: type | None = None) -> Container:
    provider = Provider(scope=Scope.APP)
    provider.provide_all(*classes)
    if ending is not None:
        provider.provide(ending, scope=Scope.REQUEST)
    return make_container(provider)


by_default = None


def by_marker() -> None:
    container = _container()

    def repo_of(repo: FromDishka[Repo]) -> Repo:
        return repo

    injected = wrap_injection(func=repo_of, container_getter=lambda args, kwargs: container)
    assert injected() is container.get(Repo)  # type: ignore[call-arg]


by_type = by_marker  # the marker is the type's


def arguments() -> None:
    container = _container()
    assert container.get(Notes).repo is container.get(Repo)


def all_of_a_type() -> None:
    provider = Provider(scope=Scope.APP)
    provider.provide(OnePlugin, provides=Plugin)
    provider.provide(OtherPlugin, provides=Plugin)
    provider.collect(Plugin)
    assert [type(plugin) for plugin in make_container(provider).get(list[Plugin])] == [OnePlugin, OtherPlugin]


def optional() -> None:
    try:
        container = _checked(Lenient)
    except DishkaError:
        raise Seen("It is required.") from None
    assert container.get(Lenient).repo is None


def generic() -> None:
    assert isinstance(_checked(Box).get(Box[int]), Box)


undeclared = None


def missing() -> None:
    judging.missing(lambda: _checked(Notes), DishkaError)


def cycle() -> None:
    judging.cycle(lambda: _checked(Egg, Hen), DishkaError)


def wrong_type() -> None:
    provider = Provider(scope=Scope.APP)

    def make() -> Container:
        provider.provide(Box, provides=Repo)
        provider.provide(Notes)
        return make_container(provider)

    judging.wrong_type(make, DishkaError)


def captive() -> None:
    judging.refused(lambda: _checked(Keeper, ending=Transaction), DishkaError, "The check passed.")


def unfilled() -> None:
    container = _checked(Box)

    def repo_of(repo: FromDishka[Repo]) -> None: ...

    def decorate() -> object:
        return wrap_injection(func=repo_of, container_getter=lambda args, kwargs: container)

    judging.refused(decorate, DishkaError, "Nothing was said before the call.")


forgotten = None


def once() -> None:
    provider = Provider(scope=Scope.APP)
    provider.provide(Counted)
    container = make_container(provider, lock_factory=threading.Lock)
    judging.built_once(lambda: container.get(Counted))


def independent() -> None:
    container = _container()
    judging.independent(lambda: container.get(Slow), lambda: container.get(Repo))


def none_kept() -> None:
    container = _container()
    judging.called_once(lambda: container.get(type(None)))


def reverse() -> None:
    judging.reverse(_container(), lambda request: request.get(Second))


def told_of_failure() -> None:
    judging.told_of_failure(_container(), lambda request: request.get(Transaction))


def shared() -> None:
    provider = Provider(scope=Scope.REQUEST)
    provider.provide(Counted)
    with make_container(provider)(lock_factory=threading.Lock) as request:
        judging.built_once(lambda: request.get(Counted))


def same_task() -> None:
    provider = Provider(scope=Scope.REQUEST)
    provider.provide(parts.opened)
    judging.same_task(make_async_container(provider), lambda request: request.get(Transaction))


def per_call() -> None:
    container = _container()

    def call(use: Callable[[Transaction], None], given: FromDishka[Transaction]) -> None:
        use(given)

    injected = wrap_injection(func=call, container_getter=lambda args, kwargs: container, manage_scope=True)
    judging.per_call(injected)  # type: ignore[arg-type]


replaced = None  # a test makes a container of other providers
override_followed = None
override_alone = None


def fork() -> None:
    container = _container()
    judging.own_after_fork(lambda: container.get(Connection))


def picture() -> None:
    assert "Notes" in render_mermaid(_container())


settings = None
reload = None
