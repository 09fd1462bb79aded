"""What docs/injection.md says of us beside others. What it says of these, `make features` runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.features import FEATURES, ours

DOCUMENT = Path(__file__).parent.parent.parent / "docs/injection.md"


@pytest.mark.parametrize("feature", FEATURES)
def test_we_have_it(feature: str) -> None:
    assert getattr(ours, feature)()


def test_the_table_says_what_is_run() -> None:
    table = DOCUMENT.read_text().split("<!-- begin of features -->")[1].split("<!-- end of features -->")[0]
    rows = [line.split(" | ")[:2] for line in table.splitlines() if line.startswith("| ")][2:]
    assert rows == [[f"| {told}", "yes"] for told in FEATURES.values()]
