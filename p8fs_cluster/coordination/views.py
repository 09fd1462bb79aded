"""Numbered views of the nodes, and who of them has which keys. Nothing here does I/O or reads a clock."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from p8fs_cluster.coordination.times import moment
from p8fs_cluster.exceptions import CoordinationError

__all__ = ["Change", "Node", "Row", "View", "changes", "next_members"]


class Row(NamedTuple):
    """The lease that is a node's presence, as the database has it; times in microseconds of its clock."""

    id: str
    holder: str | None
    """None: the node has left."""
    incarnation: int
    expires_at: int
    ttl: int
    started_at: int
    healed_at: int
    """The time at which its beats came again after a gap; 0: there was none."""
    about: str

    def is_live(self, now: int) -> bool:
        """Return whether its last beat is less than a ttl ago."""
        return self.holder is not None and self.expires_at > now

    def is_witness(self, now: int) -> bool:
        """Return whether its beats show that the database could be reached for a whole ttl."""
        return self.is_live(now) and max(self.started_at, self.healed_at) <= now - self.ttl


@dataclass(frozen=True)
class Node:
    """One process of the cluster, known by its UUID: hosts and pods have their names again and again."""

    id: str
    incarnation: int
    """Grows when the node joins anew after it could not beat for too long."""
    service: str
    version: str
    pod: str
    address: str
    labels: Mapping[str, str]
    started: datetime.datetime
    beat: datetime.datetime
    """The last one. Both times are of the database's clock."""

    @classmethod
    def of(cls, row: Row) -> Node:
        """Return the node of a row."""
        try:
            about = dict(json.loads(row.about))
            labels = dict(about.get("labels", {}))
        except (ValueError, TypeError):  # somebody's hand
            about, labels = {}, {}
        text = {name: str(about.get(name, "")) for name in ("service", "version", "pod", "address")}
        beat = moment(row.expires_at - row.ttl)
        started = moment(row.started_at)
        return cls(row.id, row.incarnation, **text, labels=labels, started=started, beat=max(beat, started))


@dataclass(frozen=True)
class View:
    """The nodes of the cluster at one time; a later view has a greater number."""

    number: int
    nodes: tuple[Node, ...]
    stale: bool = False
    """True if some nodes may be gone: the database could not be asked, or could not be reached by anybody lately."""
    me: str | None = None
    """The id of this process, if it has joined."""

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def owner_of(self, key: str | bytes) -> Node:
        """Return the node that a key belongs to in this view, the same everywhere. When nodes come or go, only keys of
        theirs move.

        :raises CoordinationError: there is no node.

        >>> nodes = tuple(Node(id, 1, "p8fs", "", "", "", {}, moment(0), moment(0)) for id in "abc")
        >>> View(1, nodes).owner_of("invoice 7").id
        'a'
        """
        if not self.nodes:
            raise CoordinationError("no node has joined, so that no key belongs to anybody: call cluster.join()")
        text = key.encode() if isinstance(key, str) else key
        return max(self.nodes, key=lambda node: (_weight(node.id, text), node.id))

    def shard(self, keys: Iterable[Any]) -> list[Any]:
        """Return the keys that belong to this process, by rendezvous hashing. It is advice: views differ for a moment.

        :raises CoordinationError: this process is not in the view.
        """
        if self.me is None or self.me not in {node.id for node in self.nodes}:
            raise CoordinationError("this process has not joined, or is not in the view: call cluster.join()")
        return [key for key in keys if self.owner_of(key).id == self.me]

    def aged(self) -> View:
        """Return this view for the time in which the database can't be asked."""
        return replace(self, stale=True)


class Change(NamedTuple):
    """A node that came or went."""

    kind: str
    """`joined`, `left` (it said so) or `lost` (its beats ended)."""
    node: Node
    view: View


def next_members(
    old: Sequence[str], rows: Collection[Row], now: int, reader_is_witness: bool
) -> tuple[list[str], bool]:
    """Return the ids of the nodes of the next view, and whether some may be gone.

    A node is lost only if something shows that it could have reached the database: another node whose beats had no
    gap for a whole ttl, or a reader who could read all that time. So an outage of the database makes nobody lost.
    """
    live = {row.id for row in rows if row.is_live(now)}
    left = {row.id for row in rows if row.holder is None}
    if reader_is_witness or any(row.is_witness(now) for row in rows):
        return sorted(live), False
    members = (set(old) - left) | live
    return sorted(members), members != live


def changes(before: View, after: View, left: Collection[str]) -> list[Change]:
    """Return who came and who went between two views."""
    old, new = ({node.id: node for node in view} for view in (before, after))
    gone = [Change("left" if id_ in left else "lost", node, after) for id_, node in old.items() if id_ not in new]
    return [*gone, *(Change("joined", node, after) for id_, node in new.items() if id_ not in old)]


def _weight(id_: str, key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=8, key=id_.encode()).digest()
