"""The values that are asked for by their type: `Injected[T]`, `all_of(T)`, and arguments that are filled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from dependency_injector import providers, wiring

from p8fs_cluster.di.entering import is_awaited, settled
from p8fs_cluster.exceptions import InjectionError

__all__ = ["AllOf", "ByType", "Missing", "all_of", "asks_by_type", "without_covered"]

T = TypeVar("T")

if TYPE_CHECKING:
    _Marker = object
    _List = providers.List
    _Provider = providers.Provider[Any]
else:
    _Marker, _List, _Provider = wiring._Marker, providers.List, providers.Provider


class ByType(_Marker):
    """The marker of `Injected[T]`: `provider` is the type. Messages call it by `name`."""

    name: ClassVar[str] = "Injected"
    modifier = None

    def __init__(self, wanted: Any) -> None:
        self.provider = wanted


class AllOf(_List):
    """Gives a list of what all providers give whose types fit, once `args` are known to be those."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.wanted: Any = None
        self.found = False
        """True if `args` are the providers of some container."""

    def of(self, fitting: list[Any]) -> AllOf:
        """Return the same with the providers of a container."""
        made = AllOf(*fitting)
        made.wanted, made.found = self.wanted, True
        return made

    def take(self, fitting: list[Any]) -> None:
        """Make it give what these providers give."""
        self.set_args(*fitting)
        self.found = True

    def __deepcopy__(self, memo: dict[Any, Any] | None = None) -> Any:
        copied: Any = super().__deepcopy__(memo)
        copied.wanted, copied.found = self.wanted, self.found
        return copied

    def _provide(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self.found:
            raise InjectionError(
                "all_of(...) stands where its container is not known: write it in Provide[all_of(...)], or as an "
                "argument of a provider in the class body of a Container"
            )
        values = [settled(provider()) for provider in self.args]
        return asyncio.ensure_future(_awaited(values)) if any(map(is_awaited, values)) else values


def all_of(wanted: Callable[..., T]) -> providers.Provider[list[T]]:
    """Return what `Provide[...]` takes for all that the active container gives of a type, as a new list.

    The providers are those of the container and its sub-containers whose declared types fit: first those that base
    classes declare, then by the order of declaration, sub-containers last. The list is empty if there are none.

    :raises InjectionError: at the call, where it can't be known whether a provider fits.

    >>> from dependency_injector import providers
    >>> from p8fs_cluster import Container, Provide, inject
    >>> class Check: ...
    >>> class DiskCheck(Check): ...
    >>> class Application(Container):
    ...     check = providers.Singleton(Check)
    ...     disk = providers.Factory(DiskCheck)
    >>> @inject
    ... def names(checks: list[Check] = Provide[all_of(Check)]) -> list[str]:
    ...     return [type(check).__name__ for check in checks]
    >>> with Application():
    ...     names()
    ['Check', 'DiskCheck']
    """
    made = AllOf()
    made.wanted = wanted
    return made


def asks_by_type(marker: Any) -> bool:
    """Return whether a marker names a type, all of a type, or the class of a container."""
    provider = marker.provider
    if isinstance(marker, ByType) or isinstance(provider, AllOf):
        return True
    return isinstance(provider, providers.Self) and isinstance(provider(), type)


class Missing(_Provider):
    """Stands in for an argument that can't be filled: it raises, if the caller has not given the argument."""

    def __init__(self, argument: str = "", what: str = "", hint: str = "", needed: bool = True) -> None:
        super().__init__()
        self.argument, self.what, self.hint, self.needed = argument, what, hint, needed

    def __deepcopy__(self, memo: dict[Any, Any] | None = None) -> Missing:
        return Missing(self.argument, self.what, self.hint, self.needed)

    def _provide(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        raise InjectionError(f"{self.argument}: {self.what}" + (f"; {self.hint}" if self.hint else ""))


def without_covered(provider: Any, args: tuple[Any, ...]) -> dict[str, Any]:
    """Return the keyword arguments of a provider, without those filled by type that `args` of a call stand for."""
    kwargs: dict[str, Any] = provider.kwargs
    if args and getattr(provider, "filled", None):
        first = len(provider.args)
        covered = provider.filled.intersection(provider.positional[first : first + len(args)])
        return {name: value for name, value in kwargs.items() if name not in covered}
    return kwargs


async def _awaited(values: list[Any]) -> list[Any]:
    return [await value if is_awaited(value) else value for value in values]
