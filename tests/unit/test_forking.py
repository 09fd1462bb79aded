"""The one hook for forks."""

from __future__ import annotations

import subprocess
import sys

import pytest

from p8fs_cluster import forking
from p8fs_cluster.forking import Stage, after_fork
from tests.processes import forked


def test_stages_run_in_their_order_whatever_was_named_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forking, "_in_child", [])
    ran: list[str] = []
    for stage in (Stage.CONTAINERS, Stage.LOCKS, Stage.STORAGE, Stage.LOGGING, Stage.SETTINGS):
        after_fork(stage, lambda stage=stage: ran.append(stage.name))  # type: ignore[misc]
    after_fork(Stage.LOCKS, lambda: ran.append("a second of the first stage"))
    told = forked(lambda: ", ".join(ran))
    assert told == "LOCKS, a second of the first stage, LOGGING, SETTINGS, STORAGE, CONTAINERS"
    assert ran == [], "nothing runs in the parent"


def test_the_package_is_of_use_where_there_is_no_fork() -> None:
    program = """
import os
del os.register_at_fork, os.fork
from p8fs_cluster import Container
from p8fs_cluster.testing import memory_storage
with Container().override_providers(storage=memory_storage()) as container:
    with container.storage() as connection:
        connection[b"key"] = b"value"
    container.logger("here").info("written")
print("done")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["done"], done.stderr


def test_the_package_registers_one_hook() -> None:
    program = """
import os
real, hooks = os.register_at_fork, []
def noting(**named):
    hooks.extend(hook.__module__ for hook in named.values() if hook.__module__.startswith("p8fs_cluster"))
    real(**named)
os.register_at_fork = noting
import p8fs_cluster.containers.container, p8fs_cluster.logging.setup, p8fs_cluster.config.settings
print(*hooks)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert set(done.stdout.split()) == {"p8fs_cluster.forking"}, done.stderr
