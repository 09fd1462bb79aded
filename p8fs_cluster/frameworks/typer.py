"""Typer and Click: the container, and a scope, for the life of a command."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

from p8fs_cluster.config import secrets
from p8fs_cluster.containers.container import Container
from p8fs_cluster.exceptions import ClusterError
from p8fs_cluster.frameworks._common import Given, container_of, failure, opened_scope, require_given
from p8fs_cluster.logging.redaction import Redactor
from p8fs_cluster.logging.setup import LoggingSetup

__all__ = ["enter"]

log = logging.getLogger(__name__)

T = TypeVar("T")


class _Context(Protocol):
    """The method that `typer.Context` and `click.Context` have in common."""

    def with_resource(self, context_manager: AbstractContextManager[T]) -> T: ...


def enter(ctx: _Context, container: Given = None) -> Container:
    """Enter the container until the command ends, by whatever way, and return it.

    Called in a group's callback, it covers the commands of the group. The command has a scope "job", in one of
    "application": it ends with the command, told of its exception, or of an exit code that is not 0.

    A ClusterError that leaves the command becomes its message on the standard error, without secrets, and exit code 1:
    SystemExit, raised from the error, in standalone mode or not. The log has the traceback at level DEBUG.

    :raises SystemExit: the container declares values of these scopes, which nobody gives; the message names them.

    >>> import typer
    >>> app = typer.Typer()
    >>> @app.callback()
    ... def main(ctx: typer.Context) -> None:
    ...     enter(ctx)
    """
    ctx.with_resource(_records_on_stderr())
    ctx.with_resource(_told())
    opened = ctx.with_resource(container_of(container))
    for name in ("application", "job"):
        require_given(opened, name, ())
        ctx.with_resource(_scope(opened, name))
    return opened


@contextmanager
def _records_on_stderr() -> Iterator[None]:
    """Keep stdout to the command's output, unless `P8FS_LOG_STREAM` says otherwise."""
    before = LoggingSetup.default_stream("stderr")
    try:
        yield
    finally:
        LoggingSetup.default_stream(before)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except ClusterError as exc:
        log.debug("the command failed", exc_info=True)
        print(Redactor(secrets.known)(str(exc)), file=sys.stderr)
        raise SystemExit(1) from exc


@contextmanager
def _scope(container: Container, name: str) -> Iterator[None]:
    scope = opened_scope(container, name)
    scope.begin()
    try:
        yield
    except BaseException as exc:
        scope.end(failure(exc))
        raise
    scope.end()
