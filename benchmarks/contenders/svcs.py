"""svcs, which has no decorator: a function asks the container. `autowire` reads the signature at each call.

One container is kept for all calls, which is much faster than a new one for each.
"""

from __future__ import annotations

import svcs

from benchmarks.contenders import Cache, Mailer, Service, Transaction, transaction

RESOLVE = "container.get(Service)"

registry = svcs.Registry()
for singleton in (Service, Cache, Mailer):
    registry.register_value(singleton, singleton())
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


async def use_async(service: Service) -> Service:
    return service


async def one_async() -> Service:
    return await use_async(container.get(Service))  # `aget` is for what is made asynchronously


def use_resource(transaction: Transaction) -> tuple[Transaction, int]:
    return transaction, transaction.closed


def with_resource() -> tuple[Transaction, int]:
    with container:  # which may be used again after it was closed
        return use_resource(container.get(Transaction))
