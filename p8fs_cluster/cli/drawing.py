"""The formats of `p8fs-cluster graph`."""

from __future__ import annotations

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


def drawn(container: Any, form: Format) -> str:
    """Return a container as text of a format.

    >>> from p8fs_cluster import Container
    >>> drawn(Container, "mermaid").splitlines()[0]
    'flowchart LR'
    """
    from p8fs_cluster.containers.graph import drawing
    from p8fs_cluster.containers.graph.model import read

    draw = {"mermaid": drawing.mermaid, "dot": drawing.dot, "svg": drawing.svg}[form]
    return draw(read(container))


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
