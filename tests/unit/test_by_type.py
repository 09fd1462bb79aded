"""Injection by type: `Injected[T]`, `all_of(T)`, the container itself, and arguments that are filled."""

from __future__ import annotations

import abc
import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Generic, NewType, Protocol, TypeVar

import pytest
import sqlalchemy
import sqlalchemy.orm
from dependency_injector import containers, providers
from fastapi import FastAPI
from fastapi.testclient import TestClient

from p8fs_cluster import (
    Closing,
    Container,
    FieldLogger,
    Injected,
    InjectionError,
    Provide,
    Scoped,
    Storage,
    all_of,
    inject,
)
from p8fs_cluster.config import P8FSConfig
from p8fs_cluster.containers.graph.checking import check
from p8fs_cluster.containers.graph.matching import match
from p8fs_cluster.containers.graph.model import read
from p8fs_cluster.di.by_type import without_covered
from p8fs_cluster.frameworks.fastapi import lifespan
from p8fs_cluster.testing import memory_storage

if TYPE_CHECKING:
    from p8fs_cluster.nowhere import Unknown  # type: ignore[import-not-found]

T = TypeVar("T")
Dsn = NewType("Dsn", str)


class Notes: ...


class CachedNotes(Notes): ...


class Fake: ...


class Runner(abc.ABC):
    @abc.abstractmethod
    def run(self) -> str: ...


class Handler(Protocol):
    name: str

    def handle(self) -> str: ...


class Mail(Handler):
    name = "mail"

    def handle(self) -> str:
        return "mail"


class Push:
    def __init__(self) -> None:
        self.name = "push"

    name: str

    def handle(self) -> str:
        return "push"


class Nameless:
    def handle(self) -> str:
        return ""


class Repository(Generic[T]): ...


class Users(Repository[int]): ...


class Given:
    """A value that whoever opens the scope gives."""


class Entered:
    def __enter__(self) -> Notes:
        return Notes()

    def __exit__(self, *exc: object) -> None: ...


class Repo:
    def __init__(self, storage: Storage, size: int = 3) -> None:
        self.storage, self.size = storage, size


class Service:
    def __init__(self, repo: Repo, notes: Notes | None = None, *, title: str = "none") -> None:
        self.repo, self.notes, self.title = repo, notes, title


@dataclass
class User:
    group: Given
    notes: Notes


class One(Container):
    notes = providers.Singleton(Notes)


class Two(One):
    cached = providers.Singleton(CachedNotes)


@inject
def notes_of(notes: Injected[Notes]) -> Any:
    return notes


@inject
async def notes_of_async(notes: Injected[Notes]) -> Any:
    return notes


def given_by(provider: Any) -> Any:
    """Return what `Injected[Notes]` gets where only this provider could give one."""
    return type("Only", (Container,), {"only": provider})


async def make_notes() -> Notes:
    return Notes()


def promise_notes() -> Coroutine[Any, Any, Notes]:
    return make_notes()


async def open_notes() -> AsyncIterator[Notes]:
    yield Notes()


def yield_notes() -> Iterator[Notes]:
    yield Notes()


@contextlib.contextmanager
def manage_notes() -> Iterator[Notes]:
    yield Notes()


def return_notes() -> Notes:
    return Notes()


def later(notes: Injected[DefinedLater]) -> Any:  # type: ignore[name-defined]  # noqa: F821
    return notes


