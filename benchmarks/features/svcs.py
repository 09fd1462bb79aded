"""svcs: what a container keeps ends with it, and functions ask the container themselves. It is for one thread."""

from __future__ import annotations

import svcs
from svcs import autowire

from benchmarks.features import parts
from benchmarks.features.parts import Notes, Repo, Transaction


def _container() -> svcs.Container:
    registry = svcs.Registry()
    registry.register_factory(Repo, Repo)
    registry.register_factory(Notes, autowire(Notes))
    registry.register_factory(Transaction, parts.transaction)
    registry.register_factory(type(None), parts.nothing)
    return svcs.Container(registry)


def arguments() -> bool:
    container = _container()
    return container.get(Notes).repo is container.get(Repo)


def none_kept() -> bool:
    container = _container()
    return parts.called_once(lambda: container.get(type(None)))


def told_of_failure() -> bool:
    return parts.told_of_failure(_container, lambda container: container.get(Transaction))
