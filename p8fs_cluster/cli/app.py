"""`p8fs-cluster`: what an operator asks of the settings and the storage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from p8fs_cluster.cli.documentation import settings_table
from p8fs_cluster.cli.loading import LoadingError, load
from p8fs_cluster.config.settings import PREFIX, P8FSConfig
from p8fs_cluster.containers.checking import require
from p8fs_cluster.containers.container import Container
from p8fs_cluster.containers.drawing import dot, mermaid, svg
from p8fs_cluster.containers.graph import read
from p8fs_cluster.exceptions import ConfigurationError
from p8fs_cluster.health.checks import Step, run, steps

__all__ = ["app", "main"]

Format = Literal["mermaid", "dot", "svg"]

MASK = "**********"
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
config_app = typer.Typer(help="Shows the settings.", no_args_is_help=True)
app.add_typer(config_app, name="config")

Target = Annotated[
    str,
    typer.Argument(metavar="MODULE:CONTAINER", help="A container, a class of such, or a function that makes one."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.command()
def check(target: Target = OURS, as_json: Json = False) -> None:
    """Check the container, validate the settings, open the storage, make one real round trip.

    Exit code 0, or 1 with the fault; 2 when there is no such container.
    """
    done = list(_steps(_loaded(target)))
    if as_json:
        typer.echo(json.dumps(_report(done), indent=2, ensure_ascii=False))
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
        _refuse(f"{output} can't be written: {exc.strerror}")


@config_app.command()
def show(as_json: Json = False) -> None:
    """Print the effective settings and where each comes from, secrets masked."""
    try:
        settings = P8FSConfig()
    except ConfigurationError as exc:
        typer.echo(str(exc), err=True)
        raise typer.Exit(1) from None
    shown = {name: {"value": _masked(getattr(settings, name)), "source": settings.origin(name)} for name in _names()}
    if as_json:
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    table = Table("setting", "value", "source")
    for name, entry in shown.items():
        table.add_row(
            PREFIX + name.upper(),
            escape("" if entry["value"] is None else str(entry["value"])),
            escape(entry["source"]),
        )
    _wide().print(table)


@config_app.command()
def docs() -> None:
    """Print the table of all settings in Markdown."""
    typer.echo(settings_table())


def main() -> None:
    """Run the command."""
    app()


def _loaded(target: str) -> Any:
    try:
        return load(target)
    except LoadingError as exc:
        _refuse(str(exc))


def _format_of(output: Path | None) -> Format:
    if output is None:
        return "mermaid"
    if output.suffix not in ENDINGS:
        _refuse(f"{output} does not say a format: use --format, or an ending of {', '.join(ENDINGS)}")
    return ENDINGS[output.suffix]


def _refuse(reason: str) -> NoReturn:
    typer.echo(reason, err=True)
    raise typer.Exit(2)


def _steps(loaded: Any) -> Iterator[Step]:
    container = loaded() if isinstance(loaded, type) else loaded
    checked = run("check the container", lambda: _checked(container))
    yield checked
    if not checked.ok or not issubclass(container.declarative_parent or object, Container):
        return
    settings = run("read the settings", lambda: container.config().storage_provider)
    yield settings
    if settings.ok:
        with container:
            yield from steps(container.config, container.storage())
            yield run("close", lambda: _closed(container))


def _checked(container: Any) -> str:
    require(container)
    return f"{len(read(container).nodes)} providers"


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
                "fault": None if step.fault is None else str(step.fault),
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
            typer.echo(str(step.fault), err=True)


def _names() -> list[str]:
    return list(P8FSConfig.model_fields)


def _masked(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    return value if isinstance(value, (str, int, float, type(None))) else str(value)


def _wide() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=160)
