"""Run a contender's programs, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import traceback
import warnings
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection

from benchmarks.features import FRAMEWORKS, Program
from benchmarks.features.parts import Seen

SECONDS = 60
NO_PROGRAM = "–"  # noqa: RUF001


@dataclass(frozen=True)
class Cell:
    """What running a program has shown: "yes", "no" with what was seen, or a dash where there is no program."""

    text: str
    seen: str = ""


def program_of(module: str, feature: str) -> Program | None:
    """Return the program of a contender's module for a feature.

    Raises AttributeError if the module does not name the feature.
    """
    package = "benchmarks.features.frameworks" if feature in FRAMEWORKS else "benchmarks.features"
    program: Program | None = getattr(import_module(f"{package}.{module}"), feature)
    return program


def shown(program: Program | None) -> Cell:
    """Run a program here, and return what it has shown."""
    if program is None:
        return Cell(NO_PROGRAM)
    try:
        program()
    except Seen as seen:
        return Cell("no", str(seen))
    return Cell("yes")


def shown_apart(program: Program | None) -> Cell:
    """Run a program in a forked process and an empty folder, and return what it has shown.

    Raises RuntimeError if the program itself fails, or takes longer than a minute.
    """
    if program is None:
        return Cell(NO_PROGRAM)
    forking = multiprocessing.get_context("fork")
    receiver, sender = forking.Pipe(duplex=False)
    child = forking.Process(target=_send, args=(program, sender))
    child.start()
    sender.close()
    try:
        told = receiver.recv() if receiver.poll(SECONDS) else f"no answer within {SECONDS} s"
    finally:
        child.kill()
        child.join()
    if isinstance(told, Cell):
        return told
    raise RuntimeError(f"{program.__module__}.{program.__name__}: {told}")


def _send(program: Program, sender: Connection) -> None:
    warnings.simplefilter("error")
    for name in [name for name in os.environ if name.upper().startswith("P8FS_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            sender.send(shown(program))
        except BaseException:
            sender.send(traceback.format_exc())
