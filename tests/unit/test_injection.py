"""`@inject`: what is given, by whom, and what happens when it can't be."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import inspect
import threading
import types
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from logging import Logger
from typing import TYPE_CHECKING, Annotated, Any

import pytest
import typer
from dependency_injector import containers, providers
from dependency_injector.wiring import Provider
from fastapi import Depends, FastAPI
from typer.testing import CliRunner

from p8fs_cluster import Container, InjectionError, Provide, Storage, inject
from p8fs_cluster.di.markers import signature_of
from p8fs_cluster.providers.api import ApiSettings

if TYPE_CHECKING:
    from collections.abc import Sequence


@inject
def as_default(prefix: str, api: ApiSettings = Provide[Container.api]) -> str:
    return f"{prefix}{api.port}"


@inject
def as_annotation(log: Annotated[Logger, Provide[Container.logger]], number: int = 1) -> tuple[str, int]:
    return log.name, number


@inject
def several(
    storage: Storage = Provide[Container.storage],
    api: ApiSettings = Provide["api"],
    *,
    host: str = Provide[Container.config.provided.pg_host],
    make: Any = Provider[Container.api],
) -> tuple[Any, ...]:
    return storage, api, host, make


@pytest.fixture
def container() -> Iterator[Container]:
    with Container(config={"api_port": 9000, "service_name": "notes"}) as container:
        yield container


def test_default_and_annotation(container: Container) -> None:
    assert as_default("port ") == "port 9000"
    assert as_annotation() == ("notes", 1)  # type: ignore[call-arg]
    assert as_annotation(number=2) == ("notes", 2)  # type: ignore[call-arg]


def test_every_kind_of_marker(container: Container) -> None:
    storage, api, host, make = several()
    assert storage is container.storage()
    assert api is container.api()
    assert host == "localhost"
    assert make is container.api


def test_what_the_caller_gives_wins(container: Container) -> None:
    assert several("a", "b", host="c", make="d") == ("a", "b", "c", "d")  # type: ignore[arg-type]
    assert several(None)[0] is None  # type: ignore[arg-type]


def test_overrides_are_followed(container: Container) -> None:
    assert as_default("") == "9000"
    with container.config.override({"api_port": 1}):
        assert as_default("") == "1"
    with container.storage.override("fake"):
        assert several()[0] == "fake"
    assert several()[0] is container.storage()


def test_the_innermost_container_is_active(container: Container) -> None:
    with Container(config={"api_port": 1}), Container(config={"api_port": 2}) as inner:
        assert as_default("") == "2"
        with container:
            assert as_default("") == "9000"
        assert as_default("") == "2"
        with inner:
            assert as_default("") == "2"
    assert as_default("") == "9000"


def test_threads_that_were_started_elsewhere_see_the_container_of_the_process(container: Container) -> None:
    seen: list[str] = []
    thread = threading.Thread(target=lambda: seen.append(as_default("")))
    thread.start()
    thread.join()
    assert seen == ["9000"]


def test_tasks_have_their_own_innermost_container(container: Container) -> None:
    async def use(port: int, ready: asyncio.Barrier) -> str:
        with Container(config={"api_port": port}):
            await ready.wait()
            found = as_default("")
            await ready.wait()
            return found

    async def both() -> list[str]:
        ready = asyncio.Barrier(2)
        return await asyncio.gather(use(1, ready), use(2, ready))

    assert asyncio.run(both()) == ["1", "2"]
    assert as_default("") == "9000"


def test_a_task_that_outlives_its_container_does_not_get_a_closed_one(container: Container) -> None:
    left = Container(config={"api_port": 1})

    async def later(closed: asyncio.Event) -> str:
        await closed.wait()
        found = as_default("")
        with left:
            assert as_default("") == "1", "nothing of another container was kept for it"
        return found

    async def run() -> str:
        closed = asyncio.Event()
        with left:
            task = asyncio.create_task(later(closed))
        closed.set()
        return await task

    assert asyncio.run(run()) == "9000"


def test_methods(container: Container) -> None:
    class Service:
        @inject
        def method(self, api: ApiSettings = Provide[Container.api]) -> tuple[Any, int]:
            return self, api.port

        @inject
        @classmethod
        def of_class(cls, api: ApiSettings = Provide[Container.api]) -> tuple[Any, int]:
            return cls, api.port

        @staticmethod
        @inject
        def static(api: ApiSettings = Provide[Container.api]) -> int:
            return api.port

    service = Service()
    assert service.method() == (service, 9000)
    assert Service.of_class() == (Service, 9000)
    assert Service.static() == 9000


def test_generators_and_coroutines(container: Container) -> None:
    @inject
    def generator(api: ApiSettings = Provide[Container.api]) -> Iterator[int]:
        sent = yield api.port
        assert sent == "hello"
        yield 2

    @inject
    async def coroutine(api: ApiSettings = Provide[Container.api]) -> int:
        return api.port

    seen: list[Any] = []

    @inject
    async def async_generator(api: ApiSettings = Provide[Container.api]) -> AsyncIterator[int]:
        try:
            seen.append((yield api.port))
            yield 2
        except KeyError as exc:
            seen.append(exc)
            yield 3
        finally:
            seen.append("end")

    running = generator()
    assert (next(running), running.send("hello")) == (9000, 2)  # type: ignore[attr-defined]
    assert inspect.isgeneratorfunction(generator)
    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.isasyncgenfunction(async_generator)
    assert asyncio.run(coroutine()) == 9000

    async def drive() -> None:
        first = async_generator()
        assert await anext(first) == 9000
        assert await first.asend("sent") == 2  # type: ignore[attr-defined]
        assert [item async for item in first] == []
        second = async_generator()
        await anext(second)
        assert await second.athrow(KeyError("thrown")) == 3  # type: ignore[attr-defined]
        await second.aclose()  # type: ignore[attr-defined]
        with pytest.raises(ZeroDivisionError):
            async with asynccontextmanager(async_generator)():
                1 / 0  # noqa: B018

    asyncio.run(drive())
    assert seen[0] == "sent"
    assert seen.count("end") == 3
    assert isinstance(seen[2], KeyError)


def test_an_asynchronous_provider_is_awaited() -> None:
    async def connect() -> str:
        return "connected"

    class Mine(Container):
        connection = providers.Factory(connect)

    @inject
    async def use(connection: str = Provide[Mine.connection]) -> str:
        return connection

    with Mine():
        assert asyncio.run(use()) == "connected"


def test_the_signature_is_that_of_the_function_without_what_is_injected() -> None:
    assert str(inspect.signature(as_default)) == "(prefix: 'str') -> 'str'"
    assert str(inspect.signature(as_annotation)) == "(number: 'int' = 1) -> 'tuple[str, int]'"
    assert list(inspect.signature(as_default.__wrapped__).parameters) == ["prefix", "api"]  # type: ignore[attr-defined]
    assert (as_default.__name__, as_default.__module__) == ("as_default", __name__)


def test_a_signature_is_read_as_inspect_reads_it() -> None:
    def plain(a: int, b: "str" = "", *, c: Any, d: Any = None) -> None: ...  # noqa: UP037
    def unusual(a: int, /, *rest: int, **more: int) -> int: ...  # type: ignore[empty-body]

    for function in (plain, unusual, as_default, several, test_methods, lambda: None):
        assert signature_of(function) == inspect.signature(function)  # type: ignore[arg-type]


def test_a_function_without_markers_is_returned_as_it_is() -> None:
    def plain(a: int, b: "list[str]") -> None: ...  # noqa: UP037

    assert inject(plain) is plain


@inject
def before_its_container(api: Annotated[Any, Provide[Later.api]] = None) -> Any:
    return api


class Later(Container):
    """Defined after the function that names it."""


def test_names_that_are_defined_later_or_locally_or_only_for_type_checkers(container: Container) -> None:
    class Local(Container):
        pass

    @inject
    def local(api: Annotated[Any, Provide[Local.api]] = None) -> Any:
        return api

    @inject
    def typed(names: Sequence[str] = (), port: Annotated[int, Provide["api.provided.port"]] = 0) -> int:
        return port

    assert typed() == 9000
    with Later() as later:
        assert before_its_container() is later.api()
    with Local() as mine:
        assert local() is mine.api()


def test_a_subclass_and_a_subcontainer(container: Container) -> None:
    class Mine(Container):
        greeting = providers.Factory("hello {}".format, Container.config.provided.service_name)

    class Application(containers.DeclarativeContainer):
        cluster = providers.Container(Container)

    class Outer(Container):
        inner = providers.Container(Container)

    @inject
    def greet(greeting: str = Provide[Mine.greeting]) -> str:
        return greeting

    @inject
    def inner_port(api: Any = Provide[Outer.inner.api], named: Any = Provide["inner.api"]) -> Any:
        assert api is named
        return api

    with Mine(config={"service_name": "mine"}) as mine:
        assert greet() == "hello mine"
        assert several()[0] is mine.storage()
    with Outer() as outer:
        assert inner_port() is outer.inner.api()
        assert several()[0] is outer.storage()
    assert Application().cluster.api().port == 8000


@inject
@dataclasses.dataclass
class Holder:
    name: str
    api: ApiSettings = Provide[Container.api]
    storage: Storage = Provide[Container.storage]


def test_dataclasses(container: Container) -> None:
    held = Holder("a")
    assert (held.api, held.storage) == (container.api(), container.storage())
    assert Holder("a", storage="mine").storage == "mine"  # type: ignore[arg-type]
    assert str(inspect.signature(Holder)) == "(name: 'str') -> None"


@pytest.fixture
@inject
def injected_fixture(container: Container, log: Annotated[Logger, Provide[Container.logger]]) -> str:
    return log.name


def test_pytest_fixtures(injected_fixture: str) -> None:
    assert injected_fixture == "notes"


def test_typer_commands(container: Container) -> None:
    app = typer.Typer()

    @app.command()
    @inject
    def show(name: str, api: ApiSettings = Provide[Container.api], loud: bool = False) -> None:
        typer.echo(f"{name} {api.port} {loud}")

    done = CliRunner().invoke(app, ["port", "--loud"])
    assert (done.output, done.exit_code) == ("port 9000 True\n", 0)


def test_fastapi_does_not_ask_its_users(container: Container) -> None:
    app = FastAPI()

    @app.get("/{name}")
    @inject
    async def show(
        name: str,
        api: Annotated[ApiSettings, Provide[Container.api]],
        storage: Storage = Depends(Provide[Container.storage]),  # noqa: B008
    ) -> str:
        return f"{name} {api.port} {storage.provider}"

    assert [each["name"] for each in app.openapi()["paths"]["/{name}"]["get"]["parameters"]] == ["name"]
    assert asyncio.run(app.routes[-1].endpoint("a")) == "a 9000 postgresql"  # type: ignore[attr-defined]


def test_plain_functions_get_what_a_kept_promise_brought() -> None:
    async def connect() -> AsyncIterator[str]:
        yield "connected"

    class Mine(Container):
        connection = providers.Resource(connect)

    @inject
    def use(connection: Any = Provide[Mine.connection]) -> Any:
        return connection

    async def run() -> None:
        async with Mine() as mine:
            promise = use()
            assert await promise == "connected"
            assert use() == "connected" == await mine.connection()

    asyncio.run(run())


class TestErrors:
    def test_a_name_that_is_not_there(self, container: Container) -> None:
        @inject
        def misspelt(storage: Storage = Provide["storge"]) -> Storage:
            return storage

        with pytest.raises(InjectionError) as caught:
            misspelt()
        message = str(caught.value)
        assert "misspelt: parameter 'storage': Provide['storge'] is not in the active container (Container)" in message
        assert "did you mean 'storage'?" in message

    def test_a_container_that_is_not_active(self, container: Container) -> None:
        class Other(containers.DeclarativeContainer):
            thing = providers.Object(1)

        @inject
        def wants_other(thing: int = Provide[Other.thing]) -> int:
            return thing

        with pytest.raises(InjectionError, match="parameter 'thing'"):
            wants_other()
        assert wants_other(2) == 2

    def test_what_was_set_on_an_instance_is_no_obstacle(self, container: Container) -> None:
        container.set_provider("extra", providers.Object(1))

        @inject
        def use(api: Any = Provide[Container.api], extra: Any = Provide["extra"]) -> Any:
            return api, extra

        assert use() == (container.api(), 1)

    def test_messages_hold_no_value(self, container: Container) -> None:
        @inject
        def use(given: Annotated[Any, Provide[providers.Object("s3cret")]] = None) -> None: ...

        with pytest.raises(InjectionError, match=r"Object\(str\)") as caught:
            use()
        assert "s3cret" not in str(caught.value)

    def test_a_marker_never_reaches_the_function(self, container: Container) -> None:
        marker = inspect.signature(as_default.__wrapped__).parameters["api"].default  # type: ignore[attr-defined]
        assert as_default("", api=marker) == "9000"
        with pytest.raises(InjectionError, match=r"'api'.*handed on"):
            as_default("", marker)

    def test_positional_only_is_refused(self) -> None:
        with pytest.raises(InjectionError, match="positional-only"):

            @inject
            def positional(storage: Storage = Provide[Container.storage], /) -> None: ...

    def test_an_annotation_that_never_can_be_read(self, container: Container) -> None:
        @inject
        def broken(port: Annotated[int, Provide[Nowhere.api]] = 0) -> int:  # type: ignore[name-defined]  # noqa: F821
            return port

        with pytest.raises(InjectionError, match=r"broken: an annotation can't be read.*Nowhere"):
            broken()


class TestWhichContainer:
    """The innermost one here, else the only one anywhere, else the default one."""

    def test_the_only_one_that_is_entered_serves_other_threads(self, container: Container) -> None:
        with container:
            assert in_another_thread(lambda: as_default("")) == "9000"

    def test_of_several_entered_elsewhere_none_is_guessed(self, container: Container) -> None:
        class Other(Container):
            pass

        with Other(config={"api_port": 9001}) as other:
            assert as_default("") == "9001"
            error = in_another_thread(lambda: as_default(""))
            assert isinstance(error, InjectionError)
            assert "Container, Other" in str(error)
            assert "with container:" in str(error)

            def entered() -> str:
                with container:
                    return as_default("")

            assert in_another_thread(entered) == "9000"
            context = contextvars.copy_context()
            assert in_another_thread(lambda: context.run(as_default, "")) == "9001"
            assert other.api().port == 9001
        assert in_another_thread(lambda: as_default("")) == "9000", "there is one left"


def in_another_thread(action: Any) -> Any:
    """Return what an action returns, or raises, in a thread of its own."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(action())
        except Exception as exc:
            outcome.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return outcome[0]


