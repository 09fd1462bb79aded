"""`docs/growing.md`, run as it is written: a service that grows out of its RocksDB."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kv.conftest import drop
from tests.pages import is_as_said, outputs, transcript
from tests.processes import ROOT, variables
from tests.servers import MYSQL

PAGE = ROOT / "docs" / "growing.md"


def test_the_page_on_growing_runs(request: pytest.FixtureRequest) -> None:
    settings = request.getfixturevalue(f"{MYSQL[-1]}_server").settings
    drop(settings)
    given = {name: value for name, value in variables(settings).items() if name.startswith("P8FS_TIDB_")}
    [named] = re.findall(r"```ini\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert {line.partition("=")[0] for line in named.splitlines()} <= given.keys()
    Path(".env").write_text("".join(f"{name}={value}\n" for name, value in given.items()))
    [service] = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    Path("notes.py").write_text(service)
    told = transcript(PAGE)
    printed = outputs([command for command, _ in told])
    assert len(printed) == len(told) > 15
    for (command, said), output in zip(told, printed, strict=True):
        assert is_as_said(output, said), f"{command}\n{output}"
    drop(settings)
