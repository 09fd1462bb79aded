"""A command line whose commands all run within one container.

P8FS_STORAGE_PROVIDER=rocksdb python -m examples.typer_app add README.md
P8FS_STORAGE_PROVIDER=rocksdb python -m examples.typer_app find storage
"""

from __future__ import annotations

from pathlib import Path

import typer

from examples import documents
from p8fs_cluster.frameworks.typer import enter

app = typer.Typer()


@app.callback()
def main(ctx: typer.Context) -> None:
    """Store text files and look words up."""
    enter(ctx)
    documents.prepare()


@app.command()
def add(paths: list[Path]) -> None:
    """Take files in."""
    taken = documents.take_in(paths)  # type: ignore[call-arg]
    typer.echo(f"Took in {taken}; {documents.count()} are stored.")


@app.command()
def find(word: str) -> None:
    """Name the documents that hold a word; exit code 1 when there is none."""
    names = documents.find(word)
    typer.echo("\n".join(names))
    raise typer.Exit(0 if names else 1)


if __name__ == "__main__":
    app()