Api = Annotated[ApiSettings, Provide[Container.api]]


class TestMarkers:
    def test_by_another_name_or_optional(self, container: Container) -> None:
        @inject
        def named(api: Api) -> int:
            return api.port

        @inject
        def optional(api: Annotated[ApiSettings, Provide[Container.api]] | None = None) -> int:
            assert api is not None
            return api.port

        @inject
        def both(api: Api | None = None) -> int:
            assert api is not None
            return api.port

        assert [named(), optional(), both()] == [9000] * 3  # type: ignore[call-arg]

    def test_a_name_that_is_defined_further_down(self, container: Container) -> None:
        module: dict[str, Any] = {"Any": Any, "Annotated": Annotated, "Container": Container, "inject": inject}
        exec(  # noqa: S102
            "from __future__ import annotations\n"
            "@inject\ndef alone(api: Later) -> int: return api.port\n"
            "@inject\ndef beside(api: Later, log: Annotated[Any, mark(Container.logger)]) -> int: return api.port\n"
            "@inject\ndef checkers_type(api: Nowhere, other: Annotated[Any, mark(Container.api)]) -> int:\n"
            "    return other.port\n",
            module | {"mark": lambda provider: Provide[provider]},
            module,
        )
        module["mark"] = lambda provider: Provide[provider]
        for function in (module["alone"], module["beside"], module["checkers_type"]):
            inspect.unwrap(function).__globals__.update(module, Later=Annotated[ApiSettings, Provide[Container.api]])
        assert module["alone"]() == 9000
        assert module["checkers_type"](None) == 9000
        for _ in range(2):
            with pytest.raises(InjectionError, match="'api': Later, which marks it, is defined after the function"):
                module["beside"]()

    def test_names_are_those_where_the_function_was_written(self, container: Container) -> None:
        elsewhere = types.ModuleType("elsewhere")
        exec(  # noqa: S102
            "import functools\ndef timed(f):\n    @functools.wraps(f)\n"
            "    def wrapper(*a, **k): return f(*a, **k)\n    return wrapper",
            vars(elsewhere),
        )

        @inject
        @elsewhere.timed
        def port(api: Annotated[ApiSettings, Provide[Container.api]]) -> int:
            return api.port

        assert port() == 9000

    def test_no_marker_reaches_a_function(self, container: Container) -> None:
        @inject
        def port(api: ApiSettings = Provide[Container.api]) -> int:
            return api.port

        for call in (lambda: port(api=Provide[Container.storage]), lambda: port(Provide[Container.storage])):  # type: ignore[arg-type]
            with pytest.raises(InjectionError, match=r"Provide\[Container.storage\] was handed on as a value"):
                call()

    def test_one_within_another_type_is_refused(self) -> None:
        with pytest.raises(InjectionError, match="stands within another type"):

            @inject
            def ports(apis: list[Annotated[ApiSettings, Provide[Container.api]]]) -> None: ...
