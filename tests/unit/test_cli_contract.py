"""What scripts rely on: exit codes, where a command writes, and the shape of its JSON, as docs/operating.md has it."""

from __future__ import annotations

import pytest

from p8fs_cluster import __version__
from tests.command import p8fs_cluster

COMMANDS = [
    ("check",),
    ("graph",),
    ("config", "show"),
    ("config", "explain"),
    ("config", "docs"),
    ("config", "schema"),
    ("config", "env-example"),
    ("config", "k8s"),
    ("config", "diff"),
    ("storage", "ping"),
    ("storage", "checkpoint"),
    ("storage", "restore"),
]


def test_the_version() -> None:
    done = p8fs_cluster("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"p8fs-cluster {__version__}\n", "")


@pytest.mark.parametrize("command", [(), ("config",), ("storage",), *COMMANDS], ids=" ".join)
def test_help_in_short(command: tuple[str, ...]) -> None:
    done = p8fs_cluster(*command, "-h")
    assert (done.returncode, done.stderr) == (0, "")
    assert " ".join(["Usage: p8fs-cluster", *command, "["]) in done.stdout
    if len(command) < 2:
        assert done.stdout == p8fs_cluster(*command, "--help").stdout


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        (("confg", "show"), "No such command 'confg'. Did you mean 'config'?"),
        (("config", "shwo"), "No such command 'shwo'. Did you mean 'show'?"),
        (("config", "show", "--jsno"), "No such option: --jsno (Possible options: --json)"),
        (("graph", "--format", "sgv"), "'svg'"),
    ],
)
def test_what_is_misspelt_is_told_with_what_is_meant(command: tuple[str, ...], meant: str) -> None:
    done = p8fs_cluster(*command)
    assert (done.returncode, done.stdout) == (2, "")
    assert meant in done.stderr
