"""What is wrong with a container, found before anything is built."""

from __future__ import annotations

import abc
import importlib
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from inspect import Parameter, Signature
from inspect import _ParameterKind as Kind
from logging import Logger
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable
from unittest.mock import Mock

import pytest
from dependency_injector import containers, providers, resources
from dependency_injector.wiring import Closing
from fastapi import Depends
from hypothesis import given, reject
from hypothesis import strategies as st
from pydantic import BaseModel

from examples import documents, own_container
from p8fs_cluster import Container, InjectionError, Provide, Storage, inject
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.containers.graph.arguments import bind
from p8fs_cluster.containers.graph.checking import check
from p8fs_cluster.exceptions import GraphProblem
from p8fs_cluster.providers.api import ApiSettings
from p8fs_cluster.testing import memory_storage


class Named(Protocol):
    name: str


@runtime_checkable
class Runnable(Protocol):
    def run(self) -> None: ...


class Client:
    def __init__(self, host: str, port: int = 80, *, timeout: float = 1.0) -> None: ...


class Service:
    def __init__(self, storage: Storage, log: Logger | None = None) -> None: ...


class Session:
    """It may be entered as anything."""

    def __enter__(self) -> Any: ...
    def __exit__(self, *exc: object) -> None: ...


class Special(Service):
    def __init__(self) -> None: ...


class Store(abc.ABC):
    @abc.abstractmethod
    def load(self) -> str: ...


@dataclass
class Record:
    storage: Storage
    size: int = 1


class Model(BaseModel):
    port: int
    api: Any = None


class OpenedStorage(resources.Resource[Storage]):
    def init(self, path: str) -> Storage:
        raise AssertionError("nothing is opened")

    def shutdown(self, resource: Storage | None) -> None: ...


def opened(host: str) -> Iterator[Client]:
    raise AssertionError("nothing is opened")
    yield


def entered() -> Session:
    raise AssertionError("nothing is opened")


def client_of(storage: Storage) -> Client:
    raise AssertionError("nothing is called")


def takes_service(service: Service) -> None: ...
def takes_client(client: Client) -> None: ...
def takes_float(number: float) -> None: ...
def takes_int(number: int) -> None: ...
def takes_text(text: str, more: str = "") -> None: ...
def takes_path(path: Path) -> None: ...
def takes_either(it: Client | Service | None) -> None: ...
def takes_partly(it: Client | Named) -> None: ...
def takes_runnable(it: Runnable) -> None: ...
def takes_unhashable(it: Annotated[int, {}]) -> None: ...
def takes_maybe(it: Client = None) -> None: ...  # type: ignore[assignment]
def takes_many(*services: Service, **clients: Client) -> None: ...
def takes_settings(settings: P8FSConfig) -> None: ...
def takes_uncertain(a: Named, b: Callable[[], P8FSConfig], c: list[str], d: Any, e: Unheard) -> None: ...  # type: ignore[name-defined]  # noqa: F821


def container_of(**members: Any) -> Any:
    return type("Application", (Container,), members)


def problems_of(**members: Any) -> list[str]:
    """The same for the class and for an instance."""
    application = container_of(**members)
    found = [str(problem) for problem in check(application)]
    assert [str(problem) for problem in check(application())] == found
    return found


def test_our_own_containers_are_sound() -> None:
    assert check(Container) == check(Container()) == ()
    assert check(own_container.Application, functions=[own_container, documents]) == ()
    Container().check()


def test_nothing_is_read_built_or_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P8FS_PG_PORT", "no number")

    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("called")

    application = container_of(
        one=providers.Singleton(never, Container.config),
        two=providers.Resource(opened, Container.config.provided.pg_host),
        three=providers.Factory(never, Container.storage, providers.Selector(never, a=Container.api)),
    )()
    assert check(application) == ()
    assert not application.two.initialized
    assert not application.storage.built


