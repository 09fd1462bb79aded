"""A sign of life on a terminal: which step runs, and since when."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from p8fs_cluster.health.checks import Run, Step, run

__all__ = ["shown_steps"]


@contextmanager
def shown_steps(wanted: bool) -> Iterator[Run]:
    """Give what runs a step. If wanted, a standard error that is a terminal shows the step for as long as it runs.

    >>> with shown_steps(wanted=False) as run:
    ...     run("think", lambda: "done").detail
    'done'
    """
    if not wanted or not sys.stderr.isatty():
        yield run
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:

        def run_shown(name: str, action: Callable[[], str]) -> Step:
            task = progress.add_task(escape(name), total=None)
            try:
                return run(name, action)
            finally:
                progress.remove_task(task)

        yield run_shown
