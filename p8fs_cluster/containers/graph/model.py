"""The providers of a container and their dependencies, as a plain model. Reading builds nothing and calls nothing."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from dependency_injector import providers

from p8fs_cluster.containers.graph.filling import filled
from p8fs_cluster.containers.graph.inference import CALLING, GETTERS, given, is_delegated, signature_of
from p8fs_cluster.di.annotations import type_text
from p8fs_cluster.di.by_type import Missing

__all__ = ["Edge", "Graph", "Link", "Node", "Providers", "cycles", "in_force", "read"]

T = TypeVar("T", bound=Hashable)

_OPTIONS = (providers.ConfigurationOption, providers.TypedConfigurationOption)
_PASSED = (*GETTERS, *_OPTIONS, providers.Delegate, providers.List, providers.Dict)
"""Without a name of their own, these only pass on what they are given, and are no nodes."""

_LIVE = (providers.Delegate, providers.Aggregate)
_ENCLOSING = (providers.Container, providers.DependenciesContainer)


@dataclass(frozen=True)
class Node:
    """A provider: its path in the container, its kind, the type that it gives, and what overrides it, if anything."""

    name: str
    kind: str
    type: str = ""
    overridden_by: str | None = None

    @property
    def overridden(self) -> bool:
        """Return whether an override is in force."""
        return self.overridden_by is not None


@dataclass(frozen=True)
class Edge:
    """`source` takes `target` as its `argument`; `part` says what of it, such as `.pg_host`, "" for the whole.

    It is live when the provider itself is given (`config.provider`), to be called later.
    """

    source: str
    target: str
    argument: str
    part: str = ""
    live: bool = False

    @property
    def label(self) -> str:
        """Argument and part, as they are drawn."""
        return f"{self.argument} {self.part}".strip()


@dataclass(frozen=True)
class Graph:
    """Providers and their dependencies, in the order of their declaration."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    name: str = "container"


def read(container: Any) -> Graph:
    """Return the graph of a container, an instance or a declarative class.

    >>> from p8fs_cluster import Container
    >>> read(Container).nodes[1]
    Node(name='storage', kind='Singleton', type='Storage', overridden_by=None)
    >>> read(Container).edges[0]
    Edge(source='storage', target='config', argument='settings', part='', live=True)
    """
    return Providers(filled(container)).graph()


def cycles(links: Mapping[T, Sequence[T]]) -> Iterator[tuple[T, ...]]:
    """Yield a cycle for each link that closes one, in a walk in the order of `links`; none when there is no cycle.

    Without the last link of each, from its last member to its first, the graph has no cycle.

    >>> list(cycles({"a": ["b"], "b": ["c", "b"], "c": ["a"]}))
    [('a', 'b', 'c'), ('b',)]
    """
    done: set[T] = set()
    for start in links:
        if start not in done:
            yield from _cycles_from(start, links, done)


class Link(NamedTuple):
    """The providers that a provider is built from, by the position, the name or the item that takes each."""

    key: int | str
    provider: Any
    live: bool = False


