"""that-depends: `@inject`, with the container's providers as defaults."""

from __future__ import annotations

from that_depends import BaseContainer, ContextScopes, inject, providers

from benchmarks.contenders import Cache, Handler, Mailer, Notes, Repo, Service, Transaction, transaction

RESOLVE = "Container.service.resolve_sync()"
GRAPH = "Container.handler.resolve_sync()"


class Container(BaseContainer):
    default_scope = ContextScopes.ANY
    service = providers.Singleton(Service)
    cache = providers.Singleton(Cache)
    mailer = providers.Singleton(Mailer)
    repo = providers.Singleton(Repo)
    notes = providers.Factory(Notes, repo.cast)
    handler = providers.Factory(Handler, notes.cast, mailer.cast)
    transaction = providers.ContextResource(transaction)


@inject
def one(service: Service = Container.service) -> Service:
    return service


@inject
def three(
    service: Service = Container.service, cache: Cache = Container.cache, mailer: Mailer = Container.mailer
) -> tuple[Service, Cache, Mailer]:
    return service, cache, mailer


@inject
async def one_async(service: Service = Container.service) -> Service:
    return service


@inject
def mixed(
    service: Service = Container.service, cache: Cache = Container.cache, notes: Notes = Container.notes
) -> tuple[Service, Cache, Notes]:
    return service, cache, notes


@inject
async def mixed_async(
    service: Service = Container.service, cache: Cache = Container.cache, notes: Notes = Container.notes
) -> tuple[Service, Cache, Notes]:
    return service, cache, notes


def use(transaction: Transaction) -> tuple[Transaction, int]:
    return transaction, transaction.closed


def with_resource() -> tuple[Transaction, int]:
    with Container.transaction.context_sync():  # `@inject` and `container_context` take longer
        return use(Container.transaction.resolve_sync())


in_scope = with_resource
