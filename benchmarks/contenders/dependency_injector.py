"""dependency-injector's own `@inject`, wired. `Singleton` is its fastest one, and not safe in threads.

It has no scopes.
"""

from __future__ import annotations

from dependency_injector import containers, providers
from dependency_injector.wiring import Closing, Provide, inject

from benchmarks.contenders import Cache, Handler, Mailer, Notes, Repo, Service, Transaction, transaction

RESOLVE = "container.service()"
GRAPH = "container.handler()"


class Container(containers.DeclarativeContainer):
    service = providers.Singleton(Service)
    cache = providers.Singleton(Cache)
    mailer = providers.Singleton(Mailer)
    repo = providers.Singleton(Repo)
    notes = providers.Factory(Notes, repo)
    handler = providers.Factory(Handler, notes, mailer)
    transaction = providers.Resource(transaction)


@inject
def one(service: Service = Provide[Container.service]) -> Service:
    return service


@inject
def three(
    service: Service = Provide[Container.service],
    cache: Cache = Provide[Container.cache],
    mailer: Mailer = Provide[Container.mailer],
) -> tuple[Service, Cache, Mailer]:
    return service, cache, mailer


@inject
async def one_async(service: Service = Provide[Container.service]) -> Service:
    return service


@inject
def mixed(
    service: Service = Provide[Container.service],
    cache: Cache = Provide[Container.cache],
    notes: Notes = Provide[Container.notes],
) -> tuple[Service, Cache, Notes]:
    return service, cache, notes


@inject
async def mixed_async(
    service: Service = Provide[Container.service],
    cache: Cache = Provide[Container.cache],
    notes: Notes = Provide[Container.notes],
) -> tuple[Service, Cache, Notes]:
    return service, cache, notes


@inject
def with_resource(transaction: Transaction = Closing[Provide[Container.transaction]]) -> tuple[Transaction, int]:
    return transaction, transaction.closed


container = Container()
container.wire(modules=[__name__])
