"""The marker of a copy in its target: a record that no user can read or write, and without which nothing is copied.

It is there from before the first key is written until the copy was verified. Each batch checks that it has the version
of the process that writes: one that goes on with the copy gives it another one, after which the process before, though
it may be thought dead, writes nothing any more.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import NamedTuple

from p8fs_cluster.exceptions import KVError
from p8fs_cluster.kv.copy_sides import Side
from p8fs_cluster.kv.json_lines import EVERYTHING
from p8fs_cluster.kv.keys import new_version
from p8fs_cluster.kv.running import Runner
from p8fs_cluster.providers.storage.kv import Page, Put

__all__ = ["MARKER", "CopyRefused", "Marker", "begun", "ended", "found"]

MARKER = b"\xffcopy"
"""The key of the marker: what users have begins with UTF-8."""


class CopyRefused(KVError):
    """The copy is not done, because it would write over what others may need."""


class Marker(NamedTuple):
    """A copy that is under way."""

    source: str
    begun: str
    version: int


def found(runner: Runner) -> Marker | None:
    """Return the marker of the copy into this store that is under way; None: there is none."""
    entries = runner.run(lambda store: store.entries((MARKER,)))
    if MARKER not in entries:
        return None
    value, version, _ = entries[MARKER]
    told = json.loads(value)
    return Marker(told["source"], told["begun"], version)


def begun(source: Side, target: Side, *, resume: bool) -> Marker:
    """Begin a copy, or take over the one that is under way.

    :raises CopyRefused: the target holds keys of others, another copy is under way, or both sides are one store.
    """
    if source.is_same(target):
        raise CopyRefused(f"both sides are the same store, {source.place}: name another one")
    marker = found(target.runner)
    if marker is not None:
        return _taken_over(source, target, marker, resume=resume)
    if not _is_empty(target):
        raise CopyRefused(f"{target.place} holds keys already, and no copy is under way: {_way_out(target, resume)}")
    marker = Marker(source.place, datetime.now(UTC).isoformat(timespec="seconds"), new_version())
    if not target.runner.run(lambda store: store.put_if_absent(_put(marker))):
        raise CopyRefused(f"another copy into {target.place} has begun at this moment")
    return marker


def ended(target: Side, marker: Marker) -> None:
    """End a copy, after which it can't be gone on with: what is written to the target from now on is its users'.

    :raises KVError: another process has taken over.
    """
    if not target.runner.run(lambda store: store.delete_if(MARKER, marker.version)):
        raise KVError("another copy has taken over, or has ended this one")


def _taken_over(source: Side, target: Side, marker: Marker, *, resume: bool) -> Marker:
    told = f"a copy from {marker.source} into {target.place} is under way since {marker.begun}"
    if marker.source != source.place:
        raise CopyRefused(f"{told}: go on with it by --from and --resume, or empty the target")
    if not resume:
        raise CopyRefused(f"{told}: go on with it by --resume")
    if _is_empty(source) and not _is_empty(target):
        raise CopyRefused(
            f"{told}, and {source.place} holds no keys any more: is it the right one? Else empty the target"
        )
    ours = marker._replace(version=new_version())
    if not target.runner.run(lambda store: store.compare_and_set(_put(ours), marker.version)):
        raise CopyRefused(f"{told}, and another process goes on with it at this moment")
    return ours


def _is_empty(side: Side) -> bool:
    page = Page(EVERYTHING, 1, reverse=False, keys_only=True, skipped=0)
    return not side.runner.run(lambda store: store.page(page))


def _way_out(target: Side, resume: bool) -> str:
    if resume:
        return "there is nothing to resume, as a copy that was verified has ended; copy into an empty store"
    other = "another table (P8FS_KV_TABLE)" if target.path is None else "another folder (rocksdb:PATH)"
    return f"copy into an empty store, or into {other}"


def _put(marker: Marker) -> Put:
    return Put(MARKER, json.dumps({"source": marker.source, "begun": marker.begun}).encode(), marker.version)
