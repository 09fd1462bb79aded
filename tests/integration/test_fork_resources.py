"""After a fork, a child opens a user's own resources anew, closes only these, and leaves its parent's alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.recorded import events
from tests.processes import running


def told(how: str, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Return what the program prints, and what its processes noted, the parent's begin and end taken off."""
    with running(folder / "log", "-m", "tests.integration.fork_resources", how) as program:
        assert program.wait() == 0, program.output
        answer: dict[str, Any] = json.loads(program.output.splitlines()[-1])
    parent, noted = answer["parent"], events(folder)
    assert answer["lines"] == [f"line of {parent}"] * 4
    assert answer["same"], "the parent keeps its objects"
    assert noted[0] == f"open {parent}"
    assert noted[-2:] == [f"back {parent}", f"close {parent}"]
    return answer, noted[1:-2]


@pytest.mark.parametrize("how", ["used", "used, closed", "multiprocessing"])
def test_a_child_opens_its_own_and_closes_it(how: str, tmp_path: Path) -> None:
    answer, noted = told(how, tmp_path)
    assert len(noted) == 2, noted
    child = noted[0].removeprefix("open ")
    assert child != str(answer["parent"])
    assert noted == [f"open {child}", f"close {child}"]
    assert answer["answer"] == [f"line of {child}"] * 4


@pytest.mark.parametrize("how", ["unused", "unused, closed"])
def test_a_child_that_uses_nothing_opens_and_closes_nothing(how: str, tmp_path: Path) -> None:
    assert told(how, tmp_path)[1] == []


def test_a_child_of_a_child(tmp_path: Path) -> None:
    answer, noted = told("grandchild", tmp_path)
    (own, *others), inner = answer["answer"]
    child, grandchild = own.removeprefix("line of "), inner[0].removeprefix("line of ")
    assert len({child, grandchild, str(answer["parent"])}) == 3
    assert [*others, *inner] == [f"line of {child}"] * 3 + [f"line of {grandchild}"] * 4
    assert noted == [f"open {child}", f"open {grandchild}", f"close {grandchild}", f"close {child}"]
