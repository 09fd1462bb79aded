"""The faults whose promises are counts, a few times each. All of them, and for long: make faults"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import running


@pytest.mark.parametrize("fault", ["rotations", "moves", "restarts", "idle", "forks", "rocksdb_forks", "kills"])
def test_the_handle_keeps_its_promise(fault: str, tmp_path: Path) -> None:
    with running(tmp_path / "log", "-m", "tests.faults", "--short", "--ours", fault) as program:
        assert program.wait() == 0, program.output
    assert "kept" in program.output
    assert "BROKEN" not in program.output