class TestArguments:
    def test_unknown(self) -> None:
        assert problems_of(client=providers.Singleton(Client, hots="x")) == [
            "client: Client: there is no argument 'hots'; did you mean 'host'?"
        ]

    def test_missing(self) -> None:
        class Plain(containers.DeclarativeContainer):
            storage = providers.Singleton(Storage, Container.config)
            service = providers.Singleton(Service)

        assert [str(each) for each in check(Plain) if each.where == "service"] == [
            "service: Service: argument 'storage' is missing; storage would fit"
        ]
        assert problems_of(client=providers.Resource(opened)) == ["client: opened: argument 'host' is missing"]

    def test_too_many_by_position(self) -> None:
        assert problems_of(client=providers.Factory(Client, "a", 1, 2)) == [
            "client: Client: it takes 2 by position, and 3 are given"
        ]

    def test_twice(self) -> None:
        assert problems_of(client=providers.Callable(Client, "a", host="b")) == [
            "client: Client: argument 'host' is given twice; by position and by name"
        ]

    def test_all_at_once(self) -> None:
        found = problems_of(
            client=providers.Singleton(Client, prot=1), record=providers.Singleton(Record, Container.api, 1, 2)
        )
        assert len(found) == 4

    def test_a_factory_may_be_completed_by_its_caller(self) -> None:
        assert problems_of(make=providers.Factory(Client), call=providers.Callable(client_of)) == []
        make = providers.Factory(Client)
        assert problems_of(make=make, live=providers.Factory(dict, make=make.provider)) == []
        assert problems_of(make=make, part=providers.FactoryAggregate(one=make)) == []

    @pytest.mark.parametrize(
        "use",
        [
            lambda make: providers.Factory(dict, make=make),
            lambda make: providers.Factory(dict, make=providers.List(make)),
            lambda make: providers.Factory(dict, make=make.provided.host),
            lambda make: providers.Selector(lambda: "one", one=make),
        ],
    )
    def test_but_not_one_that_another_provider_calls(self, use: Callable[[Any], Any]) -> None:
        make = providers.Factory(Client)
        assert problems_of(make=make, user=use(make)) == ["make: Client: argument 'host' is missing"]

    def test_what_is_injected_is_not_missing(self) -> None:
        assert problems_of(saved=providers.Singleton(injected_by_annotation)) == []

    def test_of_a_resource_class(self) -> None:
        assert problems_of(opened=providers.Resource(OpenedStorage, "a", "b")) == [
            "opened: OpenedStorage: it takes 1 by position, and 2 are given"
        ]
        assert problems_of(opened=providers.Resource(OpenedStorage, path="a")) == []

    def test_without_a_signature_nothing_is_said(self) -> None:
        assert problems_of(text=providers.Singleton(str, 1, nope=2), same=providers.Singleton(dict, a=1)) == []

    def test_of_annotations_that_can_not_be_hashed(self) -> None:
        assert len(problems_of(it=providers.Singleton(takes_unhashable))) == 1

    @given(
        kinds=st.lists(st.tuples(st.sampled_from(list(Kind)), st.booleans()), max_size=6),
        args=st.tuples() | st.tuples(st.just(1)) | st.tuples(st.just(1), st.just(2), st.just(3)),
        kwargs=st.dictionaries(st.sampled_from(["p0", "p1", "p2", "p3", "pp9", "other"]), st.just(0)),
    )
    def test_as_python_binds_them(
        self, kinds: list[tuple[Kind, bool]], args: tuple[int, ...], kwargs: dict[str, int]
    ) -> None:
        kinds.sort(
            key=lambda each: (each[0], each[1] and each[0] in (Kind.POSITIONAL_ONLY, Kind.POSITIONAL_OR_KEYWORD))
        )
        parameters = [
            Parameter(f"p{number}", kind, default=0 if optional else Parameter.empty)
            if kind not in (Kind.VAR_POSITIONAL, Kind.VAR_KEYWORD)
            else Parameter(f"p{number}", kind)
            for number, (kind, optional) in enumerate(kinds)
        ]
        names: dict[str, Any] = {}
        try:
            signature = Signature(parameters)
            exec(f"def called{signature}: ...", names)  # noqa: S102  # `Signature.bind` itself errs before Python 3.13
        except (ValueError, SyntaxError):  # such as two of `*p`
            reject()
        bound = bind(signature.parameters, args, kwargs)
        try:
            names["called"](*args, **kwargs)
        except TypeError:
            assert bound.faults or bound.missing
        else:
            assert not bound.faults
            assert not bound.missing
            assert [value for _, value in bound.taken] == [*args, *kwargs.values()]