class TestInjected:
    def test_the_only_one_that_fits(self) -> None:
        with One() as container:
            assert notes_of() is container.notes()
            assert notes_of(notes="mine") == notes_of("mine") == "mine"  # type: ignore[arg-type]

    def test_in_an_async_function(self) -> None:
        with One() as container:
            assert asyncio.run(notes_of_async()) is container.notes()  # type: ignore[call-arg]

    def test_the_container_s_own(self) -> None:
        @inject
        def own(
            storage: Injected[Storage],
            settings: Injected[P8FSConfig],
            log: Injected[FieldLogger],
            engine: Injected[sqlalchemy.Engine],
            session: Injected[sqlalchemy.orm.Session],
        ) -> list[Any]:
            return [storage, settings, log, engine, session]

        with Container() as container:
            storage, settings, log, engine, session = own()  # type: ignore[call-arg]
            assert (storage, settings, engine) == (container.storage(), container.config(), container.engine())
            assert isinstance(session, sqlalchemy.orm.Session)
            assert isinstance(log, FieldLogger)

    @pytest.mark.parametrize(
        "make",
        [
            lambda: providers.Factory(Notes),
            lambda: providers.Factory(CachedNotes),
            lambda: providers.Callable(return_notes),
            lambda: providers.Resource(yield_notes),
            lambda: providers.Resource(manage_notes),
            lambda: providers.Resource(Entered),
            lambda: providers.Object(Notes()),
            lambda: providers.Dependency(instance_of=Notes, default=providers.Factory(Notes)),
            lambda: providers.ThreadLocalSingleton(Notes),
            lambda: Scoped(yield_notes),
        ],
    )
    def test_every_kind(self, make: Callable[[], Any]) -> None:
        with given_by(make())() as container, container.scope("request"):
            assert isinstance(notes_of(), Notes)  # type: ignore[call-arg]

    @pytest.mark.parametrize(
        "make",
        [
            lambda: providers.Callable(make_notes),
            lambda: providers.Callable(promise_notes),
            lambda: providers.Resource(open_notes),
            lambda: providers.Resource(make_notes),
            lambda: Scoped(open_notes),
            lambda: providers.Factory(Notes),
        ],
    )
    def test_what_is_awaited(self, make: Callable[[], Any]) -> None:
        async def ask() -> None:
            async with given_by(make())() as container, container.scope("request"):
                assert isinstance(await notes_of_async(), Notes)  # type: ignore[call-arg]

        asyncio.run(ask())

    def test_a_value_that_is_given(self) -> None:
        @inject
        def given(value: Injected[Given]) -> Given:
            return value

        class Application(Container):
            value = Scoped.given(Given)

        value = Given()
        with Application() as container, container.scope("request", {Given: value}):
            assert given() is value  # type: ignore[call-arg]

    def test_overrides_are_followed_and_change_no_choice(self) -> None:
        with Two() as container:
            fake = Fake()
            with container.cached.override(fake), pytest.raises(InjectionError, match="2 providers"):
                notes_of()  # type: ignore[call-arg]
        with One() as container:
            with container.notes.override(fake):
                assert notes_of() is fake  # type: ignore[call-arg]
            with container.override_providers(notes=fake, isolated=True):
                assert notes_of() is fake  # type: ignore[call-arg]
            assert notes_of() is container.notes()  # type: ignore[call-arg]

    def test_of_several_none_is_guessed(self) -> None:
        with Two(), pytest.raises(InjectionError) as caught:
            notes_of()  # type: ignore[call-arg]
        assert str(caught.value) == (
            f"{__name__}.notes_of: parameter 'notes': Injected[Notes]: 2 providers of Two give Notes: notes (Notes), "
            'cached (CachedNotes); name the provider: Provide[Two.notes] or Provide["notes"]'
        )

    def test_none(self) -> None:
        with Container(), pytest.raises(InjectionError, match=r"'notes'.*no provider of Container.*Notes.*Provide"):
            notes_of()  # type: ignore[call-arg]

    def test_what_has_no_annotation_is_named_where_none_fits(self) -> None:
        with given_by(providers.Callable(lambda: 1))(), pytest.raises(InjectionError, match="not known of only"):
            notes_of()  # type: ignore[call-arg]

    def test_parts(self) -> None:
        class Whole(Container):
            part = providers.Container(One)

        with Whole() as container:
            assert notes_of() is container.part.notes()  # type: ignore[call-arg]
            assert inject(storage_of)() is container.storage()  # type: ignore[call-arg]

        class Double(Whole):
            notes = providers.Factory(Notes)

        with Double(), pytest.raises(InjectionError, match=r"notes \(Notes\), part\.notes \(Notes\)"):
            notes_of()  # type: ignore[call-arg]

    def test_what_a_part_was_given_counts_once(self) -> None:
        class Part(containers.DeclarativeContainer):
            notes = providers.Dependency(instance_of=Notes)

        class Whole(One):
            part = providers.Container(Part, notes=One.notes)

        with Whole() as container:
            assert notes_of() is container.notes()  # type: ignore[call-arg]
            with container.part.notes.override(CachedNotes()):
                assert notes_of() is container.notes()  # type: ignore[call-arg]

    @pytest.mark.parametrize("wanted", [str, int, list[Notes], dict, Callable[[], Notes], object, Any, T])
    def test_builtins_are_refused(self, wanted: Any) -> None:
        def function(value: Any) -> Any:
            return value

        function.__annotations__["value"] = Injected[wanted]
        with One(), pytest.raises(InjectionError, match="Provide"):
            inject(function)()

    def test_a_new_type_is_a_type(self) -> None:
        def dsn() -> Dsn:
            return Dsn("db")

        @inject
        def connect(to: Injected[Dsn]) -> str:
            return to

        with given_by(providers.Callable(dsn))():
            assert connect() == "db"  # type: ignore[call-arg]

    def test_optional(self) -> None:
        @inject
        def maybe(one: Injected[Notes | None], other: Injected[Notes] | None = None) -> Any:
            return one, other

        with Container():
            assert maybe() == (None, None)  # type: ignore[call-arg]
        with One() as container:
            assert maybe() == (container.notes(), container.notes())  # type: ignore[call-arg]
        with Two(), pytest.raises(InjectionError, match="2 providers"):
            maybe()  # type: ignore[call-arg]

    def test_what_may_be_none_is_not_what_was_asked_for(self) -> None:
        def perhaps() -> Notes | None:
            return None

        with given_by(providers.Callable(perhaps))(), pytest.raises(InjectionError, match="no provider"):
            notes_of()  # type: ignore[call-arg]

    def test_protocols_and_abstract_classes(self) -> None:
        assert match(Mail, Handler) is match(Push, Handler) is True
        assert match(Nameless, Handler) is match(Notes, Runner) is False

    def test_generics(self) -> None:
        assert match(Users, Repository[int]) is match(Repository[int], Repository) is True
        assert match(Users, Repository[str]) is match(Notes, Repository) is False
        assert match(Repository, Repository[int]) is None

        @inject
        def ask(users: Injected[Repository[int]]) -> Any:
            return users

        with given_by(providers.Factory(Users))():
            assert isinstance(ask(), Users)  # type: ignore[call-arg]
        with given_by(providers.Factory(Repository))(), pytest.raises(InjectionError, match="can't be known"):
            ask()  # type: ignore[call-arg]

    def test_names_that_are_defined_later_or_nowhere(self) -> None:
        with pytest.raises(InjectionError, match="an annotation can't be read: name 'Unknown'"):
            unknown()
        globals()["DefinedLater"] = DefinedNow
        with given_by(providers.Factory(DefinedNow))():
            assert isinstance(read_late(), DefinedNow)  # type: ignore[call-arg]

    def test_within_another_type_it_is_refused(self) -> None:
        with pytest.raises(InjectionError, match=r"write Injected\[...\] around"):

            @inject
            def function(all: list[Injected[Notes]]) -> None: ...

    def test_closing_stays_as_it_is(self) -> None:
        told = []

        def opened() -> Iterator[Notes]:
            yield Notes()
            told.append("closed")

        class Application(Container):
            tx = providers.Resource(opened)
            given = providers.Factory(Given)

        @inject
        def work(given: Injected[Given], tx: Notes = Closing[Provide[Application.tx]]) -> Any:
            return given, tx, list(told)

        with Application():
            given, tx, before = work()  # type: ignore[call-arg]
            assert (type(given), type(tx), before, told) == (Given, Notes, [], ["closed"])


