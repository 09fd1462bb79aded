"""The rules that must hold, checked with knowledge of all machines whenever one of them has done something."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

from p8fs_cluster.coordination.holding import Holding
from p8fs_cluster.coordination.terms import Term, Token
from p8fs_cluster.providers.storage.leases import Stamp
from tests.simulation.events import Machine, Simulation

__all__ = ["BELIEF", "FENCE", "LIVENESS", "TOKEN", "UNEXPECTED", "Checker", "Elector", "Violation"]

BELIEF = "two believe in one lease"
TOKEN = "a token is not greater than the one before"
FENCE = "a write of an older holder was accepted after one of a newer"
LIVENESS = "nobody holds a lease, or one is lost, although all is well"
UNTOLD = "a term ended and nobody was told"
UNEXPECTED = "an exception that nobody expects"

_PROMPT = 0.1
"""Seconds within which the end of a belief is told."""


@dataclass(frozen=True)
class Violation:
    """A rule that did not hold, and the time."""

    kind: str
    when: float
    details: str


@dataclass(eq=False)
class Elector:
    """One elector of a machine, and the terms that it has had."""

    machine: Machine
    holding: Holding
    terms: list[Term] = field(default_factory=list)
    granted: list[float] = field(default_factory=list)
    """The time at which the database granted each."""
    ordinals: list[int] = field(default_factory=list)
    """The number of grants before each."""
    told: list[Term] = field(default_factory=list)
    """Those that it was told the end of."""

    def believes(self) -> bool:
        """Return whether a thread that runs now would believe that it holds the lease."""
        return self.machine.runs and self.holding.is_held


class Checker:
    """The history of one schedule, and what was wrong in it."""

    def __init__(self, simulation: Simulation, calm_at: float) -> None:
        self.violations: list[Violation] = []
        self.grants = 0
        self.losses = 0
        self.writes = 0
        self.believed: dict[str, float] = {}
        """Key → when somebody has held it first since all is well."""
        self.two_believed = 0.0
        """The last time at which two believed."""
        self._simulation = simulation
        self._calm_at = calm_at
        self._electors: dict[str, list[Elector]] = {}
        self._last: dict[str, Stamp] = {}
        self._granted: dict[tuple[str, str, int], tuple[float, int]] = {}
        """Key, holder and fence → when that was granted, and how many grants there had been."""
        self._resources: dict[str, tuple[Token, int]] = {}
        """Key → the greatest token that was seen, and the latest grant."""
        self._two: set[str] = set()

    def watch(self, elector: Elector) -> None:
        """Look at an elector from now on."""
        others = self._electors.get(elector.holding.key, [])
        self._electors[elector.holding.key] = [*(each for each in others if not each.machine.is_dead), elector]

    def granted(self, key: str, holder: str, stamp: Stamp) -> None:
        """Note that the database has granted a lease."""
        last = self._last.get(key)
        if last is not None and stamp.fence <= last.fence:
            self._violate(TOKEN, f"{key}: {stamp.fence} after {last.fence}")
        self._last[key] = stamp
        self.grants += 1
        self._granted[key, holder, stamp.fence] = self._simulation.now, self.grants

    def ended(self, elector: Elector, term: Term) -> None:
        """Note that an elector was told of the end of a term."""
        self.losses += 1
        if term in elector.told:
            self._violate(UNTOLD, f"{elector.machine.name} was told twice of {term.token}")
        elector.told.append(term)
        if term in elector.terms and elector.granted[elector.terms.index(term)] > self._calm_at:
            self._violate(LIVENESS, f"{elector.holding.key}: lost in calm: {term.ended}")

    def write(self, key: str, token: Token, ordinal: int) -> None:
        """Write to a resource, which accepts the tokens that are not less than one it has seen."""
        seen, latest = self._resources.get(key, (token, ordinal))
        if token >= seen:
            if ordinal < latest:
                self._violate(FENCE, f"{key}: grant {ordinal} after {latest}, both with {token.fence}")
            self._resources[key] = token, max(latest, ordinal)
            self.writes += 1

    def look(self) -> None:
        """Look who believes: that begins at events only, so no overlap is missed between them."""
        now = self._simulation.now
        for key, electors in self._electors.items():
            believers = [elector for elector in electors if elector.believes()]
            for elector in believers:
                self._note(elector)
            if len(believers) > 1:
                self.two_believed = now
                if key not in self._two:
                    self._two.add(key)
                    names = ", ".join(f"{each.machine.name} with {each.holding.term.token}" for each in believers)
                    self._violate(BELIEF, f"{key}: {names}")
            else:
                self._two.discard(key)
            if believers and now >= self._calm_at:
                self.believed.setdefault(key, now)

    def finish(self, bounds: dict[str, float], stopped: Iterable[Machine]) -> None:
        """Judge the whole: `bounds` are the true times by which somebody must hold each lease."""
        for key, bound in bounds.items():
            since = self.believed.get(key)
            if since is None or since > bound:
                told = "nobody held it" if since is None else f"held at {since:.3f}"
                self._violate(LIVENESS, f"{key}: {told}, bound {bound:.3f}, calm at {self._calm_at:.3f}")
        for elector in itertools.chain.from_iterable(self._electors.values()):
            if elector.machine.runs and elector.machine not in stopped:
                self._require_told(elector)
        for fault in self._simulation.faults:
            self._violate(UNEXPECTED, fault)

    def _note(self, elector: Elector) -> None:
        holding, term = elector.holding, elector.holding.term
        if term is not None and (not elector.terms or elector.terms[-1] is not term):
            elector.terms.append(term)
            granted, ordinal = self._granted[holding.key, holding.holder, term.token.fence]
            elector.granted.append(granted)
            elector.ordinals.append(ordinal)

    def _require_told(self, elector: Elector) -> None:
        late = elector.machine.now() - _PROMPT
        for term in elector.terms:
            if term.ended is None and not term.is_held(late):
                self._violate(UNTOLD, f"{elector.machine.name}: {term.token}, over since {late - term.until:.1f} s")

    def _violate(self, kind: str, details: str) -> None:
        self.violations.append(Violation(kind, self._simulation.now, details))
