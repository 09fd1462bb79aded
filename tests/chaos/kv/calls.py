"""The calls to the key-value store, as those who make them tell them: before each one, and when it came to an end."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p8fs_cluster.exceptions import CommitUnknown, KVConflict, StorageError, StorageTimeout
from tests.chaos.lines import Lines, now

__all__ = ["DONE", "FAILED", "ODD", "REFUSED", "SOME", "UNKNOWN", "Call", "Calls", "Journal"]

DONE = "done"
"""The outcome of a call that did what it says."""
REFUSED = "refused"
"""The outcome of a call whose condition did not hold, so that nothing was written."""
FAILED = "failed"
"""The outcome of a call whose error says that nothing was written."""
UNKNOWN = "unknown"
"""The outcome of a call that was never told, or whose error leaves open whether it was done."""
ODD = "odd"
"""The outcome of a call that raised what no call may raise."""

SOME = "?"
"""The value of a write of which only the answer tells what it wrote."""


@dataclass(frozen=True)
class Call:
    """A call, somewhere between `begun` and `ended`. Every value is written by one call alone, so it tells which."""

    node: str
    verb: str
    begun: float
    ended: float = math.inf
    outcome: str = UNKNOWN
    saw: Mapping[str, str | None] = field(default_factory=dict)
    """Key → the value that was there at one moment; None: there was none."""
    required: Mapping[str, str | None] = field(default_factory=dict)
    """Key → what has to be there, or nothing is written."""
    wrote: Mapping[str, str | None] = field(default_factory=dict)
    """Key → the value that it writes; None: it deletes."""
    versions: Mapping[str, int] = field(default_factory=dict)
    """Key → the version of the value that was seen or written."""
    ends: Mapping[str, float] = field(default_factory=dict)
    """Key → the seconds after which its value expires."""
    told: str = ""


class Journal(Lines):
    """The file of the calls of one process."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._numbers = itertools.count()

    @contextmanager
    def call(self, verb: str, **planned: Any) -> Iterator[dict[str, Any]]:
        """Note a call before the block, and after it what the block has put into the dict, or its error."""
        came: dict[str, Any] = {"n": next(self._numbers)}
        self.add({**came, "verb": verb, "begun": now(), **planned})
        came["outcome"] = DONE
        try:
            yield came
        except Exception as exc:
            came.update(outcome=_outcome(exc), told=f"{type(exc).__name__}: {exc}"[:200])
        came["ended"] = now()
        self.add(came)


def _outcome(exc: Exception) -> str:
    """Return what an error says of its call: only these two leave open whether it was done."""
    if isinstance(exc, CommitUnknown | StorageTimeout):
        return UNKNOWN
    return FAILED if isinstance(exc, StorageError | KVConflict) else ODD


class Calls:
    """The calls of all journals, put together of their lines."""

    def __init__(self) -> None:
        self.latest = -math.inf
        """The beginning of the latest call that was done."""
        self._told: dict[tuple[str, int], dict[str, Any]] = {}

    def add(self, node: str, line: dict[str, Any]) -> None:
        """Take what a line tells; what a later line of a call says counts."""
        told = self._told.setdefault((node, line.pop("n")), {"node": node})
        told.update(line)
        if told.get("outcome") == DONE:
            self.latest = max(self.latest, told["begun"])

    def all(self) -> list[Call]:
        """Return the calls. One that was not told to its end may have been done at any time since."""
        return [Call(**({**told, "ended": math.inf} if told.get("outcome", UNKNOWN) == UNKNOWN else told))
                for told in self._told.values()]  # fmt: skip
