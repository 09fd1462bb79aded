"""Run every feature of every contender, and write the table into docs/injection.md, or compare it.

python -m benchmarks.features [--check]
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.features import CONTENDERS, GROUPS
from benchmarks.features.running import Cell, program_of, shown_apart

DOCUMENT = Path(__file__).parent.parent.parent / "docs/injection.md"
BEGIN, END = "<!-- begin of features -->\n", "<!-- end of features -->\n"
LIBRARIES = ("dependency-injector", "dishka", "wireup", "anydi", "svcs", "fastapi")


def table() -> str:
    """Return the table in Markdown, with what was seen where a feature does not work."""
    notes: dict[str, int] = {}
    lines = [f"| | {' | '.join(CONTENDERS)} |", f"| --- |{' --- |' * len(CONTENDERS)}"]
    for group, features in GROUPS.items():
        lines.append(f"| **{group}** |{' |' * len(CONTENDERS)}")
        for feature, told in features.items():
            cells = [shown_apart(program_of(module, feature)) for module in CONTENDERS.values()]
            lines.append(f"| {told} | {' | '.join(written(cell, notes) for cell in cells)} |")
    seen = [f"{number}. {note}" for note, number in notes.items()]
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return "\n".join([*lines, "", *seen, "", f"Run with {versions}.", ""])


def written(cell: Cell, notes: dict[str, int]) -> str:
    """Return how the table writes a cell, and number what was seen."""
    return f"{cell.text}<sup>{notes.setdefault(cell.seen, len(notes) + 1)}</sup>" if cell.seen else cell.text


def main() -> None:
    """Write the table, or exit with 1 where the document has another one."""
    before, rest = DOCUMENT.read_text("utf-8").split(BEGIN)
    there, after = rest.split(END)
    found = table()
    if "--check" in sys.argv:
        sys.exit(0 if there == found else f"{DOCUMENT.name} differs from what was run:\n{found}")
    DOCUMENT.write_text(before + BEGIN + found + END + after, "utf-8")


if __name__ == "__main__":
    main()
