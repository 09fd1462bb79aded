"""dishka: `wrap_injection`, of which its integrations make their `inject`; containers without the lock for threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dishka import FromDishka, Provider, Scope, make_async_container, make_container
from dishka.integrations.base import wrap_injection

from benchmarks.contenders import Cache, Handler, Mailer, Notes, Repo, Service, Transaction, transaction

RESOLVE = "container.get(Service)"
GRAPH = "container.get(Handler)"

provider = Provider(scope=Scope.APP)
provider.provide_all(Service, Cache, Mailer, Repo)
provider.provide_all(Notes, Handler, cache=False)
provider.provide(transaction, scope=Scope.REQUEST)
container = make_container(provider, lock_factory=None)
async_container = make_async_container(provider, lock_factory=None)


def inject(function: Callable[..., Any]) -> Callable[..., Any]:
    return wrap_injection(func=function, container_getter=lambda args, kwargs: container)


def inject_async(function: Callable[..., Any]) -> Callable[..., Any]:
    return wrap_injection(func=function, container_getter=lambda args, kwargs: async_container, is_async=True)


@inject
def one(service: FromDishka[Service]) -> Service:
    return service


@inject
def three(
    service: FromDishka[Service], cache: FromDishka[Cache], mailer: FromDishka[Mailer]
) -> tuple[Service, Cache, Mailer]:
    return service, cache, mailer


@inject_async
async def one_async(service: FromDishka[Service]) -> Service:
    return service


@inject
def mixed(
    service: FromDishka[Service], cache: FromDishka[Cache], notes: FromDishka[Notes]
) -> tuple[Service, Cache, Notes]:
    return service, cache, notes


@inject_async
async def mixed_async(
    service: FromDishka[Service], cache: FromDishka[Cache], notes: FromDishka[Notes]
) -> tuple[Service, Cache, Notes]:
    return service, cache, notes


def use(transaction: Transaction) -> tuple[Transaction, int]:
    return transaction, transaction.closed


def with_resource() -> tuple[Transaction, int]:
    with container() as request:  # the README's way; `wrap_injection(manage_scope=True)` takes longer
        return use(request.get(Transaction))


in_scope = with_resource
