"""`p8fs-cluster`: what an operator asks of the settings, the storage and the cluster.

What a command needs beyond its own arguments is imported when it runs, because completion waits for this module.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from p8fs_cluster import __version__
from p8fs_cluster.cli.cluster import cluster_app
from p8fs_cluster.cli.completion import OURS, complete_container, is_asked, silence
from p8fs_cluster.cli.drawing import Format
from p8fs_cluster.cli.kv import kv_app
from p8fs_cluster.cli.output import Json, refuse
from p8fs_cluster.cli.settings import config_app
from p8fs_cluster.cli.storage import storage_app

__all__ = ["NAME", "app", "main"]

NAME = "p8fs-cluster"

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(config_app, name="config")
app.add_typer(storage_app, name="storage")
app.add_typer(cluster_app, name="cluster")
app.add_typer(kv_app, name="kv")

Target = Annotated[
    str,
    typer.Argument(
        metavar="MODULE:CONTAINER",
        help="A container, a class of such, or a function that makes one.",
        autocompletion=complete_container,
    ),
]


def _tell_version(ctx: typer.Context, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:  # which completion does
        typer.echo(f"{NAME} {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Checks and shows what P8FS services stand on."""


@app.command()
def check(target: Target = OURS, as_json: Json = False) -> None:
    """Check the container, validate the settings, open the storage, make one real round trip.

    A misspelt setting is a fault here, whatever P8FS_STRICT says, and so is a section that can't be loaded.
    Exit code 0, or 1 with every fault; 2 when there is no such container.
    """
    from p8fs_cluster.cli.checking import report

    raise typer.Exit(0 if report(_loaded(target, as_json), as_json) else 1)


@app.command()
def graph(
    target: Target = OURS,
    form: Annotated[Format | None, typer.Option("--format", help="By default as the file's ending says.")] = None,
    output: Annotated[Path | None, typer.Option(help="The file to write, instead of printing.")] = None,
) -> None:
    """Draw what a container holds, and what needs what. Nothing of it is built, and no setting is read.

    SVG is drawn by Graphviz, whose command `dot` has to be installed. Exit code 2 if it is not.
    """
    from p8fs_cluster.cli.drawing import drawn, format_of

    text = drawn(_loaded(target), form or format_of(output))
    if output is None:
        typer.echo(text)
        return
    try:
        output.write_text(text + "\n", "utf-8")
    except OSError as exc:
        refuse(f"{output} can't be written: {exc.strerror}")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Its folder, which is made if need be.")] = Path(),
    name: Annotated[str | None, typer.Option(help="The package's name; by default as the folder's.")] = None,
) -> None:
    """Write a small project: container, settings, service, test, and manifests for Kubernetes.

    It runs at once, over an embedded store; its README.md says how. Exit code 2 if a file of it is there already: then
    nothing is written.
    """
    from p8fs_cluster.cli import project

    name = project.name_of(folder) if name is None else name
    if fault := project.misnamed(name):
        refuse(f"{fault} (--name)")
    texts = project.project(name)
    try:
        project.write(folder, texts)
    except FileExistsError as exc:
        refuse(f"{exc.filename} is there already, and nothing was written")
    except OSError as exc:
        refuse(f"{exc.filename} can't be written: {exc.strerror}; nothing was")
    typer.echo("\n".join(str(folder / place) for place in texts))


def main() -> None:
    """Run the command. What the output's encoding lacks is escaped."""
    if is_asked():
        silence()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app(prog_name=NAME)


def _loaded(target: str, as_json: bool = False) -> Any:
    from p8fs_cluster.cli.loading import LoadingError, load

    try:
        return load(target)
    except LoadingError as exc:
        refuse(exc, as_json)
