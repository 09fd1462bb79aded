"""A container as a graph, and the graph as a picture."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import combinations
from typing import Any

import pydot
import pytest
from dependency_injector import containers, providers
from hypothesis import given
from hypothesis import strategies as st

from examples.own_container import Application, Counters
from p8fs_cluster import Container
from p8fs_cluster.containers.graph.drawing import dot, mermaid, svg
from p8fs_cluster.containers.graph.layout import Line, Size, laid_out
from p8fs_cluster.containers.graph.model import Edge, Graph, Node, read
from p8fs_cluster.testing import memory_storage

SVG = "{http://www.w3.org/2000/svg}"
Box = tuple[float, float, float, float]


class Services(containers.DeclarativeContainer):
    storage = providers.Dependency()
    options = providers.Configuration()
    service = providers.Factory(
        dict, storage=storage, size=options.size.as_int(), parts=providers.List(providers.Factory(list, storage), 3)
    )


class Whole(Container):
    services = providers.Container(Services, storage=Container.storage)
    counters = providers.Singleton(Counters, Container.storage, providers.Callable(Container.logger, "p8fs_node"))
    secret = providers.Object("hunter2")
    url = providers.Callable(str, Container.config.provided.pg_host, secret)


def edges(graph: Graph) -> set[tuple[str, str, str]]:
    return {(edge.source, edge.target, edge.label) for edge in graph.edges}


def nodes(graph: Graph) -> dict[str, Node]:
    return {node.name: node for node in graph.nodes}


OURS = (
    *("config", "storage", "async_storage", "coordination", "cluster", "async_cluster"),
    *("kv", "async_kv", "api", "loggers", "logger", "sql", "engine", "session"),
)


class TestReading:
    def test_ours(self) -> None:
        graph = read(Container)
        assert [node.name for node in graph.nodes] == list(OURS)
        assert nodes(graph)["config"] == Node("config", "SettingsProvider", "P8FSConfig")
        assert nodes(graph)["engine"] == Node("engine", "Callable", "Engine")
        assert Edge("storage", "config", "settings", live=True) in graph.edges
        assert Edge("sql", "storage", "storage") in graph.edges

    def test_a_class_and_its_instance_are_the_same(self) -> None:
        assert read(Whole) == read(Whole())
        assert read(Whole).name == "Whole"

    def test_without_a_name_of_their_own(self) -> None:
        graph = read(Whole)
        assert edges(graph) >= {
            ("counters", "storage", "storage"),
            ("counters", "counters(log)", "log"),
            ("counters(log)", "logger", "calls"),
            ("url", "config", "[0] .pg_host"),
            ("url", "secret", "[1]"),
            ("services.service", "services.options", "size .size"),
            ("services.service", "services.service(parts)[0]", "parts[0]"),
        }
        assert nodes(graph)["counters(log)"] == Node("counters(log)", "Callable", "FieldLogger")
        assert not any("provided" in name or "AttributeGetter" in name for name in nodes(graph))

    def test_sub_containers(self) -> None:
        graph = read(Whole())
        assert ("services.storage", "storage", "given by") in edges(graph)
        assert nodes(graph)["services.storage"] == Node("services.storage", "Dependency", "Storage")
        assert "services" not in nodes(graph)

    def test_containers_that_are_given_to_others(self) -> None:
        class Outer(containers.DeclarativeContainer):
            inner = providers.Container(Services, storage=3)
            other = providers.Container(Services)
            adapters = providers.DependenciesContainer()
            user = providers.Factory(dict, adapters.service)

        outer = Outer(adapters=Services(storage=4))
        outer.other.override(outer.inner)
        graph = read(outer)
        assert {name for edge in graph.edges for name in (edge.source, edge.target)} <= nodes(graph).keys()
        assert {"inner", "other", "adapters"}.isdisjoint(nodes(graph))

    def test_overrides(self) -> None:
        whole = Whole(config={"pg_password": "hunter2"})
        with whole.storage.override(memory_storage()), whole.api.override(whole.url):
            graph = read(whole)
        assert nodes(graph)["config"].overridden_by == "Object P8FSConfig"
        assert nodes(graph)["storage"] == Node("storage", "Singleton", "Storage", "Object Storage")
        assert nodes(graph)["api"].overridden_by == "url"
        assert ("api", "url", "overridden by") in edges(graph)
        assert not any(edge.source == "storage" for edge in graph.edges)
        assert not any(node.overridden for node in read(Whole()).nodes)

    def test_what_an_override_needs_is_shown_in_its_place(self) -> None:
        whole = Whole()
        with whole.api.override(providers.Factory(dict, log=whole.logger)):
            assert ("api", "logger", "log") in edges(read(whole))
            assert ("api", "config", "settings") not in edges(read(whole))

    def test_cycles_end(self) -> None:
        container = containers.DynamicContainer()
        container.a, container.b = providers.Factory(dict), providers.List()
        container.a.add_kwargs(me=container.a, b=container.b)
        container.b.add_args(container.b, container.a)
        loop = providers.List()
        loop.add_args(loop)
        container.c = providers.Factory(dict, loop=loop)
        container.d = providers.Factory(dict, loop=loop)
        container.a.override(container.c)
        container.c.override(container.a)
        one, other = providers.Factory(dict), providers.Factory(list)
        container.e = providers.Factory(dict)
        container.e.override(one)
        one.override(other)
        other.override(one)
        assert ("a", "c", "overridden by") in edges(read(container))
        assert ("b", "b", "0") in edges(read(container))

    def test_a_container_that_is_given_itself(self) -> None:
        class Selfish(containers.DeclarativeContainer):
            __self__ = providers.Self()
            it = providers.Factory(dict, container=__self__, core=providers.Container(Services))

        assert list(nodes(read(Selfish()))) == ["it", "it(core)"]

    def test_kinds_of_providers(self) -> None:
        one, other = providers.Factory(dict), providers.Factory(list)
        container = containers.DynamicContainer()
        for name, provider in {
            "one": one,
            "choice": providers.Selector(providers.Configuration("c").way, one=one, other=other),
            "by_name": providers.FactoryAggregate(one=one),
            "delegated": providers.Factory(dict, it=providers.DelegatedFactory(dict)),
            "table": providers.Dict(first=one),
            "made": providers.Factory(one),
            "with_attributes": providers.Factory(dict).add_attributes(one=one),
            "called": providers.Factory(dict, it=one.provided["key"].size.call(other)),
        }.items():
            container.set_provider(name, provider)
        graph = read(container)
        assert edges(graph) >= {
            ("choice", "choice(selector)", "selector .way"),
            ("choice", "one", "one"),
            ("choice", "choice(other)", "other"),
            ("by_name", "one", "one"),
            ("table", "one", "first"),
            ("made", "one", "calls"),
            ("with_attributes", "one", ".one"),
            ("called", "one", "it [key].size()"),
        }
        assert [edge.live for edge in graph.edges if edge.source in ("by_name", "delegated")] == [True, True]


class Picture:
    """What can be read back of an SVG."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.root = ET.fromstring(text)  # noqa: S314
        self.nodes = [g for g in self.root.iter(f"{SVG}g") if "node" in (g.get("class") or "").split()]
        self.edges = [g for g in self.root.iter(f"{SVG}g") if "edge" in (g.get("class") or "").split()]

    def title(self, group: ET.Element) -> str:
        return group.findtext(f"{SVG}title") or ""

    def texts(self, group: ET.Element) -> list[str]:
        return [text.text or "" for text in group.iter(f"{SVG}text")]

    def box(self, group: ET.Element) -> Box:
        (rect,) = group.iter(f"{SVG}rect")
        x, y, width, height = (float(rect.get(name) or "") for name in ("x", "y", "width", "height"))
        return x, y, x + width, y + height

    def boxes(self) -> list[Box]:
        return [self.box(group) for group in self.nodes]

    def points(self, edge: ET.Element) -> list[tuple[float, float]]:
        """The ends of the curves of a line."""
        path = next(edge.iter(f"{SVG}path")).get("d") or ""
        numbers = [float(number) for number in re.findall(r"-?[\d.]+(?:e-?\d+)?", path)]
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
        return [pairs[0], *pairs[3::3]]

    def curves(self, edge: ET.Element) -> list[list[tuple[float, float]]]:
        """Points on the way, 11 of each curve."""
        path = next(edge.iter(f"{SVG}path")).get("d") or ""
        numbers = [float(number) for number in re.findall(r"-?[\d.]+(?:e-?\d+)?", path)]
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
        return [[_bezier(pairs[i : i + 4], step / 10) for step in range(11)] for i in range(0, len(pairs) - 1, 3)]


