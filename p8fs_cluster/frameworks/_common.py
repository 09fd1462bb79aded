"""Parts that the frameworks' modules share: the `container` parameter, scopes, the answer to a fault of the store."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from p8fs_cluster.config import spelling
from p8fs_cluster.containers.container import Container
from p8fs_cluster.di.scopes import InThread, Scope
from p8fs_cluster.di.serving import given_in, wanted_by
from p8fs_cluster.exceptions import InjectionError
from p8fs_cluster.providers.storage.engines import Fault
from p8fs_cluster.providers.storage.faults import fault_of

__all__ = ["Given", "Refusal", "container_of", "failure", "finished", "opened_scope", "refusal", "require_given"]

log = logging.getLogger(__name__)

Given: TypeAlias = Container | Callable[[], Container] | None
"""A container, a Container class or another function that makes one, or None for a new `Container()`."""


def container_of(given: Given) -> Container:
    """Return the container that is meant: the very one, or a new one.

    >>> container = Container()
    >>> container_of(container) is container, container_of(lambda: container) is container
    (True, True)
    """
    if given is None:
        return Container()
    return given() if callable(given) else given


def set_logging_up(container: Container) -> None:
    """Set logging up as the settings say, before anything of a start can fail, and judge their names from now on.

    :raises ConfigurationError: the settings can't be used.
    """
    spelling.complete()
    container.loggers().set_up()


def opened_scope(
    container: Container,
    name: str,
    values: Mapping[Any, Any] | None = None,
    *,
    offered: Mapping[Any, Any] | None = None,
    in_thread: InThread | None = None,
) -> Scope:
    """Return a scope of the container, to be opened. What is `offered` need not be declared.

    `in_thread` awaits what opens or closes a synchronous value of an asynchronous scope.
    """
    scope = container.scope(name, values)
    scope.in_thread = in_thread
    scope.give(offered or {}, declared_or_not=True)
    return scope


def require_given(container: Container, scope: str, offered: Iterable[Any]) -> None:
    """Refuse a container that declares values of a scope that the framework does not give.

    :raises InjectionError: with their names.
    """
    offered = tuple(offered)
    missing = [provider for provider in given_in(container, scope) if wanted_by(provider) not in offered]
    if missing:
        names = ", ".join(sorted(getattr(wanted_by(each), "__name__", str(wanted_by(each))) for each in missing))
        raise InjectionError(f"nobody gives the scope {scope!r} its values ({names}): pass `values=`")


def finished(result: Any) -> Any:
    """Return the result of a job. A promise is no result: the job's scope would end before the work has begun.

    :raises TypeError: it is a promise.
    """
    if inspect.isawaitable(result):
        getattr(result, "close", lambda: None)()
        raise TypeError(
            "the work is asynchronous, and nothing awaits it here: write a function that runs it to its end"
        )
    return result


def failure(exc: BaseException | None) -> BaseException | None:
    """Return the exception of a command that failed; None for one that ends with exit code 0.

    >>> failure(SystemExit(0)) is None, failure(SystemExit(1))
    (True, SystemExit(1))
    """
    code = exc.code if isinstance(exc, SystemExit) else getattr(exc, "exit_code", 1)
    return exc if code else None


class Refusal(NamedTuple):
    """The answer to a fault of the store, which tells nothing of the store."""

    status: int
    body: Mapping[str, str]
    headers: Mapping[str, str]


def refusal(exc: BaseException, method: str) -> Refusal | None:
    """Log a fault of the store, and return the answer to it; None if the exception is no such fault.

    What did not answer in time may have been carried out, so that only methods that may be repeated (RFC 9110, 9.2.2)
    are told when: there are clients and proxies that repeat any request with a `Retry-After`.

    >>> refusal(ValueError("too long"), "GET") is None
    True
    """
    told = fault_of(exc)
    if told is None:
        return None
    log.error("%s", told.error)
    if told.fault is Fault.UNAVAILABLE:
        return Refusal(503, {"detail": "the storage does not answer"}, _RETRY)
    headers = _RETRY if method in _IDEMPOTENT else {}
    return Refusal(504, {"detail": "the storage did not answer in time"}, headers)


_RETRY = {"Retry-After": "5"}
"""In seconds: what a failover takes."""

_IDEMPOTENT = ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE")
