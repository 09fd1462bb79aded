"""The formats of `p8fs-cluster graph`; SVG is drawn by Graphviz."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal

from p8fs_cluster.cli.output import refuse

__all__ = ["Format", "drawn", "format_of"]

Format = Literal["mermaid", "dot", "svg"]

ENDINGS: dict[str, Format] = {
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".dot": "dot",
    ".gv": "dot",
    ".svg": "svg",
}

_OTHERS = "--format mermaid or --format dot"


def drawn(container: Any, form: Format) -> str:
    """Return a container as text of a format. SVG is refused where Graphviz is not installed or fails.

    >>> from p8fs_cluster import Container
    >>> drawn(Container, "mermaid").splitlines()[0]
    'flowchart LR'
    """
    from p8fs_cluster.containers.graph.drawing import dot, mermaid
    from p8fs_cluster.containers.graph.model import read

    graph = read(container)
    if form == "mermaid":
        return mermaid(graph)
    return dot(graph) if form == "dot" else _drawn_by_graphviz(dot(graph))


def format_of(output: Path | None) -> Format:
    """Return the format that a file's ending says; Mermaid where there is no file. Other endings are refused.

    >>> format_of(Path("a.gv"))
    'dot'
    """
    if output is None:
        return "mermaid"
    if output.suffix not in ENDINGS:
        refuse(f"{output} does not say a format: use --format, or an ending of {', '.join(ENDINGS)}")
    return ENDINGS[output.suffix]


def _drawn_by_graphviz(text: str) -> str:
    """Return the SVG of a graph in DOT. What Graphviz prints to stderr goes to the stderr of this process."""
    program = shutil.which("dot")
    if program is None:
        refuse(f"Graphviz draws SVG, and its command `dot` was not found: install Graphviz, or use {_OTHERS}")
    try:
        done = subprocess.run([program, "-Tsvg"], input=text, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    except subprocess.CalledProcessError as exc:
        refuse(f"{program} -Tsvg ended with exit code {exc.returncode}: use {_OTHERS}")
    except OSError as exc:
        refuse(f"{program} can't be run: {exc.strerror}; use {_OTHERS}")
    return done.stdout.rstrip("\n")
