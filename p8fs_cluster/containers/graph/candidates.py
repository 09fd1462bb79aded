"""The providers of a container that give a type, by what they are declared to give: overrides change no choice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from dependency_injector import containers, providers

from p8fs_cluster.containers.graph.inference import AsDeclared, given
from p8fs_cluster.containers.graph.matching import alternatives, is_common, is_known, match
from p8fs_cluster.di.annotations import UNKNOWN, type_text
from p8fs_cluster.di.by_type import AllOf, ByType
from p8fs_cluster.di.lookup import with_subcontainers

__all__ = ["Candidate", "Candidates", "Found", "asked_for", "candidates_of"]

_NONE = type(None)


class Candidate(NamedTuple):
    """A provider that a container or a part of it names, and the type that it is declared to give."""

    provider: Any
    path: str
    type: Any


class Found(NamedTuple):
    """The providers that give what is wanted, and those of which that can't be known."""

    wanted: Any
    container: str
    fitting: tuple[Candidate, ...]
    doubtful: tuple[Candidate, ...] = ()
    untyped: tuple[Candidate, ...] = ()
    many: bool = False
    """True if all that fit are wanted, be it none."""

    @property
    def fault(self) -> tuple[str, str] | None:
        """Return why no single one can be chosen, and the way out; None if there is one, or None will do."""
        text = type_text(self.wanted) or repr(self.wanted)
        if isinstance(self.wanted, str) or not is_known(self.wanted):
            return f"the type {text} is not known here", self._offer(())
        if is_common(self.wanted):
            return f"{text} is too common to choose a provider by", self._offer(())
        if _is_container(self.wanted) and not self.fitting:
            return f"neither the active container ({self.container}) nor a part of it is a {text}", ""
        if self.doubtful:
            told = _told(self.doubtful)
            return f"it can't be known whether {text} is what {told} gives", self._offer(self.doubtful)
        if self.many:
            return None
        if len(self.fitting) > 1:
            told = _told(self.fitting)
            return f"{len(self.fitting)} providers of {self.container} give {text}: {told}", self._offer(self.fitting)
        if self.fitting or _NONE in alternatives(self.wanted):
            return None
        unread = [each for each in self.untyped if each.type is UNKNOWN or type_text(each.type) == text]
        untyped = ", ".join(each.path for each in unread)
        what = f"no provider of {self.container} is declared to give {text}"
        return what + (f" (not known of {untyped})" if untyped else ""), self._offer(())

    def without(self, provider: Any) -> Found:
        """Return the same without a provider, which can't be built from itself."""
        fitting = tuple(each for each in self.fitting if each.provider is not provider)
        return self._replace(
            fitting=fitting, doubtful=tuple(each for each in self.doubtful if each.provider is not provider)
        )

    @property
    def provider(self) -> Any:
        """Return the only one, if there is no fault; what gives None if there is none."""
        return self.fitting[0].provider if self.fitting else providers.Object(None)

    def _offer(self, among: tuple[Candidate, ...]) -> str:
        path = among[0].path if among else "name"
        return f'name the provider: Provide[{self.container}.{path}] or Provide["{path}"]'


