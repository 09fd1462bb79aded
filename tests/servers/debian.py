"""Binaries of servers: those on the machine, else Debian's packages, if we may install them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.servers.server import ServerMissing

__all__ = ["binary"]


def binary(name: str, where: str, package: str) -> str:
    """Return the path of a server's binary, after installing its package if need be.

    :raises ServerMissing: there is none, and it can't be installed; the message says what to do.
    """
    path = _find(name, where)
    if path is None:
        _install(package)
        path = _find(name, where)
    if path is None:
        raise ServerMissing(f"{name} is missing: install Debian's package {package}")
    return path


def _find(name: str, where: str) -> str | None:
    found = sorted(Path("/").glob(f"{where[1:]}/{name}"))
    return str(found[-1]) if found else shutil.which(name)


def _install(package: str) -> None:
    variable = "P8FS_TEST_POSTGRES_URL" if package == "postgresql" else "P8FS_TEST_MARIADB_URL"
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    other = "" if package == "pgbouncer" else f", or name a server in {variable}"
    way_out = f"install it (apt-get install {package}){other}"
    if not shutil.which("apt-get") or (sudo and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode):
        raise ServerMissing(f"the tests need {package}, and it can't be installed from here: {way_out}")
    print(f"installing {package} for the tests …", file=sys.stderr)
    environment = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"]
    with _no_services():
        for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", package]):
            done = subprocess.run([*sudo, *environment, *command], stdin=subprocess.DEVNULL, capture_output=True)
            if done.returncode:
                raise ServerMissing(f"{' '.join(command)} failed: {done.stderr.decode()[-500:]}; {way_out}")


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Keep Debian from starting the server that it installs: ours are private ones."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists() or os.geteuid() != 0:
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()
