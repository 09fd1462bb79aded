"""The steps of `p8fs-cluster check`, and how they are told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from rich.markup import escape
from rich.table import Table

from p8fs_cluster.cli.output import on_a_line, print_json, print_table, redacted, tell
from p8fs_cluster.cli.progress import shown_steps
from p8fs_cluster.config.problems import configuration_error
from p8fs_cluster.config.section import load_installed
from p8fs_cluster.config.spelling import judge
from p8fs_cluster.containers.container import Container
from p8fs_cluster.containers.graph.checking import require
from p8fs_cluster.containers.graph.model import read
from p8fs_cluster.exceptions import ConfigurationError
from p8fs_cluster.health.checks import Run, Step, steps
from p8fs_cluster.logging.setup import LoggingSetup

__all__ = ["report"]


def report(loaded: Any, as_json: bool) -> bool:
    """Check a container, print what came of each step, and return whether all is well."""
    logging.getLogger("p8fs_cluster.config").disabled = True  # what it would warn of is listed
    LoggingSetup.default_stream("stderr")
    with shown_steps(wanted=not as_json) as run:
        done = list(_steps(loaded, run))
    if as_json:
        print_json(_report(done))
    else:
        _print(done)
    for step in done:
        if step.fault is not None:
            tell(step.fault)
    return all(step.ok for step in done)


def _steps(loaded: Any, run: Run) -> Iterator[Step]:
    container = loaded() if isinstance(loaded, type) else loaded
    checked = run("check the container", lambda: _checked(container))
    yield checked
    if not checked.ok or not issubclass(container.declarative_parent or object, Container):
        return
    settings = run("read the settings", lambda: _strictly(container))
    yield settings
    if settings.ok:
        with container:
            yield from steps(container.config, container.storage(), run)
            yield run("close", lambda: _closed(container))


def _checked(container: Any) -> str:
    require(container)
    return f"{len(read(container).nodes)} providers"


def _strictly(container: Container) -> str:
    """Validate all settings there are, those of sections that nobody has imported yet included."""
    problems = list(load_installed())
    try:
        settings = judge(container.config)
        settings.with_changes({"strict": True})
    except ConfigurationError as exc:
        if not exc.problems:
            raise
        problems += exc.problems
    if problems:
        raise configuration_error(problems)
    return "; ".join([settings.storage_provider, *map(str, settings.notes())])


def _closed(container: Container) -> str:
    container.close()
    return ""


def _report(done: list[Step]) -> dict[str, Any]:
    return {
        "ok": all(step.ok for step in done),
        "steps": [
            {
                "name": step.name,
                "ok": step.ok,
                "seconds": round(step.seconds, 6),
                "detail": step.detail,
                "fault": None if step.fault is None else redacted(str(step.fault)),
            }
            for step in done
        ],
    }


def _print(done: list[Step]) -> None:
    table = Table("step", "", "time", "")
    for step in done:
        mark = "[green]ok[/green]" if step.ok else "[red]failed[/red]"
        table.add_row(step.name, mark, f"{step.seconds * 1000:.1f} ms", escape(on_a_line(step.detail)))
    print_table(table)
