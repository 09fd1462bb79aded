"""A container's graph, drawn: for Mermaid, for Graphviz, or as an SVG that stands alone, on light and dark ground.

No value is ever in it, and what is drawn of the same graph is the same, byte for byte.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from itertools import pairwise
from xml.sax.saxutils import escape

from p8fs_cluster.containers.graph.layout import COLUMN_GAP, Layout, Line, Point, Route, Size, laid_out
from p8fs_cluster.containers.graph.model import Edge, Graph, Node

__all__ = ["dot", "mermaid", "svg"]

_PLAIN = frozenset(" ._()[]:·")
"""Besides letters and digits, what means nothing to Mermaid."""


MARGIN = 36.0
PADDING = 13.0
HEAD = 20.0
"""From the upper edge of a box to the foot of its first text."""
ROW = 17.0
CHARACTER = 0.61
"""The width of a character of a monospaced font, by its size; the widest of the usual ones has 0.602."""
NAME_SIZE, TEXT_SIZE = 14.0, 11.5
LONGEST = 44
"""Characters of a text that are shown; its title has them all."""

STYLE = """\
svg { --ground: #ffffff; --box: #f6f8fa; --rim: #8c959f; --text: #1f2328; --dim: #59636e; --line: #6e7781; \
--live: #0969da; --override: #bc4c00 }
@media (prefers-color-scheme: dark) { svg { --ground: #0d1117; --box: #161b22; --rim: #6e7681; --text: #e6edf3; \
--dim: #9198a1; --line: #8b949e; --live: #58a6ff; --override: #f0883e } }
text { font: 11.5px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: var(--dim) }
.ground { fill: var(--ground) }
.box { fill: var(--box); stroke: var(--rim) }
text.name { font-size: 14px; font-weight: 600; fill: var(--text) }
.argument { text-anchor: end }
.overridden .box { stroke: var(--override); stroke-width: 1.5; stroke-dasharray: 6 4 }
.overridden .by { fill: var(--override) }
.line { fill: none; stroke: var(--line); stroke-width: 1.3 }
.head, .port { fill: var(--line) }
.live .line { stroke: var(--live); stroke-dasharray: 5 3 }
.live .head, .live .port { fill: var(--live) }"""


def mermaid(graph: Graph) -> str:
    """Return a Mermaid flowchart; live dependencies are dotted.

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


def svg(graph: Graph) -> str:
    """Return the image: a box for each provider, with its arguments, and lines from them to what they are given.

    >>> svg(Graph((Node("a", "Factory", "A"),), ())).splitlines()[1]
    '<title>container: 1 provider, 0 dependencies</title>'
    """
    numbers = {node.name: number for number, node in enumerate(graph.nodes)}
    edges: list[list[Edge]] = [[] for _ in graph.nodes]
    for edge in graph.edges:
        edges[numbers[edge.source]].append(edge)
    drawn = [(number, edge, row) for number, own in enumerate(edges) for row, edge in enumerate(own)]
    lines = [
        Line(number, numbers[edge.target], _port(graph.nodes[number], row), "live" if edge.live else "")
        for number, edge, row in drawn
    ]
    layout = laid_out([_size(node, own) for node, own in zip(graph.nodes, edges, strict=True)], lines)
    parts = [_line(edge, layout.routes[number]) for number, (_, edge, _) in enumerate(drawn)]
    for node, own, (x, y), width in zip(graph.nodes, edges, layout.corners, layout.widths, strict=True):
        parts.append(_box(node, own, (x + MARGIN, y + MARGIN), width))
    return "\n".join([*_opening(graph, layout), *parts, *_legend(graph, layout), "</svg>"])


def _texts(node: Node) -> list[str]:
    """Return the lines that tell of a provider: its name, its kind and type, what overrides it.

    >>> _texts(Node("storage", "Singleton", "Storage", "Object Storage"))
    ['storage', 'Singleton · Storage', 'overridden by Object Storage']
    """
    by = [f"overridden by {node.overridden_by}"] if node.overridden else []
    return [node.name, " · ".join(filter(None, [node.kind, node.type])), *by]


def _printable(text: str) -> str:
    """Return `text` without what can't be seen, or is no character of XML."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _ids(graph: Graph) -> Mapping[str, str]:
    return {node.name: f"n{number}" for number, node in enumerate(graph.nodes)}


def _for_mermaid(text: str) -> str:
    return "".join(c if c.isalnum() or c in _PLAIN else f"#{ord(c)};" for c in _printable(text))


def _for_dot(*lines: str) -> str:
    escaped = (_printable(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(escaped) + '"'


def _opening(graph: Graph, layout: Layout) -> list[str]:
    width, height = layout.size.width + 2 * MARGIN, layout.size.height + (3 if _has_live(graph) else 2) * MARGIN
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    counts = f"{_count(len(graph.nodes), 'provider', 's')}, {_count(len(graph.edges), 'dependenc', 'ies', 'y')}"
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>',
        _title(f"{graph.name}: {counts}"),
        f"<style>\n{STYLE}\n</style>",
        f'<rect class="ground" width="{width:g}" height="{height:g}" rx="8"/>',
    ]


def _box(node: Node, edges: Sequence[Edge], corner: Point, width: float) -> str:
    x, y = corner
    height = _size(node, edges).height
    name, *others = _texts(node)
    texts = [_text("name", x + PADDING, y + HEAD, name)]
    for row, text in enumerate(others, 1):
        texts.append(_text("kind" if row == 1 else "by", x + PADDING, y + HEAD + row * ROW, text))
    for row, edge in enumerate(edges):
        foot = y + _port(node, row)
        port = f'<circle class="port" cx="{x + width:g}" cy="{foot:g}" r="2.5"/>'
        live = ' class="live"' if edge.live else ""
        texts.append(f"<g{live}>{_text('argument', x + width - PADDING, foot + 4, edge.label)}{port}</g>")
    return "\n".join(
        [
            f'<g class="{"node overridden" if node.overridden else "node"}">{_title(", ".join(_texts(node)))}',
            f'<rect class="box" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>',
            *texts,
            "</g>",
        ]
    )


def _line(edge: Edge, route: Route) -> str:
    """The curve, with a head where it reaches its target itself."""
    moved = [(x + MARGIN, y + MARGIN) for x, y in route.points]
    path = f"M {moved[0][0]:g} {moved[0][1]:g}" + "".join(
        _curve(one, other, leaving=number == 0) for number, (one, other) in enumerate(pairwise(moved))
    )
    x, y = moved[-1]
    head = "" if route.joins else f'<path class="head" d="M {x:g} {y:g} l -8 -4 v 8 z"/>'
    told = f"{edge.source} takes {edge.target}{edge.part} as {edge.argument or 'what it calls'}"
    return (
        f'<g class="edge{" live" if edge.live else ""}">{_title(told + (", the provider itself" if edge.live else ""))}'
        f'<path class="line" d="{path}"/>{head}</g>'
    )


def _curve(one: Point, other: Point, leaving: bool) -> str:
    """A cubic that leaves and arrives level; within one edge of a column, it turns around beside it."""
    middle = (one[0] + other[0]) / 2
    if one[0] == other[0]:
        middle += COLUMN_GAP / 2 if leaving else -COLUMN_GAP / 2
    return f" C {middle:g} {one[1]:g} {middle:g} {other[1]:g} {other[0]:g} {other[1]:g}"


def _legend(graph: Graph, layout: Layout) -> list[str]:
    if not _has_live(graph):
        return []
    x, y = MARGIN, layout.size.height + 2.4 * MARGIN
    line = f'<g class="live"><path class="line" d="M {x:g} {y:g} h 40"/></g>'
    return [line, _text("legend", x + 50, y + 4, "the provider itself, asked at each use")]


def _size(node: Node, edges: Sequence[Edge]) -> Size:
    name, *others = _texts(node)
    widths = [_width(name, NAME_SIZE), *(_width(text, TEXT_SIZE) for text in (*others, *(e.label for e in edges)))]
    return Size(max(widths) + 2 * PADDING, _port(node, len(edges)) - 1)


def _port(node: Node, row: int) -> float:
    """Return how far below the upper edge of its box an argument's line begins."""
    return HEAD + len(_texts(node)) * ROW + row * ROW - 3


def _width(text: str, size: float) -> float:
    wide = sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in _shown(text))
    return float(round(wide * size * CHARACTER, 1))


def _shown(text: str) -> str:
    text = _printable(text)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _text(kind: str, x: float, y: float, text: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(_shown(text))}</text>'


def _title(text: str) -> str:
    return f"<title>{escape(_printable(text))}</title>"


def _has_live(graph: Graph) -> bool:
    return any(edge.live for edge in graph.edges)


def _count(number: int, stem: str, many: str, one: str = "") -> str:
    return f"{number} {stem}{one if number == 1 else many}"