class DefinedNow: ...


read_late = inject(later)


def storage_of(storage: Injected[Storage]) -> Storage:
    return storage


class Handlers(Container):
    mail = providers.Singleton(Mail)


class MoreHandlers(Handlers):
    other = providers.Singleton(Notes)
    push = providers.Factory(Push)


class AllHandlers(Container):
    part = providers.Container(MoreHandlers)
    first = providers.Singleton(Push)


@inject
def handlers_of(handlers: list[Handler] = Provide[all_of(Handler)]) -> list[Handler]:
    return handlers


class TestAllOf:
    def test_bases_first_parts_last(self) -> None:
        with MoreHandlers() as container:
            assert handlers_of()[0] is container.mail()
            assert [each.name for each in handlers_of()] == ["mail", "push"]
        with AllHandlers():
            assert [each.name for each in handlers_of()] == ["push", "mail", "push"]

    def test_a_redeclared_one_keeps_its_place(self) -> None:
        class Redeclared(MoreHandlers):
            last = providers.Factory(Push)
            mail = providers.Singleton(Push)

        with Redeclared() as container:
            assert handlers_of()[0] is container.mail()
            assert len(handlers_of()) == 3

    def test_none_is_an_empty_list_of_its_own(self) -> None:
        with Container():
            assert handlers_of() == []
            assert handlers_of() is not handlers_of()

    def test_overrides_are_followed(self) -> None:
        with MoreHandlers() as container:
            before = handlers_of()
            with container.mail.override("fake"):
                assert handlers_of()[0] == "fake"
            with container.override_providers(mail="mine", isolated=True):
                assert handlers_of()[0] == "mine"
            assert handlers_of()[0] is before[0]

    def test_promises_are_awaited_in_order(self) -> None:
        class Application(One):
            made = providers.Callable(make_notes)
            opened = Scoped(open_notes)
            last = providers.Object(CachedNotes())

        @inject
        async def ask(notes: list[Notes] = Provide[all_of(Notes)]) -> list[Notes]:
            return notes

        async def run() -> None:
            async with Application() as container, container.scope("request"):
                notes = await ask()
                assert [type(each) for each in notes] == [Notes, Notes, Notes, CachedNotes]
                assert (await ask())[2] is notes[2]

        asyncio.run(run())

    def test_scoped_values(self) -> None:
        class Application(Container):
            notes = Scoped(yield_notes)

        @inject
        def ask(notes: list[Notes] = Provide[all_of(Notes)]) -> list[Notes]:
            return notes

        with Application() as container:
            with container.scope("request"):
                first = ask()
                assert first == ask()
            with container.scope("request"):
                assert ask() != first

    def test_as_an_argument_and_by_itself(self) -> None:
        class Application(MoreHandlers):
            handlers = all_of(Handler)
            listed = providers.Singleton(list, all_of(Handler))

        with Application() as container:
            assert [each.name for each in container.handlers()] == ["mail", "push"]
            assert [each.name for each in container.listed()] == ["mail", "push"]
        with pytest.raises(InjectionError, match="its container is not known"):
            all_of(Handler)()

    def test_what_can_not_be_known(self) -> None:
        @inject
        def ask(all: list[Repository[int]] = Provide[all_of(Repository[int])]) -> Any:
            return all

        with given_by(providers.Factory(Repository))(), pytest.raises(InjectionError, match="can't be known"):
            ask()


