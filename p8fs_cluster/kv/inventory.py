"""The contents of a store, counted by namespace."""

from __future__ import annotations

from collections import Counter
from typing import Any

from p8fs_cluster.kv import copy_marker
from p8fs_cluster.kv.copy_sides import Side
from p8fs_cluster.kv.copying import versions

__all__ = ["inventory"]


def inventory(side: Side) -> dict[str, Any]:
    """Return the place of a store, its limits, the copy into it that is under way, and the keys of each namespace."""
    counts = Counter((key.partition(b"\0")[0], bool(version)) for key, version in versions(side))
    names = sorted({name for name, _ in counts})
    marker, limits = copy_marker.found(side.runner), side.runner.stores.limits()
    return {
        "place": side.place,
        "key_bytes": limits.key_bytes,
        "value_bytes": limits.value_bytes,
        "call_bytes": limits.call_bytes,
        "copy": None if marker is None else {"source": marker.source, "begun": marker.begun},
        "namespaces": [
            {
                "namespace": name.decode(errors="backslashreplace"),
                "keys": counts[name, True],
                "expired": counts[name, False],
            }
            for name in names
        ],
    }
