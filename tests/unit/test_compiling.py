"""Compiled graphs and shortcuts give what dependency-injector's own way gives, and follow every change."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dependency_injector import providers

from p8fs_cluster import Container, Provide, Scoped, inject
from p8fs_cluster.di import context
from p8fs_cluster.di.providers import Factory
from p8fs_cluster.exceptions import InjectionError

LONG = 1_000


class Part:
    """Something that is made of others."""

    def __init__(self, *parts: Any, **named: Any) -> None:
        self.parts = parts
        self.named = named


class Application(Container):
    repo = providers.Singleton(Part)
    mailer = providers.Singleton(Part, "mailer")
    host = Container.config.provided.pg_host
    notes = providers.Factory(Part, repo, host=host)
    handler = providers.Factory(Part, notes, mailer=mailer, limit=7)
    called = providers.Callable(lambda part: part.parts, handler)


@pytest.fixture
def application() -> Iterator[Application]:
    with Application(config={"pg_host": "first"}) as made:
        for _ in range(3):  # called, compiled, answered by what was compiled
            made.handler()
            made.called()
            made.repo()
        yield made


def told(handler: Part) -> list[Any]:
    """Return what a handler is made of."""
    [notes] = handler.parts
    return [notes.parts[0], notes.named["host"], handler.named["mailer"], handler.named["limit"]]


def test_a_compiled_factory_makes_new_parts_of_the_same_singletons(application: Application) -> None:
    one, other = application.handler(), application.handler()
    assert told(one) == told(other) == [application.repo(), "first", application.mailer(), 7]
    assert one is not other
    assert one.parts[0] is not other.parts[0]
    assert application.called()[0].parts[0] is application.repo()


def test_arguments_of_the_call_count(application: Application) -> None:
    assert application.handler(limit=8).named["limit"] == 8
    assert application.handler("more").parts[1] == "more"
    assert told(application.handler())[3] == 7
    assert application.repo("whatever", no=1) is application.repo()


@pytest.mark.parametrize("isolated", [False, True])
def test_overrides_are_followed(application: Application, isolated: bool) -> None:
    before = told(application.handler())
    with application.repo.override("fake", isolated=isolated):
        for _ in range(3):
            assert told(application.handler()) == ["fake", *before[1:]]
        with application.notes.override(providers.Factory(Part, "inner", host="none"), isolated=isolated):
            for _ in range(3):
                assert told(application.handler())[:2] == ["inner", "none"]
    for _ in range(3):
        assert told(application.handler()) == before


def test_an_isolated_override_is_not_seen_by_others(application: Application) -> None:
    before, seen = told(application.handler()), []
    with application.repo.override("fake", isolated=True):
        thread = threading.Thread(target=lambda: seen.extend(told(application.handler()) for _ in range(3)))
        thread.start()
        thread.join()
    assert seen == [before] * 3


def test_shortcuts_are_taken_again_after_an_isolated_override(application: Application) -> None:
    with application.repo.override("fake", isolated=True):
        assert not context.takes_shortcuts()
    assert context.takes_shortcuts()


def test_no_shortcut_is_taken_that_was_found_before_a_change(application: Application) -> None:
    before = context.epoch
    with application.mailer.override("fake"):
        context.put_shortcut(application.repo, lambda: "found before", before)
        assert application.repo() != "found before"


def test_changed_settings_are_followed(application: Application) -> None:
    with application.config.override({"pg_host": "second"}):
        assert [told(application.handler())[1] for _ in range(3)] == ["second"] * 3
    assert told(application.handler())[1] == "first"


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made.handler.add_kwargs(limit=8),
        lambda made: made.handler.set_kwargs(mailer=made.mailer, limit=8),
        lambda made: made.handler.clear_kwargs().add_kwargs(mailer=made.mailer, limit=8),
        lambda made: made.handler.set_provides(lambda *parts, mailer, limit: Part(*parts, mailer=mailer, limit=8)),
    ],
)
def test_a_provider_that_is_given_other_arguments_is_made_of_them(
    application: Application, change: Callable[[Any], Any]
) -> None:
    change(application)
    assert [told(application.handler())[3] for _ in range(3)] == [8] * 3


def test_a_part_that_is_given_other_arguments_is_made_of_them(application: Application) -> None:
    application.notes.set_args("other")
    assert [told(application.handler())[0] for _ in range(3)] == ["other"] * 3
    application.handler.add_attributes(extra=application.repo)
    assert [application.handler().extra for _ in range(3)] == [application.repo()] * 3


@pytest.mark.parametrize("name", ["notes", "handler", "repo"])
def test_what_gives_promises_from_now_on_does(application: Application, name: str) -> None:
    provider: Any = application.providers[name]
    provider.enable_async_mode()

    async def main() -> None:
        for _ in range(3):
            assert isinstance(await provider(), Part)

    asyncio.run(main())


def test_an_asynchronous_part_is_awaited() -> None:
    async def connect() -> str:
        return "open"

    class Awaiting(Container):
        connection = providers.Singleton(connect)
        notes = providers.Factory(Part, connection)

    async def main() -> None:
        container = Awaiting()
        for _ in range(4):
            assert (await container.notes()).parts == ("open",)

    asyncio.run(main())


def test_a_reset_singleton_is_built_anew(application: Application) -> None:
    before = application.repo()
    application.repo.reset()
    assert application.repo() is not before
    assert told(application.handler())[0] is application.repo()


@pytest.mark.parametrize("kind", [providers.Factory, Factory])
def test_a_kind_of_ones_own_is_called_itself(kind: Any) -> None:
    class Counting(kind):  # type: ignore[misc]
        calls = 0

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            type(self).calls += 1
            return super().__call__(*args, **kwargs)

    class Counted(Container):
        inner = Counting(Part)
        outer = providers.Factory(Part, inner)

    container = Counted()
    for _ in range(4):
        container.outer()
    assert Counting.calls == 4


def test_a_function_is_given_new_parts_at_each_call(application: Application) -> None:
    @inject
    def work(
        repo: Part = Provide[Application.repo],
        notes: Part = Provide[Application.notes],
        host: str = Provide[Application.host],
        provider: Any = Provide[Application.notes.provider],
    ) -> tuple[Part, Part, str, Any]:
        return repo, notes, host, provider

    made = [work() for _ in range(4)]
    assert len({id(notes) for _, notes, _, _ in made}) == 4
    assert {(repo, host, provider) for repo, _, host, provider in made} == {
        (application.repo(), "first", application.notes)
    }
    with application.repo.override("fake"):
        assert [work()[1].parts[0] for _ in range(3)] == ["fake"] * 3
    assert [work(host="given")[2], work()[2]] == ["given", "first"]
    with application.notes.override("whole", isolated=True):
        assert [work()[1] for _ in range(3)] == ["whole"] * 3
    assert work()[1].parts == (application.repo(),)


def test_a_coroutine_function_is_given_new_parts_at_each_call(application: Application) -> None:
    @inject
    async def work(repo: Part = Provide[Application.repo], notes: Part = Provide[Application.notes]) -> list[Part]:
        return [repo, notes]

    async def main() -> None:
        made = [await work() for _ in range(4)]
        assert len({id(notes) for _, notes in made}) == 4
        assert {repo for repo, _ in made} == {application.repo()}
        with application.notes.override("fake"):
            assert [(await work())[1] for _ in range(3)] == ["fake"] * 3

    asyncio.run(main())


def test_scoped_values_are_asked_for_at_each_call() -> None:
    class Requests(Container):
        transaction = Scoped(Part)
        notes = providers.Factory(Part, transaction)

    @inject
    def work(notes: Part = Provide[Requests.notes]) -> Any:
        return notes.parts[0]

    container = Requests()
    seen = []
    for _ in range(4):
        with container.scope("request"):
            assert work() is work() is container.transaction()
            seen.append(work())
    assert len(set(seen)) == 4
    for _ in range(2):
        with pytest.raises(InjectionError, match="belongs to the scope 'request'"):
            container.notes()


def test_a_call_after_a_change_never_sees_what_was_before(application: Application) -> None:
    """Threads compile again and again while overrides begin and end."""
    stop, wrong = threading.Event(), []

    def call() -> None:
        while not stop.is_set():
            application.handler()
            application.repo()

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(300):
            with application.repo.override(number):
                wrong += [found for found in (told(application.handler())[0], application.repo()) if found != number]
            wrong += [found for found in (told(application.handler())[0],) if isinstance(found, int)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong


def chain(*kinds: Any) -> Container:
    """Return a container with a long chain of providers, of these kinds in turn."""
    members: dict[str, Any] = {"part_0": kinds[0](Part)}
    for number in range(1, LONG):
        members[f"part_{number}"] = kinds[number % len(kinds)](Part, members[f"part_{number - 1}"])
    made: Container = type("Long", (Container,), members)()
    return made


def end_of(part: Any) -> Any:
    """Return what the first one of a chain is made of, after counting the parts."""
    for _ in range(LONG - 1):
        [part] = part.parts
    return part


@pytest.mark.parametrize(
    "kinds",
    [
        [providers.Singleton],
        [providers.Factory],
        [providers.Resource],
        [Scoped],
        [providers.Factory, providers.Singleton],
        [providers.Singleton] + [providers.Factory] * 40,
    ],
    ids=lambda kinds: "-".join(dict.fromkeys(kind.__name__ for kind in kinds)) + str(len(kinds)),
)
def test_a_long_chain_works_and_follows_overrides(kinds: list[Any]) -> None:
    container: Any = chain(*kinds)
    last, first = container.providers[f"part_{LONG - 1}"], container.part_0
    with container, container.scope("request"):
        for _ in range(3):
            assert end_of(last()).parts == ()
        with first.override("fake"):
            for _ in range(3):
                assert end_of(last()) == "fake"
        assert end_of(last()).parts == ()


def test_a_cycle_is_named() -> None:
    class Circular(Container):
        one = providers.Singleton(Part)
        two = providers.Factory(Part, one)
        three = providers.Singleton(Part, two)
        one.add_args(three)

    container = Circular()
    for provider in (container.one, container.two, container.three):
        with pytest.raises(InjectionError, match=r"Circular\.\w+ → Circular\.\w+ → .* Give one of them a `\.provider`"):
            provider()


def test_a_cycle_through_a_choice_that_is_not_made_is_none() -> None:
    class Choosing(Container):
        one = providers.Singleton(Part)
        chosen = providers.Selector(lambda: "plain", plain=providers.Object("plain"), other=one)
        one.add_args(chosen)

    container = Choosing()
    assert container.one().parts == ("plain",)
    with container.one.override("fake"):
        assert container.chosen() == "plain"
    assert container.one().parts == ("plain",)


def test_parts_are_built_in_the_order_of_their_declaration() -> None:
    built: list[str] = []

    def part(name: str, *parts: Any) -> str:
        built.append(name)
        return name

    class Ordered(Container):
        one = providers.Singleton(part, "one")
        two = providers.Factory(part, "two", one)
        three = providers.Singleton(part, "three", providers.Callable(part, "inner"), two)
        last = providers.Factory(part, "last", three, two)

    container = Ordered()
    for expected in (["inner", "one", "two", "three", "two", "last"], *[["two", "last"]] * 3):
        built.clear()
        container.last()
        assert built == expected
