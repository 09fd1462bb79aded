"""Run every feature of every contender, and write the table into docs/injection.md, or compare it.

python -m benchmarks.features [--check]
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from benchmarks.features import FEATURES, anydi, dependency_injector, depends, dishka, ours, svcs, wireup

DOCUMENT = Path(__file__).parent.parent.parent / "docs/injection.md"
BEGIN, END = "<!-- begin of features -->\n", "<!-- end of features -->\n"
CONTENDERS = {
    "p8fs_cluster": ours,
    "dependency-injector": dependency_injector,
    "dishka": dishka,
    "wireup": wireup,
    "anydi": anydi,
    "svcs": svcs,
    "Depends": depends,
}


def cell(module: ModuleType, feature: str) -> str:
    """Return what running a feature has shown."""
    function = getattr(module, feature, None)
    return "" if function is None else "yes" if function() else "no"


def table() -> str:
    """Return the table in Markdown."""
    lines = [f"| | {' | '.join(CONTENDERS)} |", f"| --- |{' --- |' * len(CONTENDERS)}"]
    for feature, told in FEATURES.items():
        lines.append(f"| {told} | {' | '.join(cell(module, feature) for module in CONTENDERS.values())} |")
    names = ("dependency-injector", "dishka", "wireup", "anydi", "svcs", "fastapi")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return "\n".join([*lines, "", f"Run with {versions}.", ""])


def main() -> None:
    """Write the table, or exit with 1 where the document has another one."""
    before, rest = DOCUMENT.read_text().split(BEGIN)
    there, after = rest.split(END)
    found = table()
    if "--check" in sys.argv:
        sys.exit(0 if there == found else f"{DOCUMENT.name} differs from what was run:\n{found}")
    DOCUMENT.write_text(before + BEGIN + found + END + after)


if __name__ == "__main__":
    main()
