"""`p8fs-cluster storage`: whether it answers, and a copy of it."""

from __future__ import annotations

import itertools
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p8fs_cluster.cli.output import Json, fail, redacted, tell
from p8fs_cluster.exceptions import ClusterError, StorageError

if TYPE_CHECKING:
    from p8fs_cluster.containers.container import Container

__all__ = ["storage_app"]

storage_app = typer.Typer(help="The storage that the settings name.", no_args_is_help=True)


@storage_app.command()
def ping(
    watch: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(min=0.01, help="Seconds between two.")] = 1.0,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many.")] = None,
    as_json: Json = False,
) -> None:
    """Make a round trip, or one after the other, and print the time of each or its fault.

    Exit code 0, or 1 when the last one failed.
    """
    from p8fs_cluster import Container

    times = range(count or 1) if count or not watch else itertools.count()
    ok = False
    try:
        with Container() as container:
            for number in times:
                if number:
                    time.sleep(interval)
                answer = _pinged(container)
                ok = answer["fault"] is None
                typer.echo(json.dumps(answer) if as_json else _line(answer))
    except KeyboardInterrupt:
        if not watch:
            raise
    except ClusterError as exc:
        if as_json:
            typer.echo(json.dumps(_answer(fault=redacted(str(exc)))))
        fail(exc)
    raise typer.Exit(0 if ok else 1)


@storage_app.command()
def checkpoint(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is not there yet.")],
) -> None:
    """Copy an embedded store whole, as its backup. While another process has it open, only that one can do so.

    Exit code 0, or 1 with the fault.
    """
    from p8fs_cluster import Container

    try:
        with Container() as container:
            container.storage().checkpoint(folder)
    except ClusterError as exc:
        fail(exc)
    tell(f"a copy of the storage is in {folder}")


@storage_app.command()
def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A checkpoint.")],
) -> None:
    """Copy a checkpoint of an embedded store to where the settings have it, which must not be there yet, or be empty.

    Exit code 0, or 1 with the fault.
    """
    from p8fs_cluster import Container
    from p8fs_cluster.providers.storage.engines import spec_of

    try:
        container = Container()
        settings = container.config()
        spec = spec_of(settings)
        engine: Any = spec.engine_class()(settings)
        if not hasattr(engine, "restore"):
            raise StorageError(f"{spec.provider} has no checkpoints: use {spec.backup}")
        place = engine.restore(folder)
    except ClusterError as exc:
        fail(exc)
    tell(f"{folder} is restored to {place}")


def _pinged(container: Container) -> dict[str, Any]:
    answer = _answer(provider=container.storage().provider)
    try:
        answer["seconds"] = round(container.storage().ping(), 6)
    except ClusterError as exc:
        answer["fault"] = redacted(str(exc))
    return answer


def _answer(**known: Any) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {"time": now, "provider": None, "seconds": None, "fault": None, **known}


def _line(answer: dict[str, Any]) -> str:
    told = answer["fault"] or f"{1000 * answer['seconds']:.2f} ms"
    return f"{answer['time']}  {answer['provider']}  {told}"
