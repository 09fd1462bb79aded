"""The scope that a provider's value belongs to, of those that are open here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from p8fs_cluster.di import context
from p8fs_cluster.di.lookup import with_subcontainers
from p8fs_cluster.di.overriding import Overridable
from p8fs_cluster.di.ownership import named, owned
from p8fs_cluster.exceptions import InjectionError
from p8fs_cluster.forking import Stage, after_fork

if TYPE_CHECKING:
    from p8fs_cluster.di.scopes import Scope

__all__ = [
    "Succession",
    "given_in",
    "has_ended",
    "innermost",
    "name_of_wanted",
    "opened_here",
    "scoped_of",
    "serving_scope",
    "wanted_by",
]


_opening = threading.RLock()


class Succession:
    """A scope that takes the place of one that has ended, opened when it is first looked for."""

    def __init__(self, make: Callable[[], Scope]) -> None:
        self._make: Callable[[], Scope] | None = make
        self._scope: Scope | None = None
        self._is_making = False

    def scope(self) -> Scope | None:
        """Return the scope; None while it is being opened here, or if it was not before the succession ended."""
        if self._scope is None and self._make is not None:
            with _opening:  # another thread may be opening it
                if not self._is_making:
                    self._is_making = True  # before it is known whether it may, so that `end` waits for it
                    make = self._make
                    self._scope = None if make is None else make()
        return self._scope

    def end(self) -> Scope | None:
        """Return the scope if it was opened, and open none from now on."""
        self._make = None
        if not self._is_making:
            return None
        with _opening:
            return self._scope


def opened_here() -> Iterator[Scope]:
    """Yield the scopes that were opened here, innermost first; some may have ended."""
    stack = context.in_force.get().scopes
    while stack is not None:
        scope, stack = stack
        if scope.ended and scope.succession is not None:
            scope = scope.succession.scope() or scope
        yield scope


def innermost(container: Any) -> Scope | None:
    """Return the innermost scope of a container that was opened here; it may have ended."""
    return next((scope for scope in opened_here() if scope.container is container), None)


def given_in(container: Any, scope: str) -> list[Overridable[Any]]:
    """Return the providers of a container whose values are to be given when that scope is opened."""
    kept = container._cache.values
    found: list[Overridable[Any]] | None = kept.get((given_in, scope))
    if found is None:
        found = [each for each in scoped_of(container) if wanted_by(each) is not None and each.scope == scope]
        kept[given_in, scope] = found
    return found


def serving_scope(provider: Overridable[Any]) -> Scope:
    """Return the open scope that a provider's value belongs to here.

    :raises InjectionError: there is none.
    """
    name, strangers = provider.scope, []
    stack = context.in_force.get().scopes
    if stack is not None:
        nearest: Scope = stack[0]
        if nearest.name == name and not nearest.ended and nearest.owns(provider):
            return nearest
    for inner in opened_here():
        if inner.serves(provider):
            for scope in inner.chain():
                if scope.name == name:
                    if scope.ended:
                        raise has_ended(provider, scope)
                    return scope
            break
        strangers.append(inner)
    stranger = next((inner.container for inner in strangers if inner.name == name), None)
    if stranger is not None:
        raise InjectionError(
            f"{named(provider)}: the scope {name!r} that is open here is one of another container "
            f"({stranger.parent_name})"
        )
    raise InjectionError(
        f"{named(provider)} belongs to the scope {name!r}, and none is open in this task or thread: write "
        f"`with container.scope({name!r}):`. {_OPENED_BY.get(name or '', '')}"
        "A thread of your own sees the scope if it runs in a copy of the context"
    )


_OPENED_BY: Mapping[str, str] = {
    "application": "The frameworks open one for as long as an application runs. ",
    "websocket": "p8fs_cluster.frameworks opens one for each websocket. ",
    "request": "p8fs_cluster.frameworks opens one for each request and each message of a websocket. ",
    "job": "p8fs_cluster.frameworks opens one for each task, job, command and background task. ",
}


def has_ended(provider: Overridable[Any], scope: Scope) -> InjectionError:
    """Return the error of asking for a value after its scope."""
    return InjectionError(
        f"{named(provider)}: the scope {scope.name!r} of this task or thread has ended, and what was open in it is "
        "closed: what goes on afterwards needs a scope of its own"
    )


def wanted_by(provider: Overridable[Any]) -> Any:
    """Return the type of a value that is given to the scope; None if the provider builds it."""
    return getattr(provider, "wanted", None)


def name_of_wanted(wanted: Any) -> str:
    """Return how messages call the type of a value."""
    return getattr(wanted, "__name__", None) or str(wanted)


def scoped_of(container: Any) -> dict[Overridable[Any], None]:
    """Return the scoped providers of a container and of what it is made of, found out once until something changes."""
    kept = container._cache.values
    found: dict[Overridable[Any], None] | None = kept.get(scoped_of)
    if found is None:
        all_of_it = owned(provider for each in with_subcontainers(container) for provider in each.providers.values())
        found = kept[scoped_of] = {each: None for each in all_of_it if isinstance(each, Overridable) and each.scope}
    return found


def _after_fork() -> None:
    global _opening  # noqa: PLW0603
    _opening = threading.RLock()


after_fork(Stage.LOCKS, _after_fork)