class TestTheContainer:
    def test_itself_or_a_part(self) -> None:
        class Whole(Container):
            part = providers.Container(Two)

        @inject
        def ask(base: One = Provide[One], notes: Notes = Provide[One.notes]) -> Any:
            return base, notes

        @inject
        def by_type(container: Injected[Container]) -> Any:
            return container

        with Two() as container:
            assert ask() == (container, container.notes())
            assert by_type() is container  # type: ignore[call-arg]
        with Whole() as container:
            assert ask()[0] is container.part.container
            assert by_type() is container  # type: ignore[call-arg]

    def test_none_or_several(self) -> None:
        @inject
        def ask(base: One = Provide[One]) -> Any:
            return base

        class Several(Container):
            one = providers.Container(One)
            two = providers.Container(Two)

        with Container(), pytest.raises(InjectionError, match="neither the active container"):
            ask()
        with Several(), pytest.raises(InjectionError, match=r"one \(One\), two \(Two\)"):
            ask()


class Filled(One):
    repo = providers.Factory(Repo)
    service = providers.Singleton(Service)
    user = providers.Factory(User)
    nested = providers.Factory(list, providers.List(providers.Factory(Service, title="nested")))


class TestFilling:
    def test_arguments_that_are_not_given(self) -> None:
        container = Filled()
        service = container.service()
        assert (service.repo.storage, service.repo.size) == (container.storage(), 3)
        assert (service.notes, service.title) == (container.notes(), "none")
        assert (container.nested()[0].notes, container.nested()[0].title) == (container.notes(), "nested")
        assert container.service.filled == {"repo", "notes"}

    def test_what_is_declared_or_given_at_the_call_wins(self) -> None:
        class Application(Filled):
            declared = providers.Factory(Service, "mine")

        container = Application()
        assert container.declared().repo == "mine"
        assert container.declared(notes="given").notes == "given"
        assert container.user(group=1, notes=2) == User(1, 2)  # type: ignore[arg-type]

    def test_what_positions_stand_for(self) -> None:
        container = Filled()
        assert container.user.positional == ("group", "notes")
        assert without_covered(container.user, ()).keys() == {"group", "notes"}
        assert without_covered(container.user, (1,)).keys() == {"notes"}
        assert without_covered(container.user, (1, 2)) == {}
        assert without_covered(container.nested, (1,)) == {}

    def test_every_kind(self) -> None:
        def resource(notes: Notes) -> Iterator[Any]:
            yield notes

        class Application(One):
            opened = providers.Resource(resource)
            scoped = Scoped(resource)
            called = providers.Callable(lambda: 1)
            asked = providers.Callable(ask)

        with Application() as container, container.scope("request"):
            notes = container.notes()
            assert [container.opened(), container.scoped(), container.asked()] == [notes] * 3

    def test_overrides_are_followed(self) -> None:
        with Filled() as container:
            before = container.service()
            with container.storage.override(fake := memory_storage()):
                assert container.service().repo.storage is fake
            assert container.service() is before

    def test_a_subclass_fills_for_itself(self) -> None:
        class Application(Filled):
            cached = providers.Singleton(CachedNotes)

        assert Filled().service().notes is not None
        with pytest.raises(InjectionError, match=r"'notes'.*2 providers of Application give Notes"):
            Application().service()
        assert Application().service(notes="mine").notes == "mine"
        assert [str(each) for each in check(Application) if each.where == "service"] == [
            "service: Service: argument 'notes': 2 providers of Application give Notes | None: notes (Notes), "
            "cached (CachedNotes); give it in the declaration"
        ]

    def test_none(self) -> None:
        with pytest.raises(InjectionError, match=r"'group'.*no provider of Filled is declared to give Given"):
            Filled().user()

        class Application(Container):
            lonely = providers.Singleton(User)

        assert [str(each) for each in check(Application)] == [str(each) for each in check(Application())]
        assert {each.what.partition(":")[0] for each in check(Application)} == {"User"}
        assert len(check(Application)) == 2
        assert check(Filled) == ()  # a factory may be completed by who calls it

    def test_a_part_has_its_own_first_and_then_those_around_it(self) -> None:
        class Part(Container):
            service = providers.Singleton(Service)

        class Whole(Filled):
            part = providers.Container(Part)

        container = Whole()
        assert container.part.service().repo.storage is container.storage()
        assert container.part.service().notes is container.notes()
        assert check(Whole) == ()
        assert [each.where for each in check(Part)] == ["service"]

    def test_not_from_itself(self) -> None:
        class Decorated(Notes):
            def __init__(self, inner: Notes) -> None:
                self.inner = inner

        class Application(One):
            decorated = providers.Singleton(Decorated)

        container = Application()
        assert container.decorated().inner is container.notes()

    def test_builtins_are_never_filled(self) -> None:
        def call(size: int, handlers: list[Handler]) -> None: ...

        class Application(Container):
            size = providers.Object(3)
            called = providers.Callable(call)

        with pytest.raises(TypeError):
            Application().called()

    def test_what_can_not_be_read(self) -> None:
        class Application(Container):
            called = providers.Callable(unreadable)

        with pytest.raises(InjectionError, match="its annotation 'Unknown' can't be read"):
            Application().called()
        assert Application().called(one=1) == 1

    def test_a_marker_is_left_to_inject(self) -> None:
        class Application(One):
            called = providers.Callable(marked)

        with Application() as container:
            assert container.called() is container.notes()

    def test_drawn_and_checked(self) -> None:
        for container in (Filled, Filled()):
            edges = {(edge.source, edge.target, edge.argument) for edge in read(container).edges}
            assert {("service", "repo", "repo"), ("service", "notes", "notes"), ("repo", "storage", "storage")} <= edges

    def test_a_cycle_is_found(self) -> None:
        class Application(Container):
            one = providers.Singleton(Chicken)
            other = providers.Singleton(Egg)

        assert "it needs itself: one → other → one" in str(check(Application)[0])

    def test_lifetimes_are_checked(self) -> None:
        class Application(Container):
            notes = Scoped(yield_notes)
            asked = providers.Singleton(ask)

        assert "ends with the scope 'request'" in str(check(Application)[0])


