"""p8fs_cluster. `application` is to be entered for the time of the measurement."""

from __future__ import annotations

from dependency_injector import providers

from benchmarks.contenders import Cache, Handler, Mailer, Notes, Repo, Service, Transaction, transaction
from p8fs_cluster import Closing, Container, Provide, Scoped, inject
from p8fs_cluster.config.settings import P8FSConfig

RESOLVE = "application.service()"
GRAPH = "application.handler()"


class App(Container):
    service = providers.Singleton(Service)
    cache = providers.Singleton(Cache)
    mailer = providers.Singleton(Mailer)
    factory = providers.Factory(Service)
    repo = providers.Singleton(Repo)
    notes = providers.Factory(Notes, repo)
    handler = providers.Factory(Handler, notes, mailer)
    scoped = Scoped(transaction)
    transaction = providers.Resource(transaction)


application = App()


@inject
def one(service: Service = Provide[App.service]) -> Service:
    return service


@inject
def three(
    service: Service = Provide[App.service], cache: Cache = Provide[App.cache], mailer: Mailer = Provide[App.mailer]
) -> tuple[Service, Cache, Mailer]:
    return service, cache, mailer


@inject
async def one_async(service: Service = Provide[App.service]) -> Service:
    return service


@inject
def mixed(
    service: Service = Provide[App.service],
    cache: Cache = Provide[App.cache],
    notes: Notes = Provide[App.notes],
) -> tuple[Service, Cache, Notes]:
    return service, cache, notes


@inject
async def mixed_async(
    service: Service = Provide[App.service],
    cache: Cache = Provide[App.cache],
    notes: Notes = Provide[App.notes],
) -> tuple[Service, Cache, Notes]:
    return service, cache, notes


@inject
def with_resource(transaction: Transaction = Closing[Provide[App.transaction]]) -> tuple[Transaction, int]:
    return transaction, transaction.closed


@inject
def scoped(transaction: Transaction = Provide[App.scoped]) -> tuple[Transaction, int]:
    return transaction, transaction.closed


def in_scope() -> tuple[Transaction, int]:
    with application.scope("request"):
        return scoped()


@inject
def made(service: Service = Provide[App.factory]) -> Service:
    return service


@inject
def configured(settings: P8FSConfig = Provide[Container.config]) -> P8FSConfig:
    return settings


@inject
def positional(x: int, y: int, service: Service = Provide[App.service]) -> tuple[int, int, Service]:
    return x, y, service