class TestTypes:
    @pytest.mark.parametrize(
        ("function", "value", "said"),
        [
            (takes_service, Container.api, "'service' wants Service, not ApiSettings (from api)"),
            (takes_service, providers.Factory(Client, "h"), "'service' wants Service, not Client (from it(service))"),
            (takes_service, providers.Callable(client_of, Container.storage), "wants Service, not Client"),
            (takes_service, providers.Resource(opened, "h"), "wants Service, not Client"),
            (takes_client, providers.Resource(OpenedStorage, "p"), "wants Client, not Storage"),
            (takes_text, Container.config, "wants str, not P8FSConfig (from config)"),
            (takes_text, Container.config.provided.pg_port, "wants str, not int (from config.pg_port)"),
            (takes_int, Container.config.provided.pg_connection_string, "wants int, not str"),
            (takes_int, Container.api.provided.url, "wants int, not str (from api.url)"),
            (takes_int, providers.Object(1.5), "wants int, not float"),
            (takes_int, "80", "wants int, not str"),
            (takes_text, None, "wants str, not None"),
            (takes_text, Container.config.provided.log_file, "wants str, not Path | None (from config.log_file)"),
            (takes_either, Container.api, "wants Client | Service | None, not ApiSettings"),
            (takes_many, Container.api, "'services' wants Service, not ApiSettings"),
            (takes_settings, Container.config.provider, "wants P8FSConfig, not config itself, a provider"),
            (takes_text, providers.Configuration("c").number.as_int(), "wants str, not int (from it(text).number)"),
            (takes_service, providers.List(), "wants Service, not list"),
            (takes_service, providers.DelegatedFactory(Service), "wants Service, not it(service) itself, a provider"),
        ],
    )
    def test_that_do_not_fit(self, function: Any, value: Any, said: str) -> None:
        found = problems_of(it=providers.Singleton(function, value))
        assert len([problem for problem in found if said in problem]) == 1, found
        assert all("secret" not in problem for problem in found)

    @pytest.mark.parametrize(
        ("function", "value"),
        [
            (takes_float, 1),
            (takes_float, True),
            (takes_float, Container.config.provided.pg_port),
            (takes_int, True),
            (takes_service, providers.Factory(Special)),
            (takes_service, Mock()),
            (takes_service, Mock(spec=Client)),
            (takes_service, providers.Object(Mock())),
            (takes_path, Container.config.provided.log_file),
            (takes_path, providers.Factory(Path)),
            (takes_either, None),
            (takes_either, providers.Factory(Special)),
            (takes_partly, providers.Factory(Special)),
            (takes_runnable, providers.Factory(Special)),
            (takes_service, providers.Resource(entered)),
            (takes_maybe, None),
            (takes_settings, Container.config),
            (takes_text, providers.Callable(lambda: 1)),
            (takes_text, providers.Configuration("c").some.thing),
            (takes_int, providers.Configuration("c").number.as_int()),
            (takes_text, Container.api.provided.whatever),
            (takes_text, Container.config.provided.origin.call("pg_host")),
        ],
    )
    def test_that_fit_or_are_not_certain(self, function: Any, value: Any) -> None:
        assert problems_of(it=providers.Singleton(function, value)) == []

    def test_a_base_class_does_not_do(self) -> None:
        assert problems_of(it=providers.Singleton(takes_special, providers.Factory(Service, Container.storage))) != []

    def test_protocols_and_the_like_take_anything(self) -> None:
        assert problems_of(it=providers.Singleton(takes_uncertain, 1, 2, 3, 4, 5)) == []

    def test_pydantic_converts(self) -> None:
        assert problems_of(model=providers.Singleton(Model, port="80")) == []
        assert problems_of(model=providers.Singleton(Model, prot="80")) == [
            "model: Model: there is no argument 'prot'; did you mean 'port'?"
        ]

    def test_of_a_dataclass(self) -> None:
        assert problems_of(record=providers.Factory(Record, Container.api)) == [
            "record: Record: argument 'storage' wants Storage, not ApiSettings (from api); storage would fit"
        ]

    def test_a_value_is_never_shown(self) -> None:
        (problem,) = problems_of(it=providers.Singleton(takes_int, "hunter2"))
        assert "hunter2" not in problem


