"""svcs, which has no decorator: a function asks the container. `autowire` reads the signature at each call.

One container is kept for all calls, which is much faster than a new one for each. It keeps what a factory has made too,
so that what is made anew each time comes from a new container.
"""

from __future__ import annotations

import svcs

from benchmarks.contenders import Cache, Handler, Mailer, Notes, Repo, Service, Transaction, transaction

RESOLVE = "container.get(Service)"
GRAPH = "svcs.Container(registry).get(Handler)"

registry = svcs.Registry()
for singleton in (Service, Cache, Mailer, Repo):
    registry.register_value(singleton, singleton())
registry.register_factory(Notes, lambda svcs_container: Notes(svcs_container.get(Repo)))
registry.register_factory(Handler, lambda svcs_container: Handler(*svcs_container.get(Notes, Mailer)))
registry.register_factory(Transaction, transaction)
container = svcs.Container(registry)


def use(service: Service) -> Service:
    return service


def one() -> Service:
    return use(container.get(Service))


def use_three(service: Service, cache: Cache, mailer: Mailer) -> tuple[Service, Cache, Mailer]:
    return service, cache, mailer


def three() -> tuple[Service, Cache, Mailer]:
    return use_three(*container.get(Service, Cache, Mailer))


def use_mixed(service: Service, cache: Cache, notes: Notes) -> tuple[Service, Cache, Notes]:
    return service, cache, notes


def mixed() -> tuple[Service, Cache, Notes]:
    return use_mixed(*container.get(Service, Cache), svcs.Container(registry).get(Notes))


async def use_mixed_async(service: Service, cache: Cache, notes: Notes) -> tuple[Service, Cache, Notes]:
    return service, cache, notes


async def mixed_async() -> tuple[Service, Cache, Notes]:
    return await use_mixed_async(*container.get(Service, Cache), svcs.Container(registry).get(Notes))


async def use_async(service: Service) -> Service:
    return service


async def one_async() -> Service:
    return await use_async(container.get(Service))  # `aget` is for what is made asynchronously


def use_resource(transaction: Transaction) -> tuple[Transaction, int]:
    return transaction, transaction.closed


def with_resource() -> tuple[Transaction, int]:
    with container:  # which may be used again after it was closed
        return use_resource(container.get(Transaction))


def in_scope() -> tuple[Transaction, int]:
    with svcs.Container(registry) as request:
        return use_resource(request.get(Transaction))
