"""What docs/injection.md says of us beside others. What it says of these, `make features` runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.features import CONTENDERS, FEATURES, GROUPS
from benchmarks.features.running import Cell, program_of, shown

DOCUMENT = Path(__file__).parent.parent.parent / "docs/injection.md"
TABLE = DOCUMENT.read_text("utf-8").split("<!-- begin of features -->\n")[1].split("<!-- end of features -->")[0]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE.splitlines() if line.startswith("|")]
NOTES = dict(re.findall(r"^(\d+)\. (.*)$", TABLE, re.MULTILINE))


def cell_of(text: str) -> Cell:
    """Return what a cell of the table says, with its note."""
    word, note = re.fullmatch(r"(yes|no|\W)(?:<sup>(\d+)</sup>)?", text).groups()  # type: ignore[union-attr]
    return Cell(word, NOTES[note] if note else "")


OURS = {row[0]: row[1] for row in ROWS[2:]}


def test_the_table_has_the_rows_and_columns_that_are_run() -> None:
    assert ROWS[0] == ["", *CONTENDERS]
    told = [line for group, features in GROUPS.items() for line in (f"**{group}**", *features.values())]
    assert [row[0] for row in ROWS[2:]] == told
    assert {cell_of(cell).text == "no" for row in ROWS[2:] for cell in row[1:] if "<sup>" in cell} == {True}


@pytest.mark.parametrize("feature", FEATURES)
def test_our_column_is_what_is_run(feature: str) -> None:
    told = {name: told for group in GROUPS.values() for name, told in group.items()}[feature]
    assert shown(program_of("ours", feature)) == cell_of(OURS[told])
