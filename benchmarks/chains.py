"""Chains, in which each thing needs the one before: the first resolve of the last one, and that after an override.

    python -m benchmarks.chains

Every resolve is one of a fresh container. What a contender does when its container is made is not counted. The peers
have no override that reaches what was built before.
"""

import functools
import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anydi
import dishka
import svcs
import that_depends
import wireup
from dependency_injector import containers, providers

from benchmarks.rounds import Figures, Loop, aim, measure
from p8fs_cluster import Container

Link = type
Resolve = Callable[[], Any]
OURS = "p8fs_cluster"
ROUNDS = 11
LENGTHS = (100, 1_000)
LIMIT = 5
"""Milliseconds for a chain of a hundred."""


def chain_of(count: int) -> list[Link]:
    """Return so many classes, each of which wants an object of the one before as `before`; the first wants nothing."""
    links: list[Link] = [type("Link0", (), {"__init__": lambda self: setattr(self, "before", None)})]
    for number in range(1, count):

        def made(self: Any, before: Any) -> None:
            self.before = before

        made.__annotations__ = {"before": links[-1], "return": None}
        links.append(type(f"Link{number}", (), {"__init__": made}))
    return links


def members(links: Sequence[Link], provider: type) -> dict[str, Any]:
    """Return dependency-injector's providers, which are ours too, by name."""
    made: dict[str, Any] = {"link_0": provider(links[0])}
    for number, link in enumerate(links[1:], 1):
        made[f"link_{number}"] = provider(link, before=made[f"link_{number - 1}"])
    return made


def last(container: Any, links: Sequence[Link]) -> Resolve:
    """Return what resolves the last one."""
    return getattr(container, f"link_{len(links) - 1}")  # type: ignore[no-any-return]


def ours(links: Sequence[Link], once: bool) -> Resolve:
    return last(_container(Container, links, once), links)


def dependency_injector(links: Sequence[Link], once: bool) -> Resolve:
    return last(_container(containers.DeclarativeContainer, links, once), links)


def _container(base: Any, links: Sequence[Link], once: bool) -> Any:
    return type("Application", (base,), members(links, providers.Singleton if once else providers.Factory))()


def dishka_(links: Sequence[Link], once: bool) -> Resolve:
    provider = dishka.Provider(scope=dishka.Scope.APP)
    provider.provide_all(*links, cache=once)
    container = dishka.make_container(provider, lock_factory=None)
    return lambda: container.get(links[-1])


def wireup_(links: Sequence[Link], once: bool) -> Resolve:
    made = [wireup.injectable(link, lifetime="singleton" if once else "transient") for link in links]
    scope = wireup.create_sync_container(injectables=made).enter_scope().__enter__()
    return lambda: scope.get(links[-1])


def anydi_(links: Sequence[Link], once: bool) -> Resolve:
    container = anydi.Container()
    for link in links:
        container.register(link, scope="singleton" if once else "transient")
    container.build()
    return lambda: container.resolve(links[-1])


def svcs_(links: Sequence[Link], once: bool) -> Resolve:
    """Use one container, which keeps all that it makes."""
    registry = svcs.Registry()
    registry.register_factory(links[0], links[0])
    for before, link in itertools.pairwise(links):
        registry.register_factory(link, _making(link, before))
    container = svcs.Container(registry)
    return lambda: container.get(links[-1])


def _making(link: Link, before: Link) -> Callable[[svcs.Container], Any]:
    return lambda svcs_container: link(svcs_container.get(before))


def that_depends_(links: Sequence[Link], once: bool) -> Resolve:
    provider: Any = that_depends.providers.Singleton if once else that_depends.providers.Factory
    made = [provider(links[0])]
    for link in links[1:]:
        made.append(provider(link, before=made[-1].cast))
    return made[-1].resolve_sync


CONTENDERS: Mapping[str, Callable[[Sequence[Link], bool], Resolve]] = {
    OURS: ours,
    "dependency-injector": dependency_injector,
    "dishka": dishka_,
    "wireup": wireup_,
    "anydi": anydi_,
    "svcs": svcs_,
    "that-depends": that_depends_,
}


