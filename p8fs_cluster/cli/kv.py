"""`p8fs-cluster kv`: the key-value store of the settings, for an operator."""

from __future__ import annotations

import base64
import contextlib
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p8fs_cluster.cli.kv_moving import moving_app
from p8fs_cluster.cli.output import Json, fail, on_a_line, print_json, print_table
from p8fs_cluster.exceptions import ClusterError

if TYPE_CHECKING:
    from p8fs_cluster.containers.container import Container
    from p8fs_cluster.kv import KV

__all__ = ["kv_app"]

kv_app = typer.Typer(help="The key-value store in the database of the settings.", no_args_is_help=True)
kv_app.add_typer(moving_app)

Namespace = Annotated[str | None, typer.Option(metavar="NAME", help="As the program has it: kv.namespace(NAME).")]
Base64 = Annotated[bool, typer.Option("--base64", help="Keys and values are base64, as given and as printed.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="Text, or base64 with --base64.")]
Prefix = Annotated[str, typer.Argument(metavar="[PREFIX]", help="Which the keys begin with; by default all keys.")]


@kv_app.callback()
def root() -> None:
    """Work on the key-value store in the database of the settings."""


@kv_app.command()
def init(as_json: Json = False) -> None:
    """Make the table of the key-value store, or upgrade it; what is there is kept, and so are the keys.

    Exit code 0 also if there was nothing to do, or 1 with the fault.
    """
    from p8fs_cluster.kv.stores import Stores

    with _opened(as_json) as container:
        container.storage().ping()  # a server that is down is told at once
        version, added = Stores(container.config, container.storage).init()
    if as_json:
        print_json({"version": version, "added": added})
    elif added:
        typer.echo(f"the key-value store has version {version} now; added: {', '.join(map(str, added))}")
    else:
        typer.echo(f"the key-value store has version {version}; there was nothing to do")


@kv_app.command()
def get(key: Key, namespace: Namespace = None, is_base64: Base64 = False, as_json: Json = False) -> None:
    """Write a value to the standard output, its bytes as they are.

    Exit code 0, or 1 if it is not there, or can't be asked for.
    """
    from p8fs_cluster.kv.json_lines import spelt

    with _keys(namespace, as_json) as kv:
        entry = kv.entry(_given(key, is_base64))
    if entry is None:
        fail(f"there is no {key!r}{_within(namespace)}", as_json)
    if as_json:
        ttl = None if entry.ttl == float("inf") else entry.ttl
        print_json({**spelt("key", entry.key), **spelt("value", entry.value), "version": entry.version, "ttl": ttl})
        return
    sys.stdout.buffer.write(base64.b64encode(entry.value) + b"\n" if is_base64 else entry.value)
    sys.stdout.buffer.flush()


@kv_app.command()
def put(
    key: Key,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Text, base64 with --base64, or - for standard input.")],
    *,
    namespace: Namespace = None,
    ttl: Annotated[float | None, typer.Option(metavar="SECONDS", help="Until it is gone; by default never.")] = None,
    is_base64: Base64 = False,
    as_json: Json = False,
) -> None:
    """Write a value, whatever was there, and print its version. A value that is no secret may stand in the command.

    Exit code 0, or 1 with the fault.
    """
    with _keys(namespace, as_json) as kv:
        if value == "-":
            given = sys.stdin.buffer.read()
            content = _given(given.decode("ascii", "replace").strip(), True) if is_base64 else given
        else:
            content = _given(value, is_base64)
        version = kv.put(_given(key, is_base64), content, ttl=ttl)
    if as_json:
        print_json({"version": version})
    else:
        typer.echo(version)


@kv_app.command()
def delete(key: Key, namespace: Namespace = None, is_base64: Base64 = False, as_json: Json = False) -> None:
    """Delete a value.

    Exit code 0 also if it was not there, or 1 with the fault.
    """
    with _keys(namespace, as_json) as kv:
        deleted = kv.take(_given(key, is_base64)) is not None
    if as_json:
        print_json({"deleted": deleted})
    else:
        typer.echo("deleted" if deleted else "there was nothing to delete")


@kv_app.command()
def scan(
    prefix: Prefix = "",
    *,
    namespace: Namespace = None,
    limit: Annotated[int | None, typer.Option(min=1, help="So many at most.")] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="From the last key to the first one.")] = False,
    keys_only: Annotated[bool, typer.Option("--keys-only", help="Without values.")] = False,
    is_base64: Base64 = False,
    as_json: Json = False,
) -> None:
    """Print keys and values in the order of bytes, a line each; with --json each line is an object.

    Exit code 0, or 1 with the fault.
    """
    with _keys(namespace, as_json) as kv:
        given = _given(prefix, is_base64)
        pairs: Iterator[tuple[bytes, ...]] = kv.scan(given, limit=limit, reverse=reverse)
        if keys_only:
            pairs = zip(kv.scan(given, limit=limit, reverse=reverse, keys_only=True), strict=True)
        for pair in pairs:
            typer.echo(_json_line(pair) if as_json else _line(pair, is_base64))


