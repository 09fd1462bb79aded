"""`p8fs-cluster kv`: the key-value store of the settings."""

from __future__ import annotations

import typer

from p8fs_cluster.cli.output import Json, fail, print_json
from p8fs_cluster.exceptions import ClusterError

__all__ = ["kv_app"]

kv_app = typer.Typer(help="The key-value store in the database of the settings.", no_args_is_help=True)


@kv_app.callback()
def root() -> None:
    """Work on the key-value store in the database of the settings."""


@kv_app.command()
def init(as_json: Json = False) -> None:
    """Make the table of the key-value store, or upgrade it; what is there is kept, and so are the keys.

    Exit code 0 also if there was nothing to do, or 1 with the fault.
    """
    from p8fs_cluster import Container
    from p8fs_cluster.kv.stores import Stores

    try:
        with Container() as container:
            container.storage().ping()  # a server that is down is told at once
            version, added = Stores(container.config, container.storage).init()
    except ClusterError as exc:
        fail(exc, as_json)
    if as_json:
        print_json({"version": version, "added": added})
    elif added:
        typer.echo(f"the key-value store has version {version} now; added: {', '.join(map(str, added))}")
    else:
        typer.echo(f"the key-value store has version {version}; there was nothing to do")
