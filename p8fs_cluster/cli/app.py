"""`p8fs-cluster`: what an operator asks of the settings and the storage."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from p8fs_cluster.cli.loading import LoadingError, load
from p8fs_cluster.cli.output import Json, print_json, redacted, refuse, tell
from p8fs_cluster.cli.settings import config_app
from p8fs_cluster.cli.storage import storage_app
from p8fs_cluster.config.problems import configuration_error
from p8fs_cluster.config.section import load_installed
from p8fs_cluster.config.spelling import judge
from p8fs_cluster.containers.checking import require
from p8fs_cluster.containers.container import Container
from p8fs_cluster.containers.drawing import dot, mermaid, svg
from p8fs_cluster.containers.graph import read
from p8fs_cluster.exceptions import ConfigurationError
from p8fs_cluster.health.checks import Step, run, steps

__all__ = ["app", "main"]

Format = Literal["mermaid", "dot", "svg"]

OURS = "p8fs_cluster:Container"
DRAWN = {"mermaid": mermaid, "dot": dot, "svg": svg}
ENDINGS: dict[str, Format] = {
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".dot": "dot",
    ".gv": "dot",
    ".svg": "svg",
}

app = typer.Typer(
    help="Checks and shows what P8FS services stand on.", no_args_is_help=True, pretty_exceptions_enable=False
)
app.add_typer(config_app, name="config")
app.add_typer(storage_app, name="storage")

Target = Annotated[
    str,
    typer.Argument(metavar="MODULE:CONTAINER", help="A container, a class of such, or a function that makes one."),
]


@app.command()
def check(target: Target = OURS, as_json: Json = False) -> None:
    """Check the container, validate the settings, open the storage, make one real round trip.

    A misspelt setting is a fault here, whatever P8FS_STRICT says, and so is a section that can't be loaded.
    Exit code 0, or 1 with every fault; 2 when there is no such container.
    """
    logging.getLogger("p8fs_cluster.config").disabled = True  # what it would warn of is listed as a fault
    done = list(_steps(_loaded(target)))
    if as_json:
        print_json(_report(done))
    else:
        _print(done)
    raise typer.Exit(0 if all(step.ok for step in done) else 1)


@app.command()
def graph(
    target: Target = OURS,
    form: Annotated[Format | None, typer.Option("--format", help="By default as the file's ending says.")] = None,
    output: Annotated[Path | None, typer.Option(help="The file to write, instead of printing.")] = None,
) -> None:
    """Draw what a container holds, and what needs what. Nothing of it is built, and no setting is read."""
    drawn = DRAWN[form or _format_of(output)](read(_loaded(target)))
    if output is None:
        typer.echo(drawn)
        return
    try:
        output.write_text(drawn + "\n", "utf-8")
    except OSError as exc:
        refuse(f"{output} can't be written: {exc.strerror}")


def main() -> None:
    """Run the command. What the output's encoding lacks is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()


def _loaded(target: str) -> Any:
    try:
        return load(target)
    except LoadingError as exc:
        refuse(str(exc))


def _format_of(output: Path | None) -> Format:
    if output is None:
        return "mermaid"
    if output.suffix not in ENDINGS:
        refuse(f"{output} does not say a format: use --format, or an ending of {', '.join(ENDINGS)}")
    return ENDINGS[output.suffix]


def _steps(loaded: Any) -> Iterator[Step]:
    container = loaded() if isinstance(loaded, type) else loaded
    checked = run("check the container", lambda: _checked(container))
    yield checked
    if not checked.ok or not issubclass(container.declarative_parent or object, Container):
        return
    settings = run("read the settings", lambda: _strictly(container))
    yield settings
    if settings.ok:
        with container:
            yield from steps(container.config, container.storage())
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
    return settings.storage_provider


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
        table.add_row(step.name, mark, f"{step.seconds * 1000:.1f} ms", step.detail)
    Console().print(table)
    for step in done:
        if step.fault is not None:
            tell(step.fault)