def _bezier(p: list[tuple[float, float]], t: float) -> tuple[float, float]:
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
    return tuple(sum(w * point[axis] for w, point in zip(weights, p, strict=True)) for axis in (0, 1))  # type: ignore[return-value]


def overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def inside(point: tuple[float, float], box: Box) -> bool:
    return box[0] + 0.01 < point[0] < box[2] - 0.01 and box[1] + 0.01 < point[1] < box[3] - 0.01


NAMES = st.one_of(
    st.sampled_from(
        ['<b>&"', "a\nb", "\x00", "]]>", "\\", '\\"', "数据库", "%%", "#quot;", "-->", "|", "`", "\ud800", "end"]
    ),
    st.text(max_size=60),
    st.text("abcdef.()[]", min_size=1, max_size=12),
)


@st.composite
def graphs(draw: Any) -> Graph:
    names = draw(st.lists(NAMES, unique=True, max_size=12))
    by = st.none() | NAMES
    drawn = tuple(Node(name, draw(NAMES), draw(NAMES), draw(by)) for name in names)
    end = st.sampled_from(names) if names else st.nothing()
    taken = st.builds(Edge, end, end, NAMES, st.sampled_from(["", ".pg_host"]), st.booleans())
    return Graph(drawn, tuple(draw(st.lists(taken, max_size=24))) if names else (), draw(NAMES))