@kv_app.command()
def count(prefix: Prefix = "", namespace: Namespace = None, is_base64: Base64 = False, as_json: Json = False) -> None:
    """Count keys; that takes as long as there are many.

    Exit code 0, or 1 with the fault.
    """
    with _keys(namespace, as_json) as kv:
        counted = kv.count(_given(prefix, is_base64))
    if as_json:
        print_json({"count": counted})
    else:
        typer.echo(counted)


@kv_app.command()
def stats(as_json: Json = False) -> None:
    """Print what the store holds, by namespace, and its limits; that takes as long as there are many keys.

    Exit code 0, or 1 with the fault.
    """
    from p8fs_cluster.kv.copy_sides import Side
    from p8fs_cluster.kv.inventory import inventory

    with _opened(as_json) as container:
        told = inventory(Side.of(container.config, container.storage))
    if as_json:
        print_json(told)
        return
    _print_namespaces(told.pop("namespaces"))
    under_way = told.pop("copy")
    typer.echo(", ".join(f"{name} {value:,}" if isinstance(value, int) else value for name, value in told.items()))
    if under_way:
        typer.echo(f"a copy from {under_way['source']} is under way since {under_way['begun']}")


@contextlib.contextmanager
def _opened(as_json: bool) -> Iterator[Container]:
    """Give a container, and end the command at a fault."""
    from p8fs_cluster import Container

    try:
        with Container() as container:
            yield container
    except ClusterError as exc:
        fail(exc, as_json)


@contextlib.contextmanager
def _keys(namespace: str | None, as_json: bool) -> Iterator[KV[bytes]]:
    """Give the keys of a namespace, None: those without one."""
    with _opened(as_json) as container:
        yield container.kv() if namespace is None else container.kv().namespace(namespace)


def _given(text: str, is_base64: bool) -> bytes:
    from p8fs_cluster.kv.json_lines import of_base64

    return of_base64(text, "--base64") if is_base64 else text.encode("utf-8", "surrogateescape")


def _within(namespace: str | None) -> str:
    return "" if namespace is None else f" in the namespace {namespace!r}"


def _json_line(pair: tuple[bytes, ...]) -> str:
    from p8fs_cluster.kv.json_lines import spelt

    told: dict[str, str] = {}
    for name, part in zip(("key", "value"), pair, strict=False):
        told |= spelt(name, part)
    return json.dumps(told, ensure_ascii=False)


def _line(pair: tuple[bytes, ...], is_base64: bool) -> str:
    if is_base64:
        return "\t".join(base64.b64encode(part).decode() for part in pair)
    return "\t".join(on_a_line(part.decode(errors="backslashreplace")) for part in pair)


def _print_namespaces(namespaces: list[dict[str, Any]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("namespace", "keys", "expired")
    for each in namespaces:
        table.add_row(escape(on_a_line(each["namespace"])), f"{each['keys']:,}", f"{each['expired']:,}")
    print_table(table)