def ask(notes: Notes) -> Any:
    return notes


def unreadable(one: Unknown) -> Any:
    return one


@inject
def marked(notes: Annotated[Notes, Provide["notes"]]) -> Notes:
    return notes


class Chicken:
    def __init__(self, egg: Egg) -> None: ...


class Egg:
    def __init__(self, chicken: Chicken) -> None: ...


@inject
def unknown(one: Injected[Unknown]) -> Any: ...


class TestBeforeTheStart:
    def test_functions_are_checked(self) -> None:
        @inject
        def right(
            notes: Injected[Notes],
            handlers: list[Handler] = Provide[all_of(Handler)],
            container: One = Provide[One],
            maybe: Injected[Given | None] = None,
        ) -> None: ...

        for container in (One, One()):
            assert check(container, functions=[right, notes_of, notes_of_async]) == ()
        for several in (Two, Two()):
            (problem,) = check(several, functions=[notes_of])
            assert "argument 'notes': Injected[Notes]: 2 providers of Two" in str(problem)
        (problem,) = check(Container, functions=[notes_of])
        assert "no provider of Container is declared to give Notes" in str(problem)

    def test_a_list_is_a_list(self) -> None:
        @inject
        def wrong(handlers: Notes = Provide[all_of(Handler)]) -> None: ...  # type: ignore[assignment]

        assert "wants Notes, not list" in str(check(Handlers, functions=[wrong])[0])

    def test_what_can_not_be_read_is_told(self) -> None:
        assert "an annotation can't be read: name 'Unknown'" in str(check(One, functions=[unknown])[0])


