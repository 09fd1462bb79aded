"""`p8fs-cluster cluster`: the nodes, leaders and locks that share a database, and what an operator does to them."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p8fs_cluster.cli.output import Json, fail, on_a_line, print_json, print_table, redacted, refuse, tell
from p8fs_cluster.exceptions import ClusterError

if TYPE_CHECKING:
    from p8fs_cluster.containers.container import Container
    from p8fs_cluster.coordination.coordinator import Connected
    from p8fs_cluster.coordination.inspection import Lease
    from p8fs_cluster.coordination.views import Change, Node

__all__ = ["cluster_app"]

cluster_app = typer.Typer(help="Nodes, leaders and locks in the database of the settings.", no_args_is_help=True)

_PATIENCE = 5.0
"""Seconds for a statement."""
_MAKING = 60.0
"""Seconds for one that makes a table."""

Name = Annotated[str, typer.Argument(metavar="NAME", help="As the program has it: cluster.lock(NAME).")]


@cluster_app.command()
def init(as_json: Json = False) -> None:
    """Make the tables of coordination, or upgrade them; what is there is kept, and so are the leases.

    Exit code 0 also if there was nothing to do, or 1 with the fault.
    """
    from p8fs_cluster.coordination import inspection, tables

    with _opened(as_json) as container:
        connected = container.coordination().coordinator().connected("calls")
        inspection.now(connected, _PATIENCE)  # a server that is down is told at once
        added = tables.create(connected.store, _MAKING)
        version = tables.version_of(connected.store, _PATIENCE)
    if as_json:
        print_json({"version": version, "added": added})
    elif added:
        typer.echo(f"the tables of coordination have version {version} now; added: {', '.join(map(str, added))}")
    else:
        typer.echo(f"the tables of coordination have version {version}; there was nothing to do")


@cluster_app.command()
def nodes(as_json: Json = False) -> None:
    """Print the nodes that have joined, as the last numbered view has them.

    Exit code 0, or 1 when they can't be asked for.
    """
    from p8fs_cluster.coordination import inspection

    with _looking(as_json) as (container, connected):
        view = container.cluster().nodes()
        now = inspection.now(connected, _PATIENCE)
    if as_json:
        each = [{**_node(node), "beat_age": _rounded(now - node.beat.timestamp())} for node in view]
        print_json({"view": view.number, "stale": view.stale, "nodes": each})
        return
    _print_rows(
        ("id", "service", "version", "pod", "address", "labels", "started", "last beat"),
        (
            (node.id, node.service, node.version, node.pod, node.address, _labels(node), _time(node.started),
             f"{now - node.beat.timestamp():.1f} s ago")
            for node in view
        ),
    )  # fmt: skip
    typer.echo(f"view {view.number}" + (", which is stale: some of these nodes may be gone" if view.stale else ""))


@cluster_app.command()
def leaders(as_json: Json = False) -> None:
    """Print who leads what, by the database's clock.

    Exit code 0, or 1 when they can't be asked for.
    """
    _print_leases("leader", as_json, held=False)


@cluster_app.command()
def locks(
    held: Annotated[bool, typer.Option("--held", help="Without those that are free.")] = False, as_json: Json = False
) -> None:
    """Print the locks and who holds them, by the database's clock.

    Exit code 0, or 1 when they can't be asked for.
    """
    _print_leases("lock", as_json, held)


@cluster_app.command()
def history(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="By default all.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many at most.")] = 20,
    as_json: Json = False,
) -> None:
    """Print what was done under leases, the latest first: terms of leaders, runs of schedules, what was done once.

    Exit code 0; 1 when it can't be asked for; 2 when there is nothing of this name.
    """
    from p8fs_cluster.coordination import inspection
    from p8fs_cluster.coordination.history import KINDS, latest

    with _looking(as_json) as (_, connected):
        events = latest(connected, name, limit)
        if name is not None and not events:
            inspection.require_known(connected, KINDS, name, _PATIENCE)
    if as_json:
        print_json([{key: _told(value) for key, value in event._asdict().items()} for event in events])
        return
    _print_rows(
        ("time", "kind", "name", "event", "owner", "fence", "tick", "ended", "detail"),
        ([_told(value) for value in event] for event in events),
    )


@cluster_app.command()
def release(
    name: Name, yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False, as_json: Json = False
) -> None:
    """Free a lock, whoever holds it, for somebody else to take.

    Its holder learns of that at its next renewal, and may go on until then; no guard lets its writes through any more.
    Exit code 0 also if it was free; 1 when it can't be freed, or not after all; 2 when there is no such lock.
    """
    from p8fs_cluster.coordination import inspection

    with _looking(as_json) as (_, connected):
        lease = inspection.lease_of(connected, "lock", name, _PATIENCE)
        taken = lease.state != inspection.FREE
        if taken:
            if not yes:
                _confirm(lease, as_json)
            if not inspection.release(connected, lease, _PATIENCE):
                fail(_changed(connected, "lock", name), as_json)
    told = f"{name} is free now; {_holder(lease)}" if taken else f"{name} was free already"
    _print_done(lease, {"released": taken}, told, as_json)


@cluster_app.command()
def resign(name: Name, as_json: Json = False) -> None:
    """Ask a leader to give up at its next renewal, and to leave it to others for one ttl.

    Exit code 0 also if nobody leads; 1 when it can't be asked; 2 when there is no such leader.
    """
    from p8fs_cluster.coordination import inspection

    with _looking(as_json) as (_, connected):
        lease = inspection.lease_of(connected, "leader", name, _PATIENCE)
        asked = lease.state == inspection.HELD
        if asked and not inspection.ask_to_resign(connected, lease, _PATIENCE):
            fail(_changed(connected, "leader", name), as_json)
    whom = f"{lease.owner} is asked to give up {name}, which it leads with the fence {lease.fence}"
    _print_done(lease, {"asked": asked}, whom if asked else f"nobody leads {name}, so nobody is asked", as_json)


@cluster_app.command()
def watch(
    interval: Annotated[float | None, typer.Option(min=0.01, help="Seconds between two looks; by default 3.")] = None,
    as_json: Json = False,
) -> None:
    """Print who joins, leaves and is lost, a line each, until Ctrl-C. An outage of the database makes nobody lost.

    Exit code 130 at Ctrl-C; 1 when the nodes can't be asked for at the beginning; 2 on a store of one process.
    """
    with _looking(as_json) as (container, _):
        spec = container.storage().spec
        if spec.embedded:
            refuse(f"{spec.provider} belongs to one process: while this one watches, no other can join", as_json)
        cluster = container.cluster()
        view = cluster.nodes()
        tell(f"view {view.number} has {len(view)} nodes; Ctrl-C ends the watch")
        for change in cluster.watch(view, interval=interval):
            typer.echo(json.dumps(_change(change)) if as_json else _line(change))


@contextlib.contextmanager
def _opened(as_json: bool) -> Iterator[Container]:
    """Give a container that makes no tables by itself, and end the command at a fault."""
    from p8fs_cluster import Container
    from p8fs_cluster.coordination.inspection import NoSuchLease

    try:
        with Container() as container, container.config.override({"cluster_create": False}):
            yield container
    except NoSuchLease as exc:
        refuse(exc, as_json)
    except ClusterError as exc:
        fail(exc, as_json)


@contextlib.contextmanager
def _looking(as_json: bool) -> Iterator[tuple[Container, Connected]]:
    """Give a container and its store, in which the tables are."""
    from p8fs_cluster.coordination import tables

    with _opened(as_json) as container:
        connected = container.coordination().coordinator().connected("calls")
        tables.require(connected.store, _PATIENCE)
        yield container, connected


def _print_leases(kind: str, as_json: bool, held: bool) -> None:
    from p8fs_cluster.coordination import inspection

    with _looking(as_json) as (_, connected):
        leases = inspection.leases(connected, kind, _PATIENCE, held=held)
    if as_json:
        print_json([{key: _told(value) for key, value in lease._asdict().items()} for lease in leases])
        return
    _print_rows(
        ("name", "state", "owner", "fence", "ends in", "held for", ""),
        (
            (lease.name, lease.state, lease.owner, lease.fence, _seconds(lease.seconds_left), _seconds(lease.age),
             "asked to resign" if lease.resigning else "")
            for lease in leases
        ),
    )  # fmt: skip


def _confirm(lease: Lease, as_json: bool) -> None:
    told = f"{_holder(lease)}; it may go on until its next renewal"
    if not sys.stdin.isatty():
        refuse(f"{told}: --yes frees the lock {lease.name} nevertheless", as_json)
    if not typer.confirm(redacted(f"{told}. Free the lock {lease.name}?"), err=True):
        fail("nothing was released", as_json)


def _changed(connected: Connected, kind: str, name: str) -> str:
    from p8fs_cluster.coordination import inspection

    lease = inspection.lease_of(connected, kind, name, _PATIENCE)
    now = "it is free now" if lease.state == inspection.FREE else _holder(lease)
    return f"{name} has changed hands meanwhile, and nothing was done: {now}"


def _holder(lease: Lease) -> str:
    from p8fs_cluster.coordination.inspection import BLOCKED

    if lease.state == BLOCKED:
        return f"its row was deleted, and whoever held it before may believe in it for {lease.seconds_left:.1f} s"
    return f"{lease.owner} held it for {lease.age:.1f} s, with the fence {lease.fence}"


def _print_done(lease: Lease, done: dict[str, bool], told: str, as_json: bool) -> None:
    if as_json:
        print_json({"name": lease.name, **done, "owner": lease.owner or None, "fence": lease.fence})
    else:
        typer.echo(told)


def _node(node: Node) -> dict[str, Any]:
    text = {key: getattr(node, key) for key in ("id", "incarnation", "service", "version", "pod", "address")}
    return {**text, "labels": dict(node.labels), "started": _time(node.started)}


def _change(change: Change) -> dict[str, Any]:
    view = change.view
    return {
        "time": _time(datetime.now(UTC)),
        "kind": change.kind,
        "view": view.number,
        "stale": view.stale,
        "node": _node(change.node),
    }


def _line(change: Change) -> str:
    node = change.node
    about = (node.service, node.version, node.pod, node.address, _labels(node))
    told = on_a_line(" ".join(filter(None, about)))
    return f"{_time(datetime.now(UTC))}  {change.kind:6}  {node.id}  {told}  view {change.view.number}"


def _labels(node: Node) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(node.labels.items()))


def _print_rows(columns: tuple[str, ...], rows: Iterable[Iterable[object]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*("" if cell is None else escape(on_a_line(str(cell))) for cell in row))
    print_table(table)


def _told(value: object) -> object:
    if isinstance(value, datetime):
        return _time(value)
    return _rounded(value) if isinstance(value, float) else value


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def _rounded(seconds: float) -> float:
    return round(seconds, 6)


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"
