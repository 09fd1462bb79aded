"""Find all faults of a container at once, before anything is built, opened or called."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from dependency_injector import providers

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.containers.graph.arguments import bind, did_you_mean
from p8fs_cluster.containers.graph.filling import filled
from p8fs_cluster.containers.graph.inference import (
    CALLING,
    Given,
    Signature,
    classes_of,
    fits,
    given,
    injected,
    signature_of,
)
from p8fs_cluster.containers.graph.injections import Injection, functions_of, injections_of, resolved, unfilled
from p8fs_cluster.containers.graph.model import Providers, cycles
from p8fs_cluster.di.annotations import type_text
from p8fs_cluster.di.by_type import Missing
from p8fs_cluster.di.lookup import ProvidersOf
from p8fs_cluster.di.scope_order import ORDER, Order, above
from p8fs_cluster.di.scoped import Scoped
from p8fs_cluster.exceptions import GraphProblem, InjectionError

__all__ = ["check", "require"]

_ABSTRACT = (
    providers.AbstractFactory,
    providers.AbstractSingleton,
    providers.AbstractCallable,
    providers.AbstractCoroutine,
)
_COMPLETE = (providers.BaseSingleton, providers.BaseResource, Scoped)
"""These are called without arguments; others may be completed by who calls them."""

Fault = tuple[str, str]
"""The fault, and the way out."""


def check(container: Any, *, functions: Iterable[Any] = ()) -> tuple[GraphProblem, ...]:
    """Return every problem of a container, an instance or a declarative class; none when all is well.

    `functions` are those that will be called with this container, or classes, modules or packages of such: each marker
    is looked up, and one that nobody fills, because `@inject` was forgotten, is a problem. Overrides in force count.
    What is not certain, for want of annotations, is no problem.

    >>> from p8fs_cluster import Container
    >>> class Application(Container):
    ...     client = providers.Singleton(dict, host=Container.config.provided.pg_hots)
    >>> print(*check(Application))
    client(host): there is no setting 'pg_hots'; did you mean 'pg_host'?
    """
    return tuple(_Check(container, functions).problems())


def require(container: Any, *, functions: Iterable[Any] = ()) -> None:
    """Do as `check` does, and raise what it finds.

    :raises InjectionError: with every problem.
    """
    problems = check(container, functions=functions)
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise InjectionError(f"{count} in the container:", problems)


class _Check:
    def __init__(self, container: Any, functions: Iterable[Any]) -> None:
        container = filled(container)
        self._reached = Providers(container)
        declaring = getattr(container, "declarative_parent", None) or container
        self._order: Order = getattr(declaring, "scope_order", ORDER)
        functions = tuple(functions)
        searched = [ProvidersOf(each) for each in (container, *self._reached.containers())] if functions else []
        self._injections = [
            found for function in functions_of(functions) for found in resolved(function, container, searched)
        ]
        for injection in self._injections:
            if injection.provider is not None and injection.fault is None:
                self._reached.reach(injection.provider, f"{injection.function}({injection.parameter.name})")
        self._unfilled = tuple(unfilled(functions))
        self._known: dict[Any, Given] = {}
        self._settings: set[tuple[Any, str]] = set()
        """The settings that there are, of those that were looked at, by their classes."""
        self._bare: set[Any] = set()
        self._calls: dict[Any, list[Any]] = {
            provider: [linked for _, linked, live in links if not live]
            for provider, links in self._reached.links.items()
        }
        """The providers that each one calls."""
        for provider in self._called_bare():
            self._use(provider)

    def problems(self) -> Iterator[GraphProblem]:
        for provider, path in self._reached.paths.items():
            for what, hint in self._faults(provider):
                yield GraphProblem(path, what, hint)
        yield from self._cycles()
        yield from self._lifetimes()
        yield from (GraphProblem(where, what) for where, what in self._unfilled)
        for injection in self._injections:
            for what, hint in self._faults_of_injection(injection):
                yield GraphProblem(injection.function, what, hint)

    def _called_bare(self) -> Iterator[Any]:
        """The providers that others call, without arguments."""
        for provider, links in self._reached.links.items():
            for key, linked, live in links:
                if not live and (key != "" or isinstance(provider, providers.AttributeGetter)):
                    yield linked
        yield from (
            found.provider for found in self._injections if found.provider in self._reached.paths and not found.live
        )

    def _use(self, provider: Any) -> None:
        """Note that `provider` is called without arguments, and so is what stands in for it."""
        waiting = [provider]
        while waiting:
            provider = waiting.pop()
            if provider not in self._bare:
                self._bare.add(provider)
                waiting.extend(
                    [linked for key, linked, live in self._reached.links[provider] if key == "" and not live]
                )

    def _faults(self, provider: Any) -> Iterable[Fault]:
        if isinstance(provider, providers.Dependency):
            return self._faults_of_dependency(provider)
        if provider.last_overriding is not None:
            return ()
        if isinstance(provider, _ABSTRACT):
            return [(f"it is abstract ({type(provider).__name__}), and nothing overrides it", "")]
        if isinstance(provider, providers.Container) and provider.container is None:
            return [("it has nothing to provide", "give it a container")]
        if isinstance(provider, providers.AttributeGetter):
            return self._faults_of_setting(str(provider.name), given(provider.provides, self._known))
        if isinstance(provider, Scoped):
            known = sorted({name for chain in self._order for name in chain})
            if provider.scope not in known:
                hint = did_you_mean(provider.scope, known) or "declare it in the container's `scope_order`"
                return [(f"there is no scope {provider.scope!r}", hint)]
            if provider.wanted is not None:
                return ()
        return self._faults_of_call(provider) if isinstance(provider, (*CALLING, providers.Delegate)) else ()

    def _faults_of_setting(self, name: str, owner: Given) -> Iterator[Fault]:
        if type(owner.annotation) is type(P8FSConfig) and (owner.annotation, name) in self._settings:
            return
        for cls in classes_of(owner.annotation) or ():
            if not issubclass(cls, P8FSConfig):
                continue
            if name in cls.model_fields or hasattr(cls, name):
                self._settings.add((cls, name))
            else:
                yield f"there is no setting {name!r}", did_you_mean(name, _settings_of(cls))

    def _faults_of_dependency(self, provider: Any) -> Iterator[Fault]:
        if provider.is_defined:
            stand_in = provider.last_overriding or provider.default
            yield from self._faults_of_type("it", provider.instance_of, given(provider, self._known), stand_in)
            return
        parent = provider.parent
        siblings = parent.providers if isinstance(parent, providers.DependenciesContainer) else {}
        name = next((name for name, sibling in siblings.items() if sibling is provider), "")
        known = [name for name, sibling in siblings.items() if sibling.last_overriding is not None]
        hint = did_you_mean(name, known) or "give it to its container, or override it"
        yield "this dependency is not defined", hint

    def _faults_of_call(self, provider: Any) -> Iterator[Fault]:
        call = provider.provides
        if call is None:
            yield "it has nothing to provide", "give it a class or a function"
            return
        if inspect.isabstract(call):
            methods = ", ".join(sorted(call.__abstractmethods__))
            yield f"{call.__name__} is abstract: {methods} must be implemented", self._offer(call)
        signature = signature_of(provider) if isinstance(provider, CALLING) else None
        if signature is not None:
            yield from self._faults_of_arguments(provider, signature)

    def _faults_of_arguments(self, provider: Any, signature: Signature) -> Iterator[Fault]:
        call = provider.provides
        name = getattr(call, "__qualname__", type(call).__name__)
        lacking = {name: value for name, value in provider.kwargs.items() if isinstance(value, Missing)}
        bound = {name: value for name, value in provider.kwargs.items() if name not in lacking}
        binding = bind(signature.parameters, provider.args, bound)
        for fault, hint in binding.faults:
            yield f"{name}: {fault}", hint
        is_called_so = provider in self._bare or isinstance(provider, _COMPLETE)
        for argument, missing in lacking.items():
            if is_called_so or not missing.needed:
                yield f"{name}: argument {argument!r}: {missing.what}", missing.hint
        if binding.missing and is_called_so:
            others = {parameter.name for parameter, _ in injections_of(call)} | lacking.keys()
            for parameter in binding.missing:
                if parameter.name not in others:
                    hint = self._offer(signature.annotation(parameter))
                    yield f"{name}: argument {parameter.name!r} is missing", hint
        if hasattr(call, "__signature__"):  # who writes it himself, as pydantic does, converts what is given
            return
        for parameter, value in binding.taken:
            what = injected(value, self._known)
            if parameter.default is not None or what.annotation is not type(None):
                argument = f"{name}: argument {parameter.name!r}"
                yield from self._faults_of_type(argument, signature.annotation(parameter), what, value)

    def _faults_of_type(self, where: str, wanted: Any, what: Given, value: Any) -> Iterator[Fault]:
        if what.annotation is wanted:
            return
        classes = classes_of(wanted)
        if classes is not None and not fits(what, classes):
            yield f"{where} wants {type_text(wanted)}, not {self._told(what, value)}", self._offer(wanted)

    def _told(self, what: Given, value: Any) -> str:
        """Return what is given instead, and where it comes from; never a value, which may be a secret."""
        if not isinstance(value, providers.Provider):
            return type_text(what.annotation)
        source = self._reached.text(value)
        if what == Given(type(value), exact=True) or isinstance(value, providers.Delegate):
            return f"{source} itself, a provider"
        return f"{type_text(what.annotation)} (from {source})"

    def _faults_of_injection(self, injection: Injection) -> Iterator[Fault]:
        name, provider = injection.parameter.name, injection.provider
        if injection.fault is not None:
            fault, hint = injection.fault
            yield f"argument {name!r}: {injection.asked_for}: {fault}", hint
            return
        if provider is None:
            asked = injection.marker.provider
            paths = [path for _, path in self._reached.named()]
            hint = did_you_mean(asked, paths) if isinstance(asked, str) else self._offer(injection.wanted)
            yield f"argument {name!r}: {injection.asked_for} is not in {self._reached.name}", hint
            return
        if not injection.live and provider.last_overriding is not None:  # a test's fake may be of any type
            return
        what = Given(type(provider), exact=True) if injection.live else injected(provider, self._known)
        yield from self._faults_of_type(f"argument {name!r}", injection.wanted, what, provider)

    def _offer(self, wanted: Any) -> str:
        """Name the providers that give what is wanted, unless that is as common as a string."""
        classes = tuple(cls for cls in classes_of(wanted) or () if cls.__module__ != "builtins")
        paths = [path for provider, path in self._reached.named() if _gives(given(provider, self._known), classes)]
        return f"{' or '.join(paths)} would fit" if paths else ""

    def _cycles(self) -> Iterator[GraphProblem]:
        for cycle in cycles(self._calls):
            drawn = [self._reached.paths[provider] for provider in cycle if self._reached.is_node(provider)]
            path = list(dict.fromkeys(drawn)) or [self._reached.paths[cycle[0]]]
            hint = f"give one of them `{path[0]}.provider`, to be called later"
            yield GraphProblem(path[0], f"it needs itself: {' → '.join([*path, path[0]])}", hint)

    def _lifetimes(self) -> Iterator[GraphProblem]:
        """Yield the providers that would keep what ends before they do."""
        for provider in self._made_of_scoped():
            if isinstance(provider, _COMPLETE) and provider.last_overriding is None:
                scope = provider.scope if isinstance(provider, Scoped) else None
                around = {scope, *above(self._order, scope)} if scope else set()
                for needed, path in self._kept_by(provider):
                    if needed.scope not in around:
                        lives = (
                            f"it lives as long as the scope {scope!r}" if scope else "it lives as long as the container"
                        )
                        told = f"{lives}, but {path[-1]} ends with the scope {needed.scope!r}: {' → '.join(path)}"
                        yield GraphProblem(path[0], told, "make it Scoped as well, or a Factory")

    def _made_of_scoped(self) -> list[Any]:
        """Return the providers from which something that is scoped is reached, in their order."""
        takers: dict[Any, list[Any]] = {}
        for provider, called in self._calls.items():
            for each in called:
                takers.setdefault(each, []).append(provider)
        waiting = [provider for provider in takers if isinstance(provider, Scoped)]
        found: set[Any] = set()
        while waiting:
            for taker in takers.get(waiting.pop(), ()):
                if taker not in found:
                    found.add(taker)
                    waiting.append(taker)
        return [provider for provider in self._reached.paths if provider in found]

    def _kept_by(self, provider: Any) -> Iterator[tuple[Scoped[Any], list[str]]]:
        """Yield what is scoped among what a provider is made of, with the path; not what others keep, who are asked."""
        paths = self._reached.paths
        waiting, seen = [(provider, [paths[provider]])], {provider}
        while waiting:
            each, path = waiting.pop()
            for link in self._reached.links[each]:
                needed = link.provider
                if link.live or needed in seen:
                    continue
                seen.add(needed)
                onward = [*path, paths[needed]] if self._reached.is_node(needed) else path
                if isinstance(needed, Scoped) and needed.last_overriding is None:
                    yield needed, onward
                elif not isinstance(needed, _COMPLETE) or needed.last_overriding is not None:
                    waiting.append((needed, onward))


def _settings_of(cls: type[P8FSConfig]) -> list[str]:
    computed = [member for member, value in inspect.getmembers_static(cls) if isinstance(value, property)]
    return [*cls.model_fields, *computed]


def _gives(what: Given, classes: tuple[type, ...]) -> bool:
    try:
        return all(issubclass(cls, classes) for cls in classes_of(what.annotation) or (type(None),))
    except TypeError:  # a class that can't be asked, such as a TypedDict
        return False