class TestFastAPI:
    def test_a_handler(self) -> None:
        app = FastAPI(lifespan=lifespan(One(config={"storage_provider": "rocksdb"}), validate=False))

        @app.get("/{number}")
        @inject
        async def show(number: int, notes: Injected[Notes]) -> str:
            return f"{number} {type(notes).__name__}"

        with TestClient(app) as client:
            assert client.get("/7").json() == "7 Notes"

    def test_what_does_not_fit_is_told_at_the_start(self, rocksdb_settings: dict[str, Any]) -> None:
        app = FastAPI(lifespan=lifespan(Two(config=rocksdb_settings)))

        @app.get("/")
        @inject
        async def show(notes: Injected[Notes]) -> None: ...

        with pytest.raises(InjectionError, match="2 providers of Two"), TestClient(app):
            pass


@pytest.mark.parametrize(
    "kind", [providers.Factory, providers.Callable, providers.Singleton, providers.Resource, Scoped]
)
def test_positions_of_a_call_stand_for_filled_arguments(kind: Any) -> None:
    class Group: ...

    class Notes: ...

    def made(group: Group, notes: Notes, name: str = "nobody") -> tuple[Any, ...]:
        return group, notes, name

    made.__annotations__.update(group=Group, notes=Notes)

    class Users(Container):
        group = providers.Singleton(Group)
        notes = providers.Singleton(Notes)
        user = kind(made)

    with Users() as container, container.scope("request"):
        mine = Group()
        assert container.user(mine, name="me") == (mine, container.notes(), "me")
        if kind in (providers.Factory, providers.Callable):
            for _ in range(3):
                assert container.user() == (container.group(), container.notes(), "nobody")
            assert container.user(mine, notes=None) == (mine, None, "nobody")
            with container.user.override(providers.Callable(lambda *args: args)):
                assert container.user(mine) == (mine,)