class TestSvg:
    @given(graphs())
    def test_any_graph(self, graph: Graph) -> None:
        text = svg(graph)
        picture = Picture(text)
        assert svg(graph) == text
        assert len(picture.nodes) == len(graph.nodes)
        assert len(picture.edges) == len(graph.edges)
        boxes = picture.boxes()
        assert not any(overlap(one, other) for one, other in combinations(boxes, 2))
        width, height = float(picture.root.get("width") or ""), float(picture.root.get("height") or "")
        assert all(left >= 0 and top >= 0 and right <= width and bottom <= height for left, top, right, bottom in boxes)

    @given(graphs())
    def test_lines_begin_at_their_box_cross_none_and_stay_inside(self, graph: Graph) -> None:
        picture = Picture(svg(graph))
        boxes = {node.name: box for node, box in zip(graph.nodes, picture.boxes(), strict=True)}
        width, height = float(picture.root.get("width") or ""), float(picture.root.get("height") or "")
        in_order = [edge for node in graph.nodes for edge in graph.edges if edge.source == node.name]
        for edge, group in zip(in_order, picture.edges, strict=True):
            points, source, target = picture.points(group), boxes[edge.source], boxes[edge.target]
            assert points[0][0] == pytest.approx(source[2], abs=0.01)
            assert source[1] < points[0][1] < source[3]
            if len(list(group.iter(f"{SVG}path"))) == 2:  # with a head: it does not join another line
                assert points[-1][0] == pytest.approx(target[0], abs=0.01)
                assert target[1] < points[-1][1] < target[3]
            on_the_way = [point for curve in picture.curves(group) for point in curve]
            assert not any(inside(point, box) for point in on_the_way for box in boxes.values())
            assert all(0 <= x <= width and 0 <= y <= height for x, y in on_the_way)
        targets = {(edge.target, edge.live) for edge in graph.edges}
        heads = [group for group in picture.edges if len(list(group.iter(f"{SVG}path"))) == 2]
        assert len(heads) >= len(targets)

    @given(graphs())
    def test_texts_stay_in_their_boxes(self, graph: Graph) -> None:
        picture = Picture(svg(graph))
        for group in picture.nodes:
            left, top, right, bottom = picture.box(group)
            for text in group.iter(f"{SVG}text"):
                x, y = float(text.get("x") or ""), float(text.get("y") or "")
                characters = len((text.text or "").encode("utf-32-le")) // 4
                wide = 0.602 * (14 if text.get("class") == "name" else 11.5) * characters
                start, end = (x - wide, x) if text.get("class") == "argument" else (x, x + wide)
                assert left <= start
                assert end <= right
                assert top < y - 8
                assert y < bottom

    def test_what_is_to_be_seen(self) -> None:
        whole = Whole()
        with whole.storage.override(memory_storage()):
            picture = Picture(svg(read(whole)))
        (storage,) = [group for group in picture.nodes if picture.texts(group)[0] == "storage"]
        assert storage.get("class") == "node overridden"
        assert picture.texts(storage) == ["storage", "Singleton · Storage", "overridden by Object Storage"]
        assert picture.title(storage) == "storage, Singleton · Storage, overridden by Object Storage"
        assert (
            picture.title(picture.root) == f"Whole: {len(picture.nodes)} providers, {len(picture.edges)} dependencies"
        )
        assert ">storage takes config" not in picture.text
        titles = [picture.title(edge) for edge in picture.edges]
        assert "api takes config as settings, the provider itself" in titles
        assert "url takes config.pg_host as [0]" in titles
        assert "prefers-color-scheme: dark" in picture.text
        assert re.search(r"\.overridden \.box \{[^}]*stroke-dasharray", picture.text)

    def test_the_columns_are_the_way_to_what_is_needed(self) -> None:
        graph = read(Container)
        left = {node.name: box[0] for node, box in zip(graph.nodes, Picture(svg(graph)).boxes(), strict=True)}
        assert left["engine"] < left["sql"] < left["storage"] < left["config"]
        assert left["storage"] == left["api"] == left["loggers"]

    def test_nothing_loads_from_elsewhere(self) -> None:
        text = svg(read(Whole))
        assert set(re.findall(r"https?://[^\s\"]+", text)) == {"http://www.w3.org/2000/svg"}
        assert "url(" not in text
        assert "<script" not in text


