"""Draw the graph of a container as text for Mermaid or for Graphviz.

No value is ever in the text, and the same graph gives the same text, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping

from p8fs_cluster.containers.graph.model import Graph, Node

__all__ = ["dot", "mermaid"]

_PLAIN = frozenset(" ._()[]:·")
"""Besides letters and digits, what means nothing to Mermaid."""


def mermaid(graph: Graph) -> str:
    """Return a Mermaid flowchart; live dependencies are dotted.

    >>> from p8fs_cluster.containers.graph.model import Edge
    >>> print(mermaid(Graph((Node("a", "Factory", "A"), Node("b", "Object", "B")), (Edge("a", "b", "it"),))))
    flowchart LR
      n0["a<br/>Factory · A"]
      n1["b<br/>Object · B"]
      n0 -->|"it"| n1
    """
    ids = _ids(graph)
    lines = ["flowchart LR"]
    for node in graph.nodes:
        text = "<br/>".join(map(_for_mermaid, _texts(node)))
        lines.append(f'  {ids[node.name]}["{text}"]{":::overridden" if node.overridden else ""}')
    for edge in graph.edges:
        arrow, label = "-.->" if edge.live else "-->", f'|"{_for_mermaid(edge.label)}"|' if edge.label else ""
        lines.append(f"  {ids[edge.source]} {arrow}{label} {ids[edge.target]}")
    if any(node.overridden for node in graph.nodes):
        lines.append("  classDef overridden stroke-dasharray: 6 4")
    return "\n".join(lines)


def dot(graph: Graph) -> str:
    r"""Return a Graphviz digraph; live dependencies are dashed.

    >>> from p8fs_cluster.containers.graph.model import Edge
    >>> print(dot(Graph((Node("a", "Factory", "A"), Node("b", "Object", "B")), (Edge("a", "b", "it", live=True),))))
    digraph "container" {
      rankdir=LR;
      node [shape=box, style=rounded];
      n0 [label="a\nFactory · A"];
      n1 [label="b\nObject · B"];
      n0 -> n1 [label="it", style=dashed];
    }
    """
    ids = _ids(graph)
    lines = [f"digraph {_for_dot(graph.name)} {{", "  rankdir=LR;", "  node [shape=box, style=rounded];"]
    for node in graph.nodes:
        style = ', style="rounded,dashed"' if node.overridden else ""
        lines.append(f"  {ids[node.name]} [label={_for_dot(*_texts(node))}{style}];")
    for edge in graph.edges:
        style = ", style=dashed" if edge.live else ""
        lines.append(f"  {ids[edge.source]} -> {ids[edge.target]} [label={_for_dot(edge.label)}{style}];")
    return "\n".join([*lines, "}"])


def _texts(node: Node) -> list[str]:
    """Return the lines that tell of a provider: its name, its kind and type, what overrides it.

    >>> _texts(Node("storage", "Singleton", "Storage", "Object Storage"))
    ['storage', 'Singleton · Storage', 'overridden by Object Storage']
    """
    by = [f"overridden by {node.overridden_by}"] if node.overridden else []
    return [node.name, " · ".join(filter(None, [node.kind, node.type])), *by]


def _printable(text: str) -> str:
    """Return `text` without what can't be seen, or would break the XML that is drawn of it."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _ids(graph: Graph) -> Mapping[str, str]:
    return {node.name: f"n{number}" for number, node in enumerate(graph.nodes)}


def _for_mermaid(text: str) -> str:
    return "".join(c if c.isalnum() or c in _PLAIN else f"#{ord(c)};" for c in _printable(text))


def _for_dot(*lines: str) -> str:
    escaped = (_printable(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(escaped) + '"'
