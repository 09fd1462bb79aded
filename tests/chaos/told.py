"""The faults that were done, and the rules that were broken, as every checker tells them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Fault", "Violation"]


@dataclass(frozen=True)
class Fault:
    """A fault that was done, and when."""

    name: str
    begun: float
    healed: float
    since: float
    """From when on the others can lead: if one node alone suffers, that is its beginning."""
    node: str = ""
    harmless: bool = False
    """True if the node that suffers has to go on leading."""


@dataclass(frozen=True)
class Violation:
    """A rule that was broken, and where."""

    rule: str
    told: str