class TestLayout:
    def test_empty(self) -> None:
        assert laid_out([], []).corners == ()
        assert Picture(svg(Graph((), ()))).nodes == []

    def test_lines_to_one_target_run_together(self) -> None:
        """a → b → c → d, and a and b also straight to d: the second to come joins the first."""
        sizes = [Size(50, 20)] * 4
        lines = [Line(0, 1, 5), Line(1, 2, 5), Line(2, 3, 5), Line(0, 3, 10), Line(1, 3, 10)]
        routes = laid_out(sizes, lines).routes
        assert [route.joins for route in routes] == [False, False, False, False, True]
        assert routes[4].points[-1] in routes[3].points[:-1]

    def test_lines_of_other_styles_do_not(self) -> None:
        lines = [Line(0, 1, 5), Line(1, 2, 5), Line(2, 3, 5), Line(0, 3, 10), Line(1, 3, 10, "live")]
        assert not any(route.joins for route in laid_out([Size(50, 20)] * 4, lines).routes)

    def test_a_large_one(self) -> None:
        sizes = [Size(50, 20)] * 400
        chain = [Line(number, number + 1, 5) for number in range(399)]
        layout = laid_out(sizes, [*chain, *(Line(number, 399, 10) for number in range(399))])
        assert len(set(layout.corners)) == 400


class TestMermaid:
    LINE = re.compile(
        r"flowchart LR"
        r"|  n\d+\[\"(?P<text>[^\"\n]*)\"\](:::overridden)?"
        r"|  n\d+ (-->|-\.->)(\|\"(?P<label>[^\"\n]*)\"\|)? n\d+"
        r"|  classDef overridden stroke-dasharray: 6 4"
    )

    @given(graphs())
    def test_syntax(self, graph: Graph) -> None:
        lines = mermaid(graph).split("\n")
        assert lines[0] == "flowchart LR"
        for line in lines:
            match = self.LINE.fullmatch(line)
            assert match, line
            inner = (match["text"] or "") + (match["label"] or "")
            assert not set(re.sub(r"<br/>|#\d+;", "", inner)) & set('<>&"#|`\\')
        assert sum(bool(re.search(r"-->|-\.->", line)) for line in lines) == len(graph.edges)

    def test_ours(self) -> None:
        text = mermaid(read(Container))
        assert '  n1["storage<br/>Singleton · Storage"]' in text
        assert '  n1 -.->|"settings"| n0' in text
        assert f'  n{OURS.index("sql")} -->|"storage"| n1' in text


@pytest.mark.filterwarnings("ignore::DeprecationWarning:pydot.dot_parser")  # its use of pyparsing
class TestDot:
    @given(graphs())
    def test_a_parser_of_dot_reads_it(self, graph: Graph) -> None:
        (parsed,) = pydot.graph_from_dot_data(dot(graph)) or []
        assert len(parsed.get_edges()) == len(graph.edges)
        names = {node.get_name() for node in parsed.get_nodes()} - {"node", "graph", "edge"}
        assert names == {f"n{number}" for number in range(len(graph.nodes))}
        assert {(edge.get_source(), edge.get_destination()) for edge in parsed.get_edges()} == {
            (f"n{_number(graph, edge.source)}", f"n{_number(graph, edge.target)}") for edge in graph.edges
        }

    def test_ours(self) -> None:
        (parsed,) = pydot.graph_from_dot_data(dot(read(Container))) or []
        labels = {node.get_name(): node.get("label") for node in parsed.get_nodes()}
        assert labels["n1"] == '"storage\\nSingleton · Storage"'
        (edge,) = [edge for edge in parsed.get_edges() if edge.get_source() == "n1"]
        assert (edge.get("label"), edge.get("style")) == ('"settings"', "dashed")


def _number(graph: Graph, name: str) -> int:
    return [node.name for node in graph.nodes].index(name)


@pytest.mark.parametrize("draw", [svg, mermaid, dot])
class TestEveryFormat:
    def test_no_address_and_no_value_is_shown(self, draw: Any) -> None:
        whole = Whole(config={"pg_password": "hunter2", "pg_host": "seekrit"})
        with whole.storage.override(memory_storage()):
            text = draw(read(whole))
        assert "0x" not in text
        assert "hunter2" not in text
        assert "seekrit" not in text
        assert "Object · str" in text
        assert "overridden by Object Storage" in text.replace("#160;", " ")

    def test_the_same_bytes_in_another_process(self, draw: Any) -> None:
        code = (
            "from p8fs_cluster.containers.graph.drawing import *; from p8fs_cluster.containers.graph.model import read;"
            f"from examples.own_container import Application; print({draw.__name__}(read(Application())), end='')"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert done.stdout.decode() == draw(read(Application))
