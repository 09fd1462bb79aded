"""What the documents say is run: the README's Python and its table, every docstring's example."""

from __future__ import annotations

import doctest
import json
import os
import pkgutil
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import p8fs_cluster
from p8fs_cluster.cli.documentation import settings_table
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.containers.graph.drawing import mermaid
from p8fs_cluster.containers.graph.model import read
from tests.pages import is_as_said, outputs, transcript
from tests.processes import variables

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text("utf-8")
MODULES = [
    name for _, name, _ in pkgutil.walk_packages(p8fs_cluster.__path__, "p8fs_cluster.") if "__main__" not in name
]


def test_the_quickstart_runs() -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    shell = next(block for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) if "export" in block)
    exported = dict(pair.split("=") for pair in re.findall(r"\S+=\S+", shell))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **exported})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("loaded greeting") == 2
    assert Path("data/quickstart").is_dir()


def test_the_page_on_injection_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/injection.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "page.py").write_text("\n".join(blocks))
    done = subprocess.run([sys.executable, "-W", "error", "page.py"], capture_output=True, text=True)
    said = [line.removeprefix("# prints: ") for block in blocks for line in block.splitlines() if "# prints: " in line]
    assert (done.stdout.splitlines(), done.stderr) == (said, "")
    assert len(said) == 2


@pytest.mark.parametrize("page", ["configuration", "coordination", "kv", "moving", "storage"])
def test_the_pages_that_say_nothing_run(page: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / f"docs/{page}.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "page.py").write_text("\n".join(blocks))
    done = subprocess.run([sys.executable, "-W", "error", "page.py"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_page_on_operating_runs() -> None:
    told = transcript(ROOT / "docs/operating.md")
    printed = outputs([command for command, _ in told])
    assert len(printed) == len(told) > 20
    for (command, said), output in zip(told, printed, strict=True):
        assert is_as_said(output, said), f"{command}\n{output}"


def test_the_commands_of_the_readme_run(monkeypatch: pytest.MonkeyPatch, rocksdb_settings: dict[str, Any]) -> None:
    for name, value in variables(rocksdb_settings).items():
        monkeypatch.setenv(name, value)
    commands = re.findall(r"^(p8fs-cluster .*?)\s*(?:#.*)?$", README, re.MULTILINE)
    assert len(commands) > 3
    for printed in outputs([f"{command} > /dev/null || echo failed" for command in commands]):
        assert printed == ""


def test_the_page_on_logging_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/logging.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "page.py").write_text("\n".join(blocks))
    done = subprocess.run([sys.executable, "-W", "error", "page.py"], capture_output=True, text=True)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.stderr == ""
    assert [entry["message"] for entry in told] == ["saved a note", "slow", "to postgresql://me:***@db/notes with ***"]
    assert (told[0]["note_id"], told[1]["request_id"], told[1]["seconds"]) == (7, "a1", 3)


def test_the_table_of_settings_is_the_models() -> None:
    table = re.search(r"<!-- settings: .*? -->\n(.*?)\n<!-- end of settings -->", README, re.DOTALL)
    assert table is not None
    assert table.group(1) == settings_table((P8FSConfig,)), "run: python scripts/update_readme.py"


def test_the_picture_is_the_containers() -> None:
    drawn = re.search(r"<!-- graph: .*? -->\n```mermaid\n(.*?)\n```\n<!-- end of graph -->", README, re.DOTALL)
    assert drawn is not None
    assert drawn.group(1) == mermaid(read(p8fs_cluster.Container)), "run: python scripts/update_readme.py"


def test_the_errors_that_the_readme_shows_are_real(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P8FS_PG_PORT", "65536")
    Path(".env").write_text("\n\nP8FS_PG_HOTS=x\n")
    with pytest.raises(p8fs_cluster.ConfigurationError) as caught:
        p8fs_cluster.validate_configuration(p8fs_cluster.Container())
    assert f"```\n{str(caught.value).replace(str(Path.cwd()), '/srv/notes')}\n```" in README


def test_links_lead_somewhere() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
    failed, _ = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_what_is_public_is_documented(name: str) -> None:
    module = import_module(name)
    assert module.__doc__
    for public in getattr(module, "__all__", ()):
        thing = getattr(module, public)
        if callable(thing) and getattr(thing, "__module__", "").startswith("p8fs_cluster"):
            assert thing.__doc__, f"{name}.{public} has no docstring"
