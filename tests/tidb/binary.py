"""Where the TiDB for the tests is, and how it is built: Go and the packages that `go.mod` names; nothing else.

The binary lies in the user's cache, in a folder named by TiDB's version, Go's version and a digest of our Go module.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

RELEASE = "v8.5.6"
"""The release that `go.mod` names by a pseudo-version; `SELECT VERSION()` says so."""

MODULE = Path(__file__).parent
PROGRESS = 20
"""Seconds between two lines of progress where the output is no terminal."""

_TIDB = "github.com/pingcap/tidb"
_ITS_GO = "go1.25"
"""TiDB reads the layout of Go's maps, and starts only where the name of its Go has this in it."""


class BuildFailed(Exception):
    """TiDB could not be built; the message says why and what to do."""


def built() -> Path | None:
    """Return the newest binary of this release and this module that was built, None if there is none."""
    found = sorted(_cache().glob(f"tidb-{RELEASE}-go*-{_digest()}/tidb-server"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


def build() -> Path:
    """Build TiDB unless that was done before, and return the binary.

    :raises BuildFailed: Go is missing, or the build failed.
    """
    go = shutil.which("go")
    if go is None:
        raise BuildFailed("Go is missing: install Go 1.25.8 or later (https://go.dev/doc/install) and try again")
    version = _output([go, "env", "GOVERSION"])
    target = _cache() / f"tidb-{RELEASE}-{version}-{platform.machine()}-{_digest()}" / "tidb-server"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f"draft-{os.getpid()}")
    flags = ["-ldflags", f"-s -w -X {_TIDB}/pkg/parser/mysql.TiDBReleaseVersion={RELEASE}"]
    if _ITS_GO not in version:
        flags[1] += f" -X runtime.buildVersion={version}-maps-as-in-{_ITS_GO}"
    try:
        _say(f"building TiDB {RELEASE} with {version}: fetching its packages …")
        _run([go, "mod", "download"], "its packages could not be fetched")
        if _ITS_GO not in version:
            _confirm_maps(go, version, flags)
        _compile([go, "build", "-v", *flags, "-o", str(draft), "."])
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target


def _confirm_maps(go: str, version: str, flags: Sequence[str]) -> None:
    """Run TiDB's own tests of the layout of Go's maps, which its authors ask for before another Go is used."""
    _run(
        [go, "test", *flags, f"{_TIDB}/pkg/util/hack"],
        f"TiDB {RELEASE} is for {_ITS_GO}, and its tests of the layout of maps fail with {version}: "
        f"put a {_ITS_GO} first on the PATH",
    )


def _compile(command: Sequence[str]) -> None:
    """Compile with a line of progress: how many packages are done, of how many."""
    total = len(_output([command[0], "list", "-deps", "."]).splitlines())
    begun = told = time.monotonic()
    process = subprocess.Popen(command, cwd=MODULE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    other: list[str] = []
    done = 0
    for line in process.stderr:
        if re.fullmatch(r"[\w.\-/~]+\n", line):
            done += 1
        else:
            other.append(line)
        now = time.monotonic()
        if sys.stderr.isatty() or now - told > PROGRESS:
            told = now
            _say(f"{done} packages compiled, of {total} at most, in {now - begun:.0f} s", again=True)
    if process.wait():
        raise BuildFailed(f"it could not be compiled:\n{''.join(other)[-3000:]}")
    _say(f"built in {time.monotonic() - begun:.0f} s")


def _say(line: str, again: bool = False) -> None:
    """Print a line of progress; on a terminal one that comes again takes the place of the one before."""
    end = "\r" if again and sys.stderr.isatty() else "\n"
    print(f"{line:<70}" if sys.stderr.isatty() else line, end=end, file=sys.stderr, flush=True)


def _run(command: Sequence[str], fault: str) -> None:
    done = subprocess.run(command, cwd=MODULE, capture_output=True, text=True)
    if done.returncode:
        raise BuildFailed(f"{fault}:\n{(done.stdout + done.stderr)[-3000:]}")


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, cwd=MODULE, capture_output=True, text=True)
    if done.returncode:
        raise BuildFailed(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return done.stdout.strip()


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "p8fs_cluster"


def _digest() -> str:
    """Return what tells one state of our Go module from another."""
    content = b"".join((MODULE / name).read_bytes() for name in ("main.go", "go.mod", "go.sum"))
    return hashlib.sha256(content).hexdigest()[:8]