def takes_special(it: Special) -> None: ...


class TestSettings:
    def test_that_do_not_exist(self) -> None:
        assert problems_of(client=providers.Singleton(Client, Container.config.provided.pg_hots)) == [
            "client(host): there is no setting 'pg_hots'; did you mean 'pg_host'?"
        ]
        assert problems_of(url=Container.config.provided.pg_conection_string) == [
            "url: there is no setting 'pg_conection_string'; did you mean 'pg_connection_string'?"
        ]

    def test_that_do(self) -> None:
        provided = Container.config.provided
        assert problems_of(all=providers.Factory(dict, a=provided.pg_host, b=provided.pg_connection_string)) == []

    def test_of_another_configuration_are_not_known(self) -> None:
        assert problems_of(options=providers.Factory(dict, a=providers.Configuration("other").pg_hots)) == []


class TestDependencies:
    class Services(containers.DeclarativeContainer):
        storage = providers.Dependency(instance_of=Storage)
        adapters = providers.DependenciesContainer()
        service = providers.Singleton(Service, storage)
        client = providers.Singleton(takes_client, adapters.clinet)

    class Adapters(containers.DeclarativeContainer):
        client = providers.Singleton(Client, "h")

    def test_that_nobody_gave(self) -> None:
        assert [str(problem) for problem in check(self.Services())] == [
            "storage: this dependency is not defined; give it to its container, or override it",
            "adapters.clinet: this dependency is not defined; give it to its container, or override it",
        ]

    def test_that_are_misspelt(self) -> None:
        found = problems_of(
            adapters=(adapters := providers.Container(self.Adapters)),
            services=providers.Container(self.Services, storage=Container.storage, adapters=adapters),
        )
        assert found == ["services.adapters.clinet: this dependency is not defined; did you mean 'client'?"]

    def test_of_the_wrong_type(self) -> None:
        found = check(self.Services(storage=providers.Object(3), adapters=self.Adapters()))
        assert "storage: it wants Storage, not int (from Object)" in map(str, found)

    def test_with_a_default(self) -> None:
        assert problems_of(number=providers.Dependency(int, default=1)) == []


class TestCycles:
    def test_are_drawn(self) -> None:
        a, b, c = providers.Singleton(dict), providers.Factory(dict), providers.Singleton(dict)
        a.add_kwargs(b=b)
        b.add_kwargs(c=providers.List(c.provided.name))
        c.add_kwargs(a=a)
        assert problems_of(a=a, b=b, c=c) == [
            "a: it needs itself: a → b → c → a; give one of them `a.provider`, to be called later"
        ]

    def test_of_one(self) -> None:
        alone = providers.Singleton(dict)
        alone.add_attributes(me=alone)
        assert [p for p in problems_of(alone=alone) if "alone → alone" in p]

    def test_once_and_without_the_way_to_them(self) -> None:
        a, b = providers.Factory(dict), providers.Factory(dict)
        a.add_kwargs(b=b)
        b.add_kwargs(a=a)
        first, last = providers.Factory(dict, a=a), providers.Factory(dict, a=a, b=b)
        (problem,) = problems_of(first=first, a=a, b=b, last=last)
        assert problem.startswith("a: it needs itself: a → b → a;")

    def test_all_of_them(self) -> None:
        a, b, c = (providers.Factory(dict) for _ in range(3))
        a.add_kwargs(b=b, c=c)
        b.add_kwargs(a=a)
        c.add_kwargs(a=a)
        found = " ".join(problems_of(a=a, b=b, c=c))
        assert "a → b → a" in found
        assert "a → c → a" in found

    def test_through_a_provider_that_is_called_later_are_none(self) -> None:
        a, b = providers.Singleton(dict), providers.Singleton(dict)
        a.add_kwargs(b=b.provider)
        b.add_kwargs(a=a)
        assert problems_of(a=a, b=b) == []

    def test_by_overriding(self) -> None:
        application = Container()
        application.storage.override(providers.Singleton(takes_service, application.storage))
        assert "storage → storage" in str(check(application))
        application.storage.reset_override()
        application.api.override(application.logger)
        application.logger.override(application.api)
        assert "api → logger → api" in str(check(application))

    def test_a_deep_container_is_no_cycle(self) -> None:
        members: dict[str, Any] = {"p0": providers.Singleton(dict)}
        for number in range(1, 3 * sys.getrecursionlimit()):
            members[f"p{number}"] = providers.Singleton(dict, before=members[f"p{number - 1}"])
        assert check(containers_of(members)) == ()


