"""`@inject`: parameters marked with `Provide[...]` are filled from the active container. No `wire()` is needed."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin

from dependency_injector import containers, providers, wiring

from p8fs_cluster.containers.default import active
from p8fs_cluster.exceptions import InjectionError

__all__ = ["Provide", "inject"]

F = TypeVar("F", bound=Callable[..., Any])

Provide: Any = wiring.Provide
"""dependency-injector's own marker, so that its `wire()` understands it as well."""

_Marker: type = wiring._Marker


class _Injection(NamedTuple):
    name: str
    position: int
    """Where the parameter stands among the positional ones; beyond all of them when it is keyword-only."""
    marker: Any


class _Plan:
    """What one function needs, found out once; with each container, the providers that give it, looked up once."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._injections: tuple[_Injection, ...] | None = None

    def injections(self, final: bool = True) -> tuple[_Injection, ...] | None:
        """Return what is to be injected; None, unless `final`, when annotations name what is not defined yet."""
        if self._injections is None:
            self._injections = _injections_of(self._function, final)
        return self._injections

    def fill(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Put into `kwargs` what the caller has not given."""
        container = active()
        bound = container.injections.get(self)
        if bound is None:
            bound = container.injections[self] = self._bound_to(container)
        given = len(args)
        for name, position, marker, provide in bound:
            if position >= given and kwargs.get(name, marker) is marker:
                kwargs[name] = provide()

    async def fill_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Do as `fill` does, and await what an asynchronous provider promises."""
        before = set(kwargs)
        self.fill(args, kwargs)
        for name in kwargs.keys() - before:
            if inspect.isawaitable(kwargs[name]):
                kwargs[name] = await kwargs[name]

    def _bound_to(self, container: Any) -> tuple[tuple[str, int, Any, Callable[[], Any]], ...]:
        return tuple(
            (name, position, marker, self._provider(container, name, marker))
            for name, position, marker in self.injections() or ()
        )

    def _provider(self, container: Any, name: str, marker: Any) -> Callable[[], Any]:
        for candidate in _with_subcontainers(container):
            found = _resolved(candidate, marker)
            if found is not None:
                return (lambda: found) if isinstance(marker, wiring.Provider) else found
        function = f"{self._function.__module__}.{self._function.__qualname__}"
        raise InjectionError(
            f"{function}: parameter {name!r}: {_text(marker)} is not in the active container "
            f"({_name_of(container)}){_hint(container, marker)}"
        )


def inject(function: F) -> F:
    """Return `function` with its marked parameters filled at each call; what the caller gives wins.

    Markers stand as default (`storage: Storage = Provide[Container.storage]`) or in `Annotated`. They resolve against
    the active container: the innermost `with container:`, else the process's default one.

    :raises InjectionError: at the call, when a marker can't be resolved.

    >>> from p8fs_cluster.containers import Container
    >>> @inject
    ... def port(api=Provide[Container.api]):
    ...     return api.port
    >>> with Container(config={"api_port": 9000}):
    ...     port()
    9000
    """
    if isinstance(function, (classmethod, staticmethod)):
        return type(function)(inject(function.__func__))  # type: ignore[return-value]
    plan = _Plan(function)
    if plan.injections(final=False) == ():
        return function
    wrapper = _wrapper(function, plan)
    return functools.update_wrapper(wrapper, function)  # type: ignore[return-value]


def _wrapper(function: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):
        return _coroutine(function, plan)
    if inspect.isasyncgenfunction(function):
        return _async_generator(function, plan)
    if inspect.isgeneratorfunction(function):
        return _generator(function, plan)
    fill = plan.fill

    def injected(*args: Any, **kwargs: Any) -> Any:
        fill(args, kwargs)
        return function(*args, **kwargs)

    return injected


def _coroutine(function: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    async def injected(*args: Any, **kwargs: Any) -> Any:
        await plan.fill_async(args, kwargs)
        return await function(*args, **kwargs)

    return injected


def _generator(function: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    def injected(*args: Any, **kwargs: Any) -> Iterator[Any]:
        plan.fill(args, kwargs)
        return (yield from function(*args, **kwargs))

    return injected


def _async_generator(function: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    async def injected(*args: Any, **kwargs: Any) -> Any:
        await plan.fill_async(args, kwargs)
        generator = function(*args, **kwargs)
        try:
            value = await anext(generator)
            while True:
                try:
                    sent = yield value
                except GeneratorExit:
                    await generator.aclose()
                    raise
                except BaseException as exc:
                    value = await generator.athrow(exc)
                else:
                    value = await generator.asend(sent)
        except StopAsyncIteration:
            return

    return injected


def _injections_of(function: Callable[..., Any], final: bool) -> tuple[_Injection, ...] | None:
    found = []
    for position, parameter in enumerate(inspect.signature(function).parameters.values()):
        try:
            marker = _marker_of(parameter, function)
        except NameError as exc:
            if not final:
                return None
            raise InjectionError(
                f"{function.__module__}.{function.__qualname__}: the annotation of {parameter.name!r} can't be read: {exc}"
            ) from exc
        if marker is not None:
            found.append(_Injection(parameter.name, _position(parameter, position, function), marker))
    return tuple(found)


def _position(parameter: inspect.Parameter, position: int, function: Callable[..., Any]) -> int:
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise InjectionError(
            f"{function.__module__}.{function.__qualname__}: {parameter.name!r} is positional-only and can't be injected"
        )
    return position if parameter.kind is parameter.POSITIONAL_OR_KEYWORD else 10_000


def _marker_of(parameter: inspect.Parameter, function: Callable[..., Any]) -> Any | None:
    annotation = parameter.annotation
    if isinstance(annotation, str) and "Annotated" in annotation:
        annotation = eval(annotation, getattr(function, "__globals__", {}), _closure_of(function))  # noqa: S307
    metadata = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    for candidate in (*metadata, parameter.default):
        marker = getattr(candidate, "dependency", candidate)  # FastAPI's Depends(Provide[...])
        if isinstance(marker, wiring.Closing):
            raise InjectionError(f"{function.__qualname__}: Closing[...] is not supported by p8fs_cluster.inject")
        if isinstance(marker, _Marker):
            return marker
    return None


def _closure_of(function: Callable[..., Any]) -> dict[str, Any]:
    return dict(inspect.getclosurevars(function).nonlocals) if inspect.isfunction(function) else {}


def _with_subcontainers(container: Any) -> Iterator[Any]:
    yield container
    for provider in container.providers.values():
        if isinstance(provider, providers.Container):
            yield from _with_subcontainers(provider.container)


def _resolved(container: Any, marker: Any) -> Callable[[], Any] | None:
    try:
        return wiring.ProvidersMap(container).resolve_provider(marker.provider, marker.modifier)
    except KeyError:  # a provider that was set on the instance, which its class does not know
        return None


def _text(marker: Any) -> str:
    provided = marker.provider
    return f"{type(marker).__name__}[{provided!r}]"


def _name_of(container: Any) -> str:
    parent = getattr(container, "declarative_parent", None)
    return parent.__name__ if isinstance(parent, type) and issubclass(parent, containers.Container) else repr(container)


def _hint(container: Any, marker: Any) -> str:
    if not isinstance(marker.provider, str):
        return ""
    nearest = difflib.get_close_matches(marker.provider, container.providers, n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else f"; it has {', '.join(sorted(container.providers))}"
