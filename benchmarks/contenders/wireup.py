"""wireup: `inject_from_container`, which compiles the function's wrapper.

It makes what is transient in scopes alone. One is kept open for that; to enter one at each call takes longer.
"""

from __future__ import annotations

import asyncio

import wireup
from wireup import Injected, inject_from_container, injectable

from benchmarks.contenders import Cache, Handler, Mailer, Notes, Repo, Service, Transaction, transaction

RESOLVE = "container.get(Service)"
GRAPH = "open_scope.get(Handler)"

made = [injectable(each) for each in (Service, Cache, Mailer, Repo)]
made += [injectable(each, lifetime="transient") for each in (Notes, Handler)]
container = wireup.create_sync_container(injectables=[*made, injectable(transaction, lifetime="scoped")])
async_container = wireup.create_async_container(injectables=made)
open_scope = container.enter_scope().__enter__()
open_async_scope = asyncio.run(async_container.enter_scope().__aenter__())


@inject_from_container(container)
def one(service: Injected[Service]) -> Service:
    return service


@inject_from_container(container)
def three(
    service: Injected[Service], cache: Injected[Cache], mailer: Injected[Mailer]
) -> tuple[Service, Cache, Mailer]:
    return service, cache, mailer


@inject_from_container(async_container)
async def one_async(service: Injected[Service]) -> Service:
    return service


@inject_from_container(container, lambda: open_scope)
def mixed(service: Injected[Service], cache: Injected[Cache], notes: Injected[Notes]) -> tuple[Service, Cache, Notes]:
    return service, cache, notes


@inject_from_container(async_container, lambda: open_async_scope)
async def mixed_async(
    service: Injected[Service], cache: Injected[Cache], notes: Injected[Notes]
) -> tuple[Service, Cache, Notes]:
    return service, cache, notes


def use(transaction: Transaction) -> tuple[Transaction, int]:
    return transaction, transaction.closed


def with_resource() -> tuple[Transaction, int]:
    with container.enter_scope() as request:  # what `inject_from_container` does itself takes longer
        return use(request.get(Transaction))


in_scope = with_resource
