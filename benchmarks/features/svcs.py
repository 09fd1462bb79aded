"""svcs: what a container keeps ends with it, and functions ask it themselves."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import svcs
from svcs import autowire

from benchmarks.features import judging, parts
from benchmarks.features.parts import FakeRepo, Lenient, Notes, Repo, Second, Transaction


def _registry() -> svcs.Registry:
    registry = svcs.Registry()
    registry.register_factory(Repo, Repo)
    registry.register_factory(Notes, autowire(Notes))
    registry.register_factory(Lenient, autowire(Lenient))
    registry.register_factory(type(None), parts.nothing)
    registry.register_factory(Transaction, parts.transaction, suppress_context_exit=False)
    registry.register_factory(Second, autowire(contextlib.contextmanager(parts.second)))
    return registry


by_default = None  # there is no decorator
by_marker = None
by_type = None


def arguments() -> None:
    container = svcs.Container(_registry())
    assert container.get(Notes).repo is container.get(Repo)


all_of_a_type = None


def optional() -> None:
    registry = svcs.Registry()
    registry.register_factory(Lenient, autowire(Lenient))
    assert svcs.Container(registry).get(Lenient).repo is None


generic = None
undeclared = None
missing = None  # nothing is checked before it is asked for
cycle = None
wrong_type = None
captive = None  # nothing outlives a container but values
unfilled = None
forgotten = None
once = None  # a value of the registry is made before
independent = None


def none_kept() -> None:
    container = svcs.Container(_registry())
    judging.called_once(lambda: container.get(type(None)))


def reverse() -> None:
    registry = _registry()
    judging.reverse(lambda: svcs.Container(registry), lambda container: container.get(Second))


def told_of_failure() -> None:
    registry = _registry()
    judging.told_of_failure(lambda: svcs.Container(registry), lambda container: container.get(Transaction))


shared = None  # nothing in a container is locked


def same_task() -> None:
    registry = svcs.Registry()
    registry.register_factory(Transaction, parts.opened)
    judging.same_task(lambda: svcs.Container(registry), lambda container: container.aget(Transaction))


def per_call() -> None:
    registry = _registry()

    def call(use: Callable[[Transaction], None]) -> None:
        with svcs.Container(registry) as container:
            use(container.get(Transaction))

    judging.per_call(call)


def replaced() -> None:
    registry = _registry()

    @contextlib.contextmanager
    def override() -> Iterator[None]:
        registry.register_value(Repo, FakeRepo())
        yield
        registry.register_factory(Repo, Repo)

    judging.replaced(lambda: svcs.Container(registry).get(Repo), override)


override_followed = None  # nothing that is made of others outlives a container


def override_alone() -> None:
    registry, here = _registry(), threading.local()

    def get() -> Repo:
        container: svcs.Container = getattr(here, "container", None) or svcs.Container(registry)
        return container.get(Repo)

    @contextlib.contextmanager
    def override() -> Iterator[None]:
        here.container = svcs.Container(registry)
        here.container.register_local_value(Repo, FakeRepo())
        yield
        del here.container

    judging.is_alone(get, override)


fork = None
picture = None
settings = None
reload = None
