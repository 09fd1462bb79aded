"""Pages whose console blocks are run: `$` begins a command, what follows is its output, `…` stands for any text."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

END = "\x1e"


def transcript(page: Path) -> list[tuple[str, str]]:
    """Return each command in the console blocks of a page, with the output that it is said to have."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], ""))
            else:
                command, output = found[-1]
                found[-1] = (command, f"{output}{line}\n")
    return found


def outputs(commands: list[str]) -> list[str]:
    """Run commands one after the other in one shell, and return what each prints, faults included."""
    script = "exec 2>&1\n" + "".join(f"{command}\nstatus=$?; printf '{END}'; (exit $status)\n" for command in commands)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment)
    assert done.stderr == ""
    return done.stdout.split(END)[:-1]


def is_as_said(printed: str, said: str) -> bool:
    """Return whether an output is what a page says; the width of a table's columns may vary."""
    pattern = re.escape(_narrow(said)).replace("…", ".*")
    return re.fullmatch(pattern, _narrow(printed), re.DOTALL) is not None


def _narrow(text: str) -> str:
    lines = (" ".join(line.split()) if line.startswith("│") else line for line in text.strip().splitlines())
    return "\n".join(lines)
