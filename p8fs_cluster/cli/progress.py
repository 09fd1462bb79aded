"""A sign of life on a terminal: which step runs, and since when; how far a long one is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from p8fs_cluster.health.checks import Run, Step, run

__all__ = ["shown_count", "shown_steps"]


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


@contextmanager
def shown_count(name: str, wanted: bool, total: Callable[[], int]) -> Iterator[Callable[[int], None]]:
    """Give what is told how many more are done. If wanted, a standard error that is a terminal shows a bar with the
    rate and the time left; only then `total` is asked for.

    >>> with shown_count("copy", wanted=False, total=lambda: 10) as told:
    ...     told(10)
    """
    if not wanted or not sys.stderr.isatty():
        yield lambda count: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        task = progress.add_task(escape(name), total=None)
        progress.update(task, total=total())
        yield lambda count: progress.advance(task, count)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:,.0f}/s")
