"""Nodes under every fault, for a short time. All servers, and for ten minutes: make chaos"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.lease_faults import FAULTS
from tests.processes import running

SECONDS = 45
"""For which faults go on, on each server."""


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_nobody_believes_or_writes_what_must_not_be(kind: str, tmp_path: Path) -> None:
    arguments = ("-m", "tests.chaos", "--seconds", SECONDS, "--server", kind, "--logs", tmp_path)
    with running(tmp_path / "log", *arguments) as program:
        assert program.process.wait(200) == 0, program.output
    assert "nothing broken" in program.output
    assert sum(f"  {name} " in program.output for name in FAULTS) >= len(FAULTS) * 0.7, program.output
