"""`@inject`: parameters marked with `Provide[...]` are filled from the active container. No `wire()` is needed."""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin

from dependency_injector import providers, wiring

from p8fs_cluster.containers.default import active
from p8fs_cluster.exceptions import InjectionError

__all__ = ["Provide", "inject"]

F = TypeVar("F", bound=Callable[..., Any])

Provide: Any = wiring.Provide
"""dependency-injector's own marker, so that its `wire()` understands it as well."""

_MARKER: Any = wiring._Marker
_PROVIDER: Any = wiring.Provider
_CLOSING: Any = wiring.Closing
_BEYOND = sys.maxsize


class _Injection(NamedTuple):
    name: str
    position: int
    """Where the parameter stands among the positional ones; beyond all of them when it is keyword-only."""
    marker: Any


class _Plan:
    """What one function needs, found out once."""

    def __init__(self, function: Callable[..., Any], names: dict[str, Any]) -> None:
        self._function = function
        self._injections: tuple[_Injection, ...] | None = None
        with contextlib.suppress(NameError):  # an annotation may name what the module defines further down
            self._injections = _injections_of(function, names)

    def injections(self) -> tuple[_Injection, ...]:
        """Return what is to be injected."""
        if self._injections is None:
            try:
                self._injections = _injections_of(self._function, {})
            except NameError as exc:
                raise InjectionError(f"{_name_of(self._function)}: an annotation can't be read: {exc}") from exc
        return self._injections

    @property
    def is_empty(self) -> bool:
        """Whether it is known already that nothing is to be injected."""
        return self._injections == ()

    def fill(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
        """Put into `kwargs` what the caller has not given, and return the names."""
        given, filled = len(args), []
        for name, position, marker in self.injections():
            if position >= given and kwargs.get(name, marker) is marker:
                kwargs[name] = self._provider(active(), name, marker)()
                filled.append(name)
        return filled

    async def fill_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Do as `fill` does, and await what an asynchronous provider promises."""
        for name in self.fill(args, kwargs):
            if inspect.isawaitable(kwargs[name]):
                kwargs[name] = await kwargs[name]

    def _provider(self, container: Any, name: str, marker: Any) -> Callable[[], Any]:
        """Look it up once a container."""
        found: Callable[[], Any] | None = container.injections.get((self, name))
        if found is None:
            found = container.injections[self, name] = self._found(container, name, marker)
        return found

    def _found(self, container: Any, name: str, marker: Any) -> Callable[[], Any]:
        for candidate in _with_subcontainers(container):
            provider = _resolved(candidate, marker)
            if provider is not None:
                return functools.partial(_same, provider) if isinstance(marker, _PROVIDER) else provider
        raise InjectionError(
            f"{_name_of(self._function)}: parameter {name!r}: {_text(marker)} is not in the active container "
            f"({container.parent_name}){_hint(container, marker)}"
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
        return type(function)(inject(function.__func__))
    plan = _Plan(function, sys._getframe(1).f_locals)
    if plan.is_empty:
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
    def injected(*args: Any, **kwargs: Any) -> Any:
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


def _injections_of(function: Callable[..., Any], names: dict[str, Any]) -> tuple[_Injection, ...]:
    parameters = inspect.signature(function).parameters.values()
    marked = [
        (position, parameter, _marker_of(parameter, function, names)) for position, parameter in enumerate(parameters)
    ]
    return tuple(
        _Injection(parameter.name, _position(parameter, position, function), marker)
        for position, parameter, marker in marked
        if marker is not None
    )


def _position(parameter: inspect.Parameter, position: int, function: Callable[..., Any]) -> int:
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise InjectionError(f"{_name_of(function)}: {parameter.name!r} is positional-only and can't be injected")
    return position if parameter.kind is parameter.POSITIONAL_OR_KEYWORD else _BEYOND


def _marker_of(parameter: inspect.Parameter, function: Callable[..., Any], names: dict[str, Any]) -> Any | None:
    annotation = parameter.annotation
    if isinstance(annotation, str) and "Annotated" in annotation:
        closure = inspect.getclosurevars(function).nonlocals if inspect.isfunction(function) else {}
        annotation = eval(annotation, getattr(function, "__globals__", {}), {**names, **closure})  # noqa: S307
    metadata = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    for candidate in (*metadata, parameter.default):
        marker = getattr(candidate, "dependency", candidate)  # FastAPI's Depends(Provide[...])
        if isinstance(marker, _CLOSING):
            raise InjectionError(f"{_name_of(function)}: Closing[...] is not supported by p8fs_cluster.inject")
        if isinstance(marker, _MARKER):
            return marker
    return None


def _same(provider: Callable[[], Any]) -> Callable[[], Any]:
    return provider


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


def _name_of(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _hint(container: Any, marker: Any) -> str:
    if not isinstance(marker.provider, str):
        return ""
    nearest = difflib.get_close_matches(marker.provider, container.providers, n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else f"; it has {', '.join(sorted(container.providers))}"