class Providers:
    """All providers that a container can reach, with overrides in force followed, each with its path.

    One without a name has the path of its parent and the argument, `counters(log)`.
    """

    def __init__(self, container: Any) -> None:
        self.name = _name_of(container)
        self.paths: dict[Any, str] = _named(container.providers)
        self.links: dict[Any, tuple[Link, ...]] = {}
        self._named = frozenset(self.paths)
        for provider in tuple(self.paths):
            self._explore(provider)

    def reach(self, provider: Any, path: str) -> None:
        """Take in another provider, and all that it is built from."""
        if provider not in self.paths:
            self.paths[provider] = path
            self._explore(provider)

    def is_node(self, provider: Any) -> bool:
        """Return whether it is drawn, and named in a path."""
        if provider in self._named:
            return True
        return not isinstance(provider, _PASSED) and not _is_plain(provider)

    def named(self) -> Iterator[tuple[Any, str]]:
        """Yield the providers that the container and its sub-containers name."""
        return ((provider, path) for provider, path in self.paths.items() if provider in self._named)

    def containers(self) -> Iterator[Any]:
        """Yield the sub-containers."""
        for provider, _ in self.named():
            if isinstance(provider, providers.Container) and provider.container is not None:
                yield provider.container

    def text(self, provider: Any) -> str:
        """Return where what `provider` gives comes from, such as `config.pg_host`."""
        sources = [f"{self.paths[target]}{part}" for target, _, part, _ in self._targets(Link("", provider), ())]
        return ", ".join(dict.fromkeys(sources)) or type(provider).__name__

    def graph(self) -> Graph:
        """Return the plain model."""
        edges = tuple(dict.fromkeys(edge for provider in self.paths for edge in self._edges(provider)))
        targets = {edge.target for edge in edges}
        drawn: dict[str, Any] = {}
        for provider, path in self.paths.items():
            if self.is_node(provider) and (path in targets or not isinstance(provider, _ENCLOSING)):
                drawn.setdefault(path, provider)
        return Graph(tuple(map(self._node, drawn.values())), edges, self.name)

    def _explore(self, provider: Any) -> None:
        waiting = deque([provider])
        while waiting:
            provider = waiting.popleft()
            self.links[provider] = links = _links(provider)
            for key, linked, _ in links:
                if linked not in self.paths:
                    self.paths[linked] = self.paths[provider] + _step(provider, key)
                    waiting.append(linked)

    def _edges(self, provider: Any) -> Iterator[Edge]:
        if not self.is_node(provider):
            return
        source = self.paths[provider]
        for link in self.links[provider]:
            argument = _argument(provider, link.key)
            for target, item, part, live in self._targets(link, (provider,)):
                if self.paths[target] != source or target in self._named:
                    yield Edge(source, self.paths[target], argument + item, part, live)

    def _targets(self, link: Link, seen: tuple[Any, ...]) -> Iterator[tuple[Any, str, str, bool]]:
        """The nodes behind a link, where in the argument they go, what of them, and whether they are given live."""
        provider = link.provider
        if self.is_node(provider):
            yield provider, "", "", link.live
        elif provider not in seen:
            for inner in self.links[provider]:
                at, of = _item(provider, inner.key), _part(provider, inner.key)
                for target, item, part, live in self._targets(inner, (*seen, provider)):
                    yield target, at + item, part + of, live or link.live

    def _node(self, provider: Any) -> Node:
        kind = type(provider).__name__
        gives = given(provider).annotation
        node = Node(self.paths[provider], kind, "" if gives is object else type_text(gives))
        last = in_force(provider, self._named)
        if last is provider or isinstance(provider, providers.Dependency):
            return node
        return replace(node, overridden_by=self.paths[last] if last in self._named else _described(last))


def in_force(provider: Any, until: frozenset[Any] = frozenset()) -> Any:
    """Return what is called in the place of `provider`, or one of `until` on the way; itself when nothing overrides."""
    seen = {provider}
    while provider.last_overriding is not None and provider.last_overriding not in seen:
        provider = provider.last_overriding
        seen.add(provider)
        if provider in until:
            break
    return provider


def _name_of(container: Any) -> str:
    declared = getattr(container, "declarative_parent", None) or container
    return declared.__name__ if isinstance(declared, type) else "container"


def _named(members: Mapping[str, Any]) -> dict[Any, str]:
    names: dict[Any, str] = {}
    waiting = deque([("", members)])
    while waiting:
        prefix, members = waiting.popleft()
        for name, provider in members.items():
            if provider not in names and not isinstance(provider, providers.Self):
                names[provider] = prefix + name
                waiting.append((f"{prefix}{name}.", _members(provider)))
    return names


def _members(provider: Any) -> Mapping[str, Any]:
    if isinstance(provider, providers.DependenciesContainer):
        return provider.providers
    if isinstance(provider, providers.Container) and provider.container is not None:
        members: Mapping[str, Any] = provider.container.providers
        return members
    return {}


def _links(provider: Any) -> tuple[Link, ...]:
    last = provider.last_overriding
    if last is not None:
        return () if isinstance(provider, _ENCLOSING) else (Link("", last),)  # whose members are overridden one by one
    always_live = isinstance(provider, _LIVE)
    kind: Any = type(provider)
    return tuple(
        [
            Link(key, value, always_live or is_delegated(value))
            for reader in _readers(kind)
            for key, value in reader(provider)
            if isinstance(value, providers.Provider) and not isinstance(value, Missing)
        ]
    )


