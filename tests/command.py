"""The command as it is typed, and packages with sections, installed where only that command finds them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.processes import variables

SECTIONS = """
from pydantic import BaseModel, SecretStr
from p8fs_cluster import Section

class Relay(BaseModel):
    host: str = "relay"
    password: SecretStr = SecretStr("built-in")

class MailSettings(Section, prefix="mail_"):
    "Mail."

    server: str = "localhost"
    port: int
    key: SecretStr = SecretStr("")
    senders: list[str] = []
    ratio: float = 1.0
    relay: Relay = Relay()
"""


def p8fs_cluster(
    *arguments: str, stdin: str | None = None, path: Path | None = None, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """Run the command with settings as variables; `path` is a folder whose packages are installed."""
    environment = {**os.environ, **variables(settings)}
    if path is not None:
        environment["PYTHONPATH"] = os.pathsep.join([str(path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-P", "-m", "p8fs_cluster", *arguments]  # as the script: the folder is not on the path
    return subprocess.run(command, capture_output=True, text=True, env=environment, input=stdin)


def install(folder: Path, code: str = SECTIONS, name: str = "mailing") -> Path:
    """Put a package into a folder, which tells of its sections as installed ones do; return the folder."""
    told = folder / f"{name}-1.0.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text(f"[p8fs_cluster.sections]\n{name} = {name}\n")
    (folder / f"{name}.py").write_text(code)
    return folder
