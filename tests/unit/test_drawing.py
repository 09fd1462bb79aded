"""A container as a graph, and the graph as a picture."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pydot
import pytest
from dependency_injector import containers, providers
from hypothesis import given
from hypothesis import strategies as st

from examples.own_container import Application, Counters
from p8fs_cluster import Container
from p8fs_cluster.containers.graph.drawing import dot, mermaid
from p8fs_cluster.containers.graph.model import Edge, Graph, Node, read
from p8fs_cluster.testing import memory_storage


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


@pytest.mark.parametrize("draw", [mermaid, dot])
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