def containers_of(members: dict[str, Any]) -> Any:
    """An instance that copies nothing, which would recurse."""
    container = containers.DynamicContainer()
    for name, provider in members.items():
        container.set_provider(name, provider)
    return container


class TestProviders:
    @pytest.mark.parametrize(
        "abstract",
        [providers.AbstractFactory(Service), providers.AbstractSingleton(Service)],
        ids=["factory", "singleton"],
    )
    def test_abstract_ones(self, abstract: Any) -> None:
        kind = type(abstract).__name__
        assert problems_of(it=abstract) == [f"it: it is abstract ({kind}), and nothing overrides it"]

    def test_abstract_ones_that_are_overridden(self) -> None:
        application = container_of(it=providers.AbstractFactory(Service))()
        application.it.override(providers.Factory(Service, application.storage))
        assert check(application) == ()

    def test_abstract_classes(self) -> None:
        assert problems_of(it=providers.Singleton(Store)) == [
            "it: Store is abstract: load must be implemented; it would fit"
        ]

    def test_with_nothing_to_provide(self) -> None:
        assert problems_of(it=providers.Singleton()) == ["it: it has nothing to provide; give it a class or a function"]
        (problem,) = check(containers_of({"core": providers.Container()}))
        assert problem.where == "core"

    def test_an_override_in_force_replaces_what_it_overrides(self) -> None:
        application = container_of(it=providers.Singleton(Client, hots=1), user=providers.Factory(takes_client))()
        application.user.add_kwargs(client=application.it)
        assert len(check(application)) == 1
        with application.it.override(providers.Factory(Client, "h")):
            assert check(application) == ()
        with application.it.override(providers.Factory(Client)):
            assert [problem.what for problem in check(application)] == ["Client: argument 'host' is missing"]
        with application.it.override(3):
            assert "wants Client, not int (from it)" in str(check(application))
        with application.storage.override(memory_storage()), application.config.override({"pg_host": "x"}):
            assert len(check(application)) == 1


@inject
def injected_by_default(storage: Storage = Provide[Container.storage]) -> None: ...


@inject
def injected_by_annotation(log: Annotated[Logger, Provide[Container.logger]]) -> None: ...


@inject
async def injected_wrongly(
    one: Storage = Provide[Container.api],
    two: Storage = Provide["storge"],
    three: str = Provide[Container.config.provided.pg_hots],
    four: ApiSettings = Provide["api"],
    five: Any = Provide[own_container.Application.counters],
) -> None: ...


@inject
def calls_a_factory(make: Client = Provide["make"]) -> None: ...


def marked_for_others(
    one: Annotated[Storage, Depends(Provide["storge"])], two: Storage = Closing[Provide["storge"]]
) -> None: ...


class Handlers:
    @staticmethod
    @inject
    def get(storage: Storage = Provide["storge"]) -> None: ...


