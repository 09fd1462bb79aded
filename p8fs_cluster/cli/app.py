"""`p8fs-cluster`: what an operator asks of the settings and the storage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from p8fs_cluster.cli.documentation import settings_table
from p8fs_cluster.config.settings import PREFIX, P8FSConfig
from p8fs_cluster.containers.container import Container
from p8fs_cluster.exceptions import ConfigurationError
from p8fs_cluster.health.checks import Step, run, steps

__all__ = ["app", "main"]

MASK = "**********"

app = typer.Typer(
    help="Checks and shows what P8FS services stand on.", no_args_is_help=True, pretty_exceptions_enable=False
)
config_app = typer.Typer(help="Shows the settings.", no_args_is_help=True)
app.add_typer(config_app, name="config")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.command()
def check(as_json: Json = False) -> None:
    """Validate the settings, open the storage, make one real round trip. Exit code 0, or 1 with the fault."""
    done = list(_steps())
    if as_json:
        typer.echo(json.dumps(_report(done), indent=2, ensure_ascii=False))
    else:
        _print(done)
    raise typer.Exit(0 if all(step.ok for step in done) else 1)


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


def _steps() -> Iterator[Step]:
    container = Container()
    loaded = run("read the settings", lambda: container.config().storage_provider)
    yield loaded
    if loaded.ok:
        with container:
            yield from steps(container.config(), container.storage())
            yield run("close", lambda: _closed(container))


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
