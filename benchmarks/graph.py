"""Checking a container before it starts: milliseconds by the number of its providers.

python -m benchmarks.graph
"""

from __future__ import annotations

import timeit
from typing import Any

from dependency_injector import providers

from benchmarks.rounds import aim
from p8fs_cluster import Container
from p8fs_cluster.containers.graph.checking import check

ROUNDS = 21
COUNTS = (10, 100, 1_000)
LIMIT = 50
"""Milliseconds for the most providers."""


def container_of(count: int) -> type[Container]:
    """Return a container with so many singletons, each of a class of its own with two or three annotated arguments."""
    names: dict[str, Any] = {}
    members: dict[str, Any] = {"service_0": providers.Singleton(_service(0, "", names))}
    for number in range(1, count):
        more = ", extra: float = 1.0" if number % 2 else ""
        service = _service(number, f", before: Service{number - 1}, host: str{more}", names)
        given = {"before": members[f"service_{number - 1}"], "host": Container.config.provided.pg_host}
        members[f"service_{number}"] = providers.Singleton(service, **given)
    return type("Application", (Container,), members)


def milliseconds(count: int) -> float:
    """Return the time of one check of a container with so many providers, the best of some rounds."""
    container = container_of(count)
    assert check(container) == ()
    return min(timeit.repeat(lambda: check(container), number=1, repeat=ROUNDS)) * 1e3


def main() -> None:
    """Print one line for each size, it is linear, and say whether the aim is met."""
    taken = {count: milliseconds(count) for count in COUNTS}
    for count, figure in taken.items():
        print(f"{count:5} providers {figure:8.2f} ms")
    aim(f"check() of {COUNTS[-1]:,} providers", taken[COUNTS[-1]], LIMIT, " ms")


def _service(number: int, parameters: str, names: dict[str, Any]) -> Any:
    """A class with annotations as text, as `from __future__ import annotations` leaves them."""
    lines = (f"class Service{number}:", f"    def __init__(self{parameters}): ...")
    exec("\n".join(["from __future__ import annotations", *lines]), names)  # noqa: S102
    return names[f"Service{number}"]


if __name__ == "__main__":
    main()