class Candidates:
    """All that a container and its parts name, in order: what base classes declare first, parts last."""

    def __init__(self, container: Any) -> None:
        self._container = container
        self._name = _declaring(container).__name__
        self._known = AsDeclared()
        self._all = tuple(self._candidates(container, "", {}))
        self._untyped = tuple(each for each in self._all if each.type is UNKNOWN or isinstance(each.type, str))
        self._found: dict[int, Found] = {}
        self._by_class: dict[type | None, list[int]] = {}
        """The positions of those with each class among their bases, under None of those of other types."""
        for position, each in enumerate(self._all):
            for base in each.type.__mro__ if type(each.type) is type else (None,):
                self._by_class.setdefault(base, []).append(position)

    def of(self, wanted: Any, besides: Any = None) -> Found:
        """Return the providers that give what is wanted, except for `besides`."""
        if _is_container(wanted):
            return self._containers(wanted)
        found = self._found.get(id(wanted))
        if found is None or found.wanted is not wanted:
            found = self._found[id(wanted)] = self._look_up(wanted)
        return found if besides is None else found.without(besides)

    def _look_up(self, wanted: Any) -> Found:
        if isinstance(wanted, str) or not is_known(wanted) or is_common(wanted):
            return Found(wanted, self._name, ())
        verdicts = [(each, match(each.type, wanted)) for each in self._worth_asking(wanted)]
        return Found(
            wanted,
            self._name,
            tuple(each for each, verdict in verdicts if verdict),
            tuple(each for each, verdict in verdicts if verdict is None),
            self._untyped,
        )

    def _worth_asking(self, wanted: Any) -> Iterable[Candidate]:
        """Return the candidates without most of those whose plain classes don't derive from the wanted ones."""
        options = alternatives(wanted)
        if any(type(option) is not type for option in options):
            return self._all
        positions = {position for option in (*options, None) for position in self._by_class.get(option, ())}
        return [self._all[position] for position in sorted(positions)]

    def _containers(self, wanted: Any) -> Found:
        """Return the container itself if it is of that class, else its parts that are."""
        fitting = [
            Candidate(each.__self__, path, _declaring(each))
            for each, path in _paths(self._container)
            if issubclass(_declaring(each), alternatives(wanted))
        ]
        itself = [each for each in fitting if not each.path]
        return Found(wanted, self._name, tuple(itself or fitting))

    def _candidates(self, container: Any, prefix: str, seen: dict[Any, None]) -> Iterator[Candidate]:
        named = {name: container.providers[name] for name in _order(container) if name in container.providers}
        for name, provider in {**named, **container.providers}.items():
            itself = _itself(provider)
            if itself not in seen and not isinstance(provider, (providers.Self, providers.Container)):
                seen[itself] = None
                yield Candidate(provider, prefix + name, given(provider, self._known).annotation)
        for name, provider in named.items():
            if isinstance(provider, providers.Container) and provider.container is not None:
                yield from self._candidates(provider.container, f"{prefix}{name}.", seen)


def candidates_of(container: Any) -> Candidates:
    """Return the candidates of a container, found once until something changes."""
    cache = getattr(container, "_cache", None)
    if cache is None:
        return Candidates(container)
    found: Candidates | None = cache.values.get(Candidates)
    if found is None:
        found = cache.values[Candidates] = Candidates(container)
    return found


def asked_for(marker: Any, container: Any) -> tuple[Any, tuple[str, str] | None]:
    """Return the provider of what a marker asks for by type, and the fault if there is one."""
    candidates = candidates_of(container)
    wanted = marker.provider
    if isinstance(wanted, AllOf):
        found = candidates.of(wanted.wanted)._replace(many=True)
        return wanted.of([each.provider for each in found.fitting]), found.fault
    found = candidates.of(wanted if isinstance(marker, ByType) else wanted())
    return found.provider, found.fault


def _told(candidates: tuple[Candidate, ...]) -> str:
    return ", ".join(f"{each.path or 'the container'} ({type_text(each.type)})" for each in candidates)


def _is_container(wanted: Any) -> bool:
    return any(
        isinstance(each, type) and issubclass(each, containers.DeclarativeContainer) for each in alternatives(wanted)
    )


def _paths(container: Any) -> Iterator[tuple[Any, str]]:
    paths = {id(container): ""}
    for each in with_subcontainers(container):
        yield each, paths[id(each)].removeprefix(".")
        for name, provider in each.providers.items():
            if isinstance(provider, providers.Container):
                paths.setdefault(id(provider.container), f"{paths[id(each)]}.{name}")


def _declaring(container: Any) -> Any:
    declaring = getattr(container, "declarative_parent", None) or container
    return declaring if isinstance(declaring, type) else type(declaring)


def _order(container: Any) -> list[str]:
    """Return the names that classes declare, the bases' first."""
    bases = reversed(_declaring(container).__mro__)
    return list(dict.fromkeys(name for base in bases for name in getattr(base, "cls_providers", ())))


def _itself(provider: Any) -> Any:
    """Return the provider that a dependency was given when it was made; any other provider itself."""
    seen = []
    while isinstance(provider, providers.Dependency) and provider not in seen:
        seen.append(provider)
        provider = next(iter(provider.overridden), provider.default or provider)
    return provider