class TestFunctions:
    @pytest.mark.parametrize("container", [Container, Container()])
    def test_whose_markers_do_not_resolve(self, container: Any) -> None:
        assert check(container, functions=[injected_by_default, injected_by_annotation]) == ()
        name = f"{__name__}.injected_wrongly"
        assert [str(problem) for problem in check(container, functions=[injected_wrongly])] == [
            f"{name}(three): there is no setting 'pg_hots'; did you mean 'pg_host'?",
            f"{name}: argument 'one' wants Storage, not ApiSettings (from api); storage would fit",
            f"{name}: argument 'two': Provide['storge'] is not in Container; did you mean 'storage'?",
            f"{name}: argument 'five': Provide[Application.counters] is not in Container",
        ]

    def test_markers_of_fastapi_and_of_wiring(self) -> None:
        found = [problem.what for problem in check(Container, functions=[marked_for_others])]
        missing = [f"argument {name!r}: Provide['storge'] is not in Container" for name in ("one", "two")]
        assert found == ["its markers are not filled: @inject is missing", *missing]

    def test_a_forgotten_inject(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """In a package, by a class that inherits injected fields, and by a pydantic model, whose fields take none."""
        (tmp_path / "forgetful" / "inner").mkdir(parents=True)
        (tmp_path / "forgetful" / "__init__.py").touch()
        (tmp_path / "forgetful" / "inner" / "__init__.py").write_text(
            "from dataclasses import dataclass\n"
            "from typing import Any\n"
            "from dependency_injector import wiring\n"
            "from pydantic import BaseModel\n"
            "from p8fs_cluster import Container, Provide, inject\n"
            "@inject\n"
            "def fine(api: Any = Provide[Container.api]) -> None: ...\n"
            "@wiring.inject\n"
            "def theirs(api: Any = Provide[Container.api]) -> None: ...\n"
            "def forgotten(api: Any = Provide[Container.api]) -> None: ...\n"
            "@inject\n"
            "@dataclass\n"
            "class Base:\n"
            "    api: Any = Provide[Container.api]\n"
            "@dataclass\n"
            "class Inheriting(Base):\n"
            "    name: str = ''\n"
            "class Model(BaseModel):\n"
            "    api: Any = Provide[Container.api]\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        package = importlib.import_module("forgetful")
        found = [str(problem) for problem in check(Container, functions=[package])]
        assert found == [
            "forgetful.inner.forgotten: its markers are not filled: @inject is missing",
            "forgetful.inner.Inheriting.__init__: its markers are not filled: @inject is missing",
            "forgetful.inner.Model: 'api' is a field of a pydantic model, where no marker is filled",
        ]

    def test_the_container_is_left_as_it_was(self) -> None:
        container = Container()
        before = dict(container.providers)
        check(container, functions=[injected_wrongly])
        assert container.providers == before

    def test_call_factories_without_arguments(self) -> None:
        application = container_of(make=providers.Factory(Client))
        assert check(application) == ()
        assert len(check(application, functions=[calls_a_factory])) == 1

    def test_of_a_module(self) -> None:
        module = types.ModuleType("handlers")
        for member in (injected_wrongly, Handlers):
            setattr(module, member.__name__, member)
        assert check(Container, functions=[module]) == ()  # they are another module's
        assert len(check(Container, functions=[sys.modules[__name__]])) == 9

    def test_of_a_sub_container(self) -> None:
        outer = type("Outer", (containers.DeclarativeContainer,), {"core": providers.Container(Container)})
        assert check(outer(), functions=[injected_by_default, injected_by_annotation]) == ()
        found = map(str, check(outer(), functions=[Handlers.get]))
        assert all(
            problem.startswith(f"{__name__}.Handlers.get: argument 'storage': Provide['storge']") for problem in found
        )


class TestTheContainersOwnCheck:
    def test_raises_all(self) -> None:
        application = container_of(a=providers.Singleton(Client), b=providers.Singleton(Client, 3))()
        with pytest.raises(InjectionError) as caught:
            application.check()
        assert str(caught.value) == (
            "2 problems in the container:\n"
            "  a: Client: argument 'host' is missing\n"
            "  b: Client: argument 'host' wants str, not int"
        )
        assert caught.value.problems == check(application)
        again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
        assert (str(again), again.problems) == (str(caught.value), caught.value.problems)
        assert all(isinstance(problem, GraphProblem) for problem in again.problems)

    def test_takes_functions(self) -> None:
        with pytest.raises(InjectionError, match=r"^4 problems"):
            Container().check(functions=[injected_wrongly])

    def test_leaves_the_name_to_a_provider_of_the_user(self) -> None:
        application = container_of(check=providers.Object("mine"), wrong=providers.Singleton(Client))()
        assert application.check() == "mine"
        assert len(check(application)) == 1

    def test_an_injection_error_of_one_line(self) -> None:
        assert (str(InjectionError("no")), InjectionError("no").problems) == ("no", ())
