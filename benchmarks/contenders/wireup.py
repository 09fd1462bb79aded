"""wireup: `inject_from_container`, which compiles the function's wrapper and enters a scope where one is needed."""

from __future__ import annotations

import wireup
from wireup import Injected, inject_from_container, injectable

from benchmarks.contenders import Cache, Mailer, Service, Transaction, transaction

RESOLVE = "container.get(Service)"

singletons = [injectable(Service), injectable(Cache), injectable(Mailer)]
container = wireup.create_sync_container(injectables=[*singletons, injectable(transaction, lifetime="scoped")])
async_container = wireup.create_async_container(injectables=singletons)


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


@inject_from_container(container)
def with_resource(transaction: Injected[Transaction]) -> tuple[Transaction, int]:
    return transaction, transaction.closed
