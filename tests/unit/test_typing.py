"""What mypy --strict and pyright say about `tests/typing`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
RIGHT, WRONG = ROOT / "tests/typing/right.py", ROOT / "tests/typing/wrong.py"


def faults_of_mypy(path: Path, cache: Path) -> set[int]:
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--cache-dir",
        str(cache),
        "--follow-imports=silent",
        str(path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    return {int(line) for line in re.findall(rf"{path.name}:(\d+): error", done.stdout)}


def faults_of_pyright(path: Path, cache: Path) -> set[int]:
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 1, done.stdout
    return {
        fault["range"]["start"]["line"] + 1 for fault in report["generalDiagnostics"] if fault["severity"] == "error"
    }


@pytest.mark.parametrize("faults_of", [faults_of_mypy, faults_of_pyright])
def test_what_is_right_passes_and_what_is_wrong_does_not(faults_of: Any, tmp_path: Path) -> None:
    wrong = {number for number, line in enumerate(WRONG.read_text().splitlines(), 1) if line.endswith("# wrong")}
    assert faults_of(RIGHT, tmp_path) == set()
    assert faults_of(WRONG, tmp_path) == wrong