def first(make: Callable[[], Resolve]) -> Loop:
    """Return what times the first resolves of fresh containers."""

    def loop(times: int) -> float:
        taken = 0.0
        for _ in range(times):
            resolve = make()
            started = time.perf_counter()
            resolve()
            taken += time.perf_counter() - started
        return taken

    return loop


def after_override(links: Sequence[Link], once: bool) -> Loop:
    """Return what times the resolve after an override of the first one, of which everything behind it is then made."""

    def loop(times: int) -> float:
        taken = 0.0
        for _ in range(times):
            container = _container(Container, links, once)
            resolve, other = last(container, links), links[0]()
            assert _depth(resolve()) == len(links)
            with container.link_0.override(other):
                started = time.perf_counter()
                resolved = resolve()
                taken += time.perf_counter() - started
            assert _first_of(resolved) is other
        return taken

    return loop


def working(loops: Mapping[str, Loop], title: str) -> dict[str, Loop]:
    """Return those that work, and print the others."""
    found = {}
    for name, loop in loops.items():
        try:
            loop(1)
        except Exception as exc:
            print(f"  {f'{title}, {name}':60} does not work: {type(exc).__name__}")
        else:
            found[name] = loop
    return found


def verify(resolve: Resolve, count: int, once: bool) -> None:
    """Make sure that the chain is whole, and made once or each time."""
    resolved = resolve()
    assert _depth(resolved) == count
    assert (resolve() is resolved) == once


def show(title: str, count: int, loops: Mapping[str, Loop]) -> Figures:
    """Measure and print those that work."""
    found = working(loops, f"{title} of {count:,}")
    figures = measure(found, ROUNDS if count <= LENGTHS[0] else 3, 0) if found else {}
    for name, seconds in sorted(figures.items(), key=lambda item: statistics.median(item[1])):
        least, median = min(seconds) * 1e3, statistics.median(seconds) * 1e3
        print(f"  {f'{title} of {count:,}, {name}':60}{least:10.2f} ms{median:10.2f} ms")
    return figures


def compare(kind: str, once: bool) -> None:
    """Measure chains of both lengths, and say whether the aims are met."""
    resolved, overridden = {}, {}
    for count in LENGTHS:
        links = chain_of(count)
        firsts = {name: first(functools.partial(make, links, once)) for name, make in CONTENDERS.items()}
        resolved[count] = show(f"first resolve, {kind}", count, firsts)
        overridden[count] = show(f"after an override, {kind}", count, {OURS: after_override(links, once)})
    for title, figures in ((f"first resolve, {kind}", resolved), (f"after an override, {kind}", overridden)):
        short, long = (figures[count].get(OURS) for count in LENGTHS)
        if short is not None:
            aim(f"{title}, a chain of {LENGTHS[0]}", statistics.median(short) * 1e3, LIMIT, " ms")
        if long is None:
            print(f"not met {title}, a chain of {LENGTHS[1]:,} works")
        elif short is not None:
            times = statistics.median(long) / statistics.median(short)
            aim(f"{title}, growth from {LENGTHS[0]} to {LENGTHS[1]:,}, which is linear at 10", times, 15)
    print()


def main() -> None:
    """Verify, measure, and say which aims are met."""
    for once in (True, False):
        for name, make in CONTENDERS.items():
            verify(make(chain_of(20), once), 20, once or name == "svcs")
    print(f"{'':62}{'min':>13}{'median':>13}")
    compare("singletons", once=True)
    compare("factories", once=False)


def _depth(resolved: Any) -> int:
    depth = 0
    while resolved is not None:
        depth, resolved = depth + 1, resolved.before
    return depth


def _first_of(resolved: Any) -> Any:
    while resolved.before is not None:
        resolved = resolved.before
    return resolved


if __name__ == "__main__":
    main()
