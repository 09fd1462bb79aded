"""`p8fs-cluster kv export`, `import` and `copy`: keys and values out of one store and into another."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p8fs_cluster.cli.output import Json, fail, interrupt, print_json, refuse, tell
from p8fs_cluster.exceptions import ClusterError

if TYPE_CHECKING:
    from p8fs_cluster.containers.container import Container
    from p8fs_cluster.kv.copy_marker import Marker
    from p8fs_cluster.kv.copy_sides import Side
    from p8fs_cluster.kv.copy_verifying import Comparison
    from p8fs_cluster.kv.copying import Pass

__all__ = ["moving_app"]

moving_app = typer.Typer()

_GOES_ON = "no value is half copied, and the same command with --resume goes on"
_STORE = "PROVIDER, or rocksdb:PATH; all else is as the settings have it."


@moving_app.command("export")
def export_(
    namespace: Annotated[str | None, typer.Option(metavar="NAME", help="By default all namespaces.")] = None,
) -> None:
    """Print what the store holds as JSON Lines: namespace, key, value, and the seconds left where it expires.

    Exit code 0, or 1 with the fault: then what was printed is not all.
    """
    from p8fs_cluster import Container
    from p8fs_cluster.kv.copy_sides import Side
    from p8fs_cluster.kv.json_lines import EVERYTHING, exported
    from p8fs_cluster.kv.keys import Space

    try:
        with Container() as container:
            span = EVERYTHING if namespace is None else Space(namespace).span()
            for line in exported(Side.of(container.config, container.storage).runner, span):
                typer.echo(line)
    except ClusterError as exc:
        fail(exc)


@moving_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `kv export` has printed; - for standard input.")],
    as_json: Json = False,
) -> None:
    """Write the values of JSON Lines to the store, over those that are there, in batches that are written as a whole.

    Exit code 0; 1 at a line that can't be used, which is told with its number, and those before it were brought in;
    2 when the file can't be read.
    """
    from p8fs_cluster import Container
    from p8fs_cluster.kv.copy_sides import Side
    from p8fs_cluster.kv.json_lines import imported

    try:
        with Container() as container:
            runner = Side.of(container.config, container.storage).runner
            with _lines(file) as lines:
                count = imported(runner, lines)
    except OSError as exc:
        refuse(f"{file} can't be read: {exc.strerror}", as_json)
    except ClusterError as exc:
        fail(exc, as_json)
    except KeyboardInterrupt:
        interrupt("interrupted, and some lines may have been brought in: the same command writes them again", as_json)
    if as_json:
        print_json({"imported": count})
    else:
        typer.echo(f"{count:,} values were brought in")


@moving_app.command("copy")
def copy(
    source: Annotated[str, typer.Option("--from", metavar="STORE", help=_STORE)],
    target: Annotated[str, typer.Option("--to", metavar="STORE", help=_STORE)],
    *,
    verify: Annotated[bool, typer.Option("--verify", help="Compare both sides, and end it if they are equal.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the copy that is under way.")] = False,
    passes: Annotated[int, typer.Option(min=1, help="So many at most, until one brings nothing.")] = 1,
    as_json: Json = False,
) -> None:
    """Copy all keys with values, versions and times left into an empty store, while the old one may serve on.

    It may be stopped in any way and goes on by --resume, which brings what has changed since, and what was deleted. The
    last one is for the time when nobody writes: --resume --verify. From then on the new store belongs to its users.
    Exit code 0; 1 with the fault, or when both sides differ; 2 when it would write over what others may need; 130 at
    Ctrl-C.
    """
    from p8fs_cluster.kv.copy_marker import CopyRefused, begun
    from p8fs_cluster.kv.copy_sides import Side

    marker: Marker | None = None
    try:
        with _store(source, as_json, reads=True) as old, _store(target, as_json) as new:
            ours, theirs = (Side.of(each.config, each.storage) for each in (old, new))
            marker = begun(ours, theirs, resume=resume)
            done = list(_passes(ours, theirs, marker, passes, as_json))
            comparison = _verified(ours, theirs, marker, as_json) if verify else None
    except CopyRefused as exc:
        refuse(exc, as_json)
    except ClusterError as exc:
        fail(exc if marker is None else f"{exc}\n{_GOES_ON}", as_json)
    except KeyboardInterrupt:
        interrupt(f"interrupted: {_GOES_ON}", as_json)
    if as_json:
        print_json(_answer(ours, theirs, done, comparison))
    else:
        _tell_end(done, comparison)
    raise typer.Exit(0 if comparison is None or comparison.equal else 1)


def _passes(source: Side, target: Side, marker: Marker, most: int, as_json: bool) -> Iterator[Pass]:
    from p8fs_cluster.cli.progress import shown_count
    from p8fs_cluster.kv.copying import copied

    for number in range(1, most + 1):
        with shown_count(f"pass {number}", not as_json, lambda: _count(source)) as told:
            done = copied(source, target, marker, told)
        if not as_json:
            typer.echo(
                f"pass {number}: {done.read:,} read, {done.put:,} written, {done.deleted:,} deleted, "
                f"in {done.seconds:.1f} s"
            )
        yield done
        if not done.brought:
            return


def _count(side: Side) -> int:
    from p8fs_cluster.kv.json_lines import EVERYTHING

    return side.runner.run(lambda store: store.count(EVERYTHING))


def _verified(source: Side, target: Side, marker: Marker, as_json: bool) -> Comparison:
    from p8fs_cluster.cli.progress import shown_count
    from p8fs_cluster.kv.copy_marker import ended
    from p8fs_cluster.kv.copy_verifying import compared

    with shown_count("verify", not as_json, lambda: _count(source)) as told:
        comparison = compared(source, target, told)
    if comparison.equal:
        ended(target, marker)
    return comparison


def _tell_end(done: list[Pass], comparison: Comparison | None) -> None:
    from p8fs_cluster.kv.copying import shown

    if comparison is None:
        tell("the copy is under way still: stop those who write to the source, then --resume --verify ends it")
        return
    for name, digest in (("source", comparison.source), ("target", comparison.target)):
        typer.echo(f"{name}: {digest.keys:,} keys, SHA-256 {digest}")
    if comparison.equal:
        typer.echo("both sides are equal, and the copy has ended")
        return
    keys = "\n  ".join(map(shown, comparison.first))
    tell(
        f"keys that differ: {comparison.differing:,}, these first:\n  {keys}\n"
        "does somebody write to the source still? --resume --verify goes on; a key that differs again after that was "
        "changed in the target: delete it there"
    )


def _answer(source: Side, target: Side, done: list[Pass], comparison: Comparison | None) -> dict[str, Any]:
    from p8fs_cluster.kv.json_lines import named

    verified = comparison and {
        "equal": comparison.equal,
        "source": {"keys": comparison.source.keys, "digest": str(comparison.source)},
        "target": {"keys": comparison.target.keys, "digest": str(comparison.target)},
        "differing": comparison.differing,
        "first": [named(key) for key in comparison.first],
    }
    passes = [{"read": each.read, "put": each.put, "deleted": each.deleted, "seconds": each.seconds} for each in done]
    return {"source": source.place, "target": target.place, "passes": passes, "verified": verified}


@contextlib.contextmanager
def _store(named: str, as_json: bool, *, reads: bool = False) -> Iterator[Container]:
    """Give the container of a store. A RocksDB that is read is opened beside the process that writes to it."""
    from p8fs_cluster import Container

    provider, colon, path = named.partition(":")
    if colon and (provider != "rocksdb" or not path):
        refuse(f"{named!r} names no store: write a provider, or rocksdb:PATH", as_json)
    settings: dict[str, Any] = {"storage_provider": provider, **({"kv_create": False} if reads else {})}
    if provider == "rocksdb":
        settings["rocksdb_mode"] = "secondary" if reads else "primary"
    if path:
        settings["rocksdb_path"] = path
    with Container(config=settings) as container:
        yield container


@contextlib.contextmanager
def _lines(file: Path) -> Iterator[Any]:
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    with file.open("rb") as opened:
        yield opened
