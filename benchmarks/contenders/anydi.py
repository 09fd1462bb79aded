"""anydi: `@container.inject`, with its resolvers compiled beforehand by `build`."""

from __future__ import annotations

from anydi import Container, Provide

from benchmarks.contenders import Cache, Handler, Mailer, Notes, Repo, Service, Transaction, transaction

RESOLVE = "container.resolve(Service)"
GRAPH = "container.resolve(Handler)"

container = Container()
for singleton in (Service, Cache, Mailer, Repo):
    container.register(singleton, scope="singleton")
for factory in (Notes, Handler):
    container.register(factory, scope="transient")
container.provider(scope="request")(transaction)
container.build()


@container.inject
def one(service: Provide[Service]) -> Service:
    return service


@container.inject
def three(service: Provide[Service], cache: Provide[Cache], mailer: Provide[Mailer]) -> tuple[Service, Cache, Mailer]:
    return service, cache, mailer


@container.inject
async def one_async(service: Provide[Service]) -> Service:
    return service


@container.inject
def mixed(service: Provide[Service], cache: Provide[Cache], notes: Provide[Notes]) -> tuple[Service, Cache, Notes]:
    return service, cache, notes


@container.inject
async def mixed_async(
    service: Provide[Service], cache: Provide[Cache], notes: Provide[Notes]
) -> tuple[Service, Cache, Notes]:
    return service, cache, notes


def use(transaction: Transaction) -> tuple[Transaction, int]:
    return transaction, transaction.closed


def with_resource() -> tuple[Transaction, int]:
    with container.request_context():  # an injected function within it takes longer
        return use(container.resolve(Transaction))


in_scope = with_resource
