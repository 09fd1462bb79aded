"""Overrides: layers over the providers' graph, which what depends on them follows, and follows back.

What a singleton or a resource holds belongs to the layers that it depends on: with none, it is the one that lives as
long as its container; with some, another one, built while they are in force, found again as long as they are, and
closed when one of them ends. So nothing has to be put back.
"""

from __future__ import annotations

from asyncio import _get_running_loop
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Generic, TypeVar

from dependency_injector import containers, providers

from p8fs_cluster.di import context
from p8fs_cluster.di.entering import is_awaited, opens_asynchronously
from p8fs_cluster.di.layers import Key, Layer, Layered, last_active, put_in_force, take_back
from p8fs_cluster.di.lookup import named_in
from p8fs_cluster.di.ownership import described
from p8fs_cluster.di.teardown import close, close_async
from p8fs_cluster.exceptions import InjectionError

__all__ = ["Overridable", "Override", "replacements"]

T = TypeVar("T")


def _noticed(change: str) -> Any:
    """Return dependency-injector's method of that name, after which an epoch begins if the provider was in use."""

    def called(self: Overridable[Any], *args: Any, **kwargs: Any) -> Any:
        result = getattr(super(Overridable, self), change)(*args, **kwargs)
        if self.is_read:
            context.changed()
        return result

    return called


class Overridable(Layered[T]):
    """A provider whose overrides are layers: they may be isolated, end in any order, and what depends on it follows.

    Mixed in before one of dependency-injector's providers.
    """

    scope: str | None = None
    """The name of the scope that its value ends with; None if it belongs to none."""
    keeps = False
    """True if it keeps what it built, one value for each set of layers that it depends on."""
    is_frozen = False
    """True if what it gives never changes, so that an attribute of that stays the same as well."""
    is_plain = False
    """True if calling one of exactly this class does nothing but call what it provides with its arguments."""
    is_read = False
    """True if something may have been found out from what it is made of."""
    filled: frozenset[str] = frozenset()
    """The names of the arguments that were filled by type."""
    positional: tuple[str, ...] = ()
    """The names of the arguments that may be given by position, if some were filled."""
    footprints: tuple[object, dict[Key, Any]] = (None, {})
    """The epoch, and what the value depends on in it, by the isolated layers of a context."""

    set_provides = _noticed("set_provides")
    add_args, set_args, clear_args = map(_noticed, ("add_args", "set_args", "clear_args"))
    add_kwargs, set_kwargs, clear_kwargs = map(_noticed, ("add_kwargs", "set_kwargs", "clear_kwargs"))
    add_attributes, set_attributes, clear_attributes = map(
        _noticed, ("add_attributes", "set_attributes", "clear_attributes")
    )

    def __call__(self, *args: Any, **kwargs: Any) -> T:  # type: ignore[override]
        if self.layers or context.in_force.get().isolated:
            layer = self.layer()
            replacement = None if layer is None else layer.replaced.get(self)
            if replacement is not None:
                value: T = self._as_promised(replacement(*args, **kwargs))
                return value
        return super().__call__(*args, **kwargs)

    @property
    def overridden(self) -> tuple[providers.Provider[Any], ...]:  # type: ignore[override]
        """Return what stands in its place for the whole process, innermost last."""
        if not self.layers:
            return ()
        found = (layer.replaced.get(self) for layer in self.layers if layer.active)
        return tuple(replacement for replacement in found if replacement is not None)

    @property
    def last_overriding(self) -> providers.Provider[Any] | None:
        """Return what stands in its place, None if nothing does."""
        overridden = self.overridden
        return overridden[-1] if overridden else None

    def override(self, value: Any, *, isolated: bool = False) -> Override[Any]:  # type: ignore[override]
        """Put `value`, or what a provider gives, in its place, in a `with` block or until it is reset.

        What depends on it follows: singletons and resources built before are shadowed by new ones, which are closed
        when it ends, and then the very same old ones are back. `isolated`: only this task or thread sees it, and what
        it awaits.
        """
        replacement = self.replacement(value)
        return Override(put_in_force(Layer({self: replacement}, isolated)), lambda: replacement)

    def replacement(self, value: Any) -> providers.Provider[Any]:
        """Return the provider that `override(value)` puts in its place."""
        if value is self:
            raise InjectionError(f"{described(self)} can't be overridden with itself")
        return value if providers.is_provider(value) else providers.Object(value)

    def reset_last_overriding(self) -> None:
        """End the innermost override that the whole process sees."""
        layer = last_active(self.layers)
        if layer is None:
            super().reset_last_overriding()  # raises dependency-injector's own error
        else:
            close(take_back(layer, self))

    def reset_override(self) -> None:
        """End all overrides that the whole process sees."""
        close([step for layer in reversed(self.layers) for step in take_back(layer, self)])

    def _as_promised(self, value: Any) -> Any:
        """Return a promise of a plain value that stands in for an asynchronous one, where such are awaited."""
        loop = _get_running_loop()
        asynchronous = self.is_async_mode_enabled() or opens_asynchronously(getattr(self, "provides", None))
        if loop is None or not asynchronous or is_awaited(value):
            return value
        promise = loop.create_future()
        promise.set_result(value)
        return promise

    @property
    def is_constant(self) -> bool:
        """Return whether what it gives here is there already, and stays the same until the next change."""
        return False

    def _copy_overridings(self, copied: Any, memo: Any) -> None:
        copied.filled, copied.positional = self.filled, self.positional
        for layer in self.layers:
            twin = memo.get(id(layer))
            if twin is None:
                twin = memo[id(layer)] = Layer({})
                twin.active = layer.active
            twin.replaced[copied] = providers.deepcopy(layer.replaced[self], memo)
            copied.layers = (*copied.layers, twin)


class Override(Generic[T]):
    """An override in force. Leaving its `with` or `async with` block ends it, also when others were put over it since.

    :raises CloseError: at the end, when something that was opened in it can't be closed; it has ended all the same.
    """

    def __init__(self, layer: Layer, entered: Callable[[], T]) -> None:
        self._layer = layer
        self._entered = entered

    def end(self) -> None:
        """End it, and close what was opened in it."""
        close(take_back(self._layer))

    def __enter__(self) -> T:
        return self._entered()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        close(take_back(self._layer, exc=exc))

    async def __aenter__(self) -> T:
        return self._entered()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await close_async(take_back(self._layer, exc=exc))


def replacements(container: Any, overriding: Mapping[str, Any]) -> dict[Any, providers.Provider[Any]]:
    """Return each provider of a container that is named, with the provider that is to stand in its place.

    :raises InjectionError: there is no such provider.
    """
    named = {named_in(container, name): value for name, value in overriding.items()}
    return {provider: _replacement(provider, value) for provider, value in named.items()}


def _replacement(provider: providers.Provider[Any], value: Any) -> providers.Provider[Any]:
    if isinstance(provider, Overridable):
        return provider.replacement(value)
    is_part = isinstance(provider, (providers.Container, providers.DependenciesContainer))
    if is_part and isinstance(value, containers.DynamicContainer):
        return providers.Container(type(value), value)
    return value if providers.is_provider(value) else providers.Object(value)
