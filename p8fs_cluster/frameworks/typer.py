"""Typer and Click: the container for the life of a command."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from p8fs_cluster.containers.container import Container
from p8fs_cluster.frameworks.given import Given, container_of

__all__ = ["enter"]

T = TypeVar("T")


class _Context(Protocol):
    """What `typer.Context` and `click.Context` have in common."""

    def with_resource(self, context_manager: AbstractContextManager[T]) -> T: ...


def enter(ctx: _Context, container: Given = None) -> Container:
    """Enter the container until the command ends, by whatever way, and return it.

    Called in a group's callback, it covers the commands of the group.

    >>> import typer
    >>> app = typer.Typer()
    >>> @app.callback()
    ... def main(ctx: typer.Context) -> None:
    ...     enter(ctx)
    """
    return ctx.with_resource(container_of(container))
