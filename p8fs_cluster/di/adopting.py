"""A container's class from those it inherits from: its providers made ours, and what it declares anew followed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dependency_injector import providers

from p8fs_cluster.di.overriding import Overridable
from p8fs_cluster.di.providers import Callable, Factory, Object, Resource, Singleton

__all__ = ["adopted", "following", "sharing"]

_OURS: Mapping[type, type[Overridable[Any]]] = {
    providers.Singleton: Singleton,
    providers.ThreadSafeSingleton: Singleton,
    providers.Resource: Resource,
    providers.Factory: Factory,
    providers.Callable: Callable,
    providers.Object: Object,
}


def adopted(
    declared: Mapping[str, providers.Provider[Any]], inherited: Iterable[providers.Provider[Any]]
) -> dict[str, providers.Provider[Any]]:
    """Return `declared` with dependency-injector's providers replaced by ours, wherever they are used.

    Inherited providers stay the very objects that they are. Nothing is copied when there is nothing to replace.
    """
    memo: dict[int, Any] = {id(provider): provider for provider in providers.traverse(*inherited)}
    found = [
        provider
        for provider in providers.traverse(*declared.values())
        if type(provider) in _OURS and id(provider) not in memo
    ]
    if not found:
        return {}
    memo.update({id(provider): _OURS[type(provider)]() for provider in found})
    memo.update({id(each): each for each in providers.traverse(*declared.values()) if isinstance(each, providers.Self)})
    for provider in found:
        _fill(memo[id(provider)], provider, memo)
    copies: dict[str, providers.Provider[Any]] = providers.deepcopy(dict(declared), memo)
    return copies


def following(cls: Any) -> dict[str, providers.Provider[Any]]:
    """Return the providers of a container's class that use one which was declared anew, made to use the new one.

    What a redeclaration itself is made from stays the base's: that is how one decorates. Nothing is copied where
    nothing is declared anew.
    """
    inherited = (pair for base in cls.__mro__[1:] for pair in getattr(base, "providers", {}).items())
    if all(cls.providers.get(name, provider) is provider for name, provider in inherited):
        return {}
    return {name: provider for name, provider in _Following(cls).all() if provider is not cls.providers[name]}


def sharing(cls: Any, root: Any) -> dict[str, providers.Provider[Any]]:
    """Return the providers of a container's class whose parts are to use its own in place of theirs, made to do so.

    The providers are those that `root` declares. A part keeps what it declares anew or was given, and what is made of
    that.
    """
    replaced = {}
    names = {id(provider): name for name, provider in root.cls_providers.items()}
    for part in cls.cls_providers.values():
        inner: Any = part.container if isinstance(part, providers.Container) else None
        declaring = getattr(inner, "declarative_parent", None)
        if isinstance(declaring, type) and issubclass(declaring, root):
            anew = {
                name for base in declaring.__mro__ if base is not root for name in getattr(base, "cls_providers", ())
            }
            for name, provider in root.cls_providers.items():
                needed = {names[id(each)] for each in providers.traverse(provider) if id(each) in names}
                if name in anew or anew & needed or inner.providers[name].overridden:
                    anew.add(name)
                else:
                    replaced[id(inner.providers[name])] = cls.providers[name]
    if not replaced:
        return {}
    memo = {id(new): new for new in replaced.values()} | replaced
    for each in providers.traverse(*cls.cls_providers.values()):
        if id(each) not in memo and (isinstance(each, providers.Self) or not _reaches(each, replaced)):
            memo[id(each)] = each
    copies: dict[str, providers.Provider[Any]] = providers.deepcopy(dict(cls.cls_providers), memo)
    return {name: copy for name, copy in copies.items() if copy is not cls.cls_providers[name]}


class _Following:
    """Each provider of a class, with references to what was declared anew replaced, each copied once."""

    def __init__(self, cls: Any) -> None:
        self._cls = cls
        self._bases = [base for base in cls.__mro__[1:] if hasattr(base, "cls_providers")]
        self._done: dict[str, Any] = {}

    def all(self) -> Iterator[tuple[str, Any]]:
        return ((name, self._followed(name)) for name in self._cls.providers)

    def _followed(self, name: str) -> Any:
        if name not in self._done:
            self._done[name] = self._cls.providers[name]  # of itself, should it need itself
            self._done[name] = self._copied(name, self._cls.providers[name])
        return self._done[name]

    def _copied(self, name: str, provider: Any) -> Any:
        replaced = {}
        needed = {id(each) for each in providers.traverse(provider)}
        for other, declared in self._as_it_was(name):
            if id(declared) in needed and other != name and (new := self._followed(other)) is not declared:
                replaced[id(declared)] = new
        if not replaced:
            return provider
        memo = {id(new): new for new in replaced.values()} | replaced
        for each in providers.traverse(provider):
            if id(each) not in memo and (isinstance(each, providers.Self) or not _reaches(each, replaced)):
                memo[id(each)] = each
        return providers.deepcopy(provider, memo)

    def _as_it_was(self, name: str) -> Iterator[tuple[str, Any]]:
        """Yield names and providers that whoever declared this one could refer to.

        Of a redeclaration: what the base's providers that it is made from are themselves made from, but for itself.
        """
        if name not in self._cls.cls_providers:
            homes = [base for base in self._bases if name in base.cls_providers]
            yield from (homes or self._bases)[0].providers.items()
            return
        earlier = [(other, declared) for base in self._bases for other, declared in base.providers.items()]
        itself = {id(declared): declared for other, declared in earlier if other == name}
        if itself:
            inside = self._inside(self._cls.providers[name], {id(declared) for _, declared in earlier})
            earlier = [pair for pair in earlier if id(pair[1]) in inside and not _reaches(pair[1], itself)]
        yield from earlier

    def _inside(self, provider: Any, named: set[int]) -> set[int]:
        """Return what the named providers that one is made from are made from."""
        inside: set[int] = set()
        for each in provider.related:
            if id(each) in named:
                inside |= {id(needed) for needed in providers.traverse(each)} - {id(each)}
            else:
                inside |= self._inside(each, named)
        return inside


def _reaches(provider: providers.Provider[Any], wanted: Mapping[int, Any]) -> bool:
    return any(id(each) in wanted for each in providers.traverse(provider))


def _fill(copy: Any, original: Any, memo: dict[int, Any]) -> None:
    provides = original.provides
    copy.set_provides(providers.deepcopy(provides, memo) if providers.is_provider(provides) else provides)
    if not isinstance(original, providers.Object):
        copy.set_args(*providers.deepcopy(original.args, memo))
        copy.set_kwargs(**providers.deepcopy(original.kwargs, memo))
    if isinstance(original, (providers.BaseSingleton, providers.Factory)):
        copy.set_attributes(**providers.deepcopy(original.attributes, memo))
    for overriding in original.overridden:
        copy.override(providers.deepcopy(overriding, memo))