_Reader = Callable[[Any], Iterable[tuple[int | str, Any]]]
_READERS: tuple[tuple[Any, _Reader], ...] = (
    (providers.ConfigurationOption, lambda option: [("", option._get_root())]),
    (providers.ConfigurationOption, lambda option: [("key", name) for name in option.get_name_segments()]),
    (providers.Dependency, lambda dependency: [("", dependency.default)]),
    (providers.Selector, lambda selector: [("selector", selector.selector)]),
    ((*CALLING, *GETTERS, providers.Delegate), lambda provider: [("", provider.provides)]),
    ((*CALLING, providers.List, providers.MethodCaller), lambda provider: enumerate(provider.args)),
    ((*CALLING, providers.Dict, providers.MethodCaller), lambda provider: provider.kwargs.items()),
    (
        (providers.Factory, providers.BaseSingleton),
        lambda factory: [(f".{name}", value) for name, value in factory.attributes.items()],
    ),
    ((providers.Selector, providers.Aggregate), lambda provider: provider.providers.items()),
)
"""The places of the providers that one of a kind is built from."""


@functools.lru_cache(maxsize=256)
def _readers(kind: type) -> tuple[_Reader, ...]:
    return tuple(reader for kinds, reader in _READERS if issubclass(kind, kinds))


def _is_plain(provider: Any) -> bool:
    """A value, or the container itself."""
    value = isinstance(provider, providers.Object) and not isinstance(provider, providers.Configuration)
    return value or isinstance(provider, providers.Self)


def _described(provider: Any) -> str:
    return f"{type(provider).__name__} {type_text(given(provider).annotation)}".strip()


def _step(provider: Any, key: int | str) -> str:
    """Return the part of a path for a provider without a name; none for one that overrides, or is passed on."""
    if provider.last_overriding is not None:
        return ""
    if isinstance(provider, _PASSED):
        return _item(provider, key)
    return f"({_argument(provider, key)})"


def _argument(provider: Any, key: int | str) -> str:
    if provider.last_overriding is not None:
        return "given by" if isinstance(provider, providers.Dependency) else "overridden by"
    if key == "" and not isinstance(provider, _PASSED):
        return "default" if isinstance(provider, providers.Dependency) else "calls"
    if isinstance(key, str) or not isinstance(provider, CALLING):
        return str(key)
    signature = signature_of(provider)
    parameters = list(signature.parameters.values()) if signature else []
    for position, parameter in enumerate(parameters):
        if parameter.kind is parameter.VAR_POSITIONAL:
            return f"{parameter.name}[{key - position}]"
        if position == key and parameter.kind is not parameter.KEYWORD_ONLY:
            return parameter.name
    return f"[{key}]"


def _part(provider: Any, key: int | str) -> str:
    """Return what a provider that passes on takes of what it is given."""
    if isinstance(provider, providers.AttributeGetter):
        return f".{provider.name}"
    if isinstance(provider, providers.ItemGetter):
        return f"[{provider.name}]"
    if isinstance(provider, providers.MethodCaller):
        return "()" if key == "" else ""
    if isinstance(provider, providers.ConfigurationOption) and key == "":
        return "".join(f".{name}" for name in provider.get_name_segments() if isinstance(name, str))
    return ""


def _item(provider: Any, key: int | str) -> str:
    return f"[{key}]" if isinstance(provider, providers.List | providers.Dict) else ""


def _cycles_from(start: T, links: Mapping[T, Sequence[T]], done: set[T]) -> Iterator[tuple[T, ...]]:
    path, waiting = {start: 0}, [iter(links[start])]  # no recursion: a container may be deeper than Python's stack
    while waiting:
        following = next(waiting[-1], None)
        if following is None:
            waiting.pop()
            done.add(path.popitem()[0])
        elif following in path:
            yield tuple(path)[path[following] :]
        elif following not in done:
            path[following] = len(path)
            waiting.append(iter(links[following]))
