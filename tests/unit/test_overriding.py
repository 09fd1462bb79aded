"""Overrides: what was built before follows, the very same old objects come back, what was built inside is closed."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import sqlalchemy
from dependency_injector import providers

from p8fs_cluster import ConfigurationError, Container, InjectionError, Provide, Scoped, inject
from p8fs_cluster.exceptions import CloseError, StorageError
from p8fs_cluster.testing import memory_storage


class Part:
    def __init__(self, name: str) -> None:
        self.name = name


class Service:
    def __init__(self, part: Part, host: str) -> None:
        self.part = part
        self.host = host


log: list[str] = []


def opened(part: Part) -> Iterator[str]:
    log.append(f"open {part.name}")
    yield part.name
    log.append(f"close {part.name}")


class App(Container):
    part = providers.Singleton(Part, "real")
    service = providers.Singleton(Service, part, Container.config.provided.pg_host)
    unrelated = providers.Singleton(Part, "unrelated")
    resource = providers.Resource(opened, part)
    made = providers.Factory(Service, part, "made")


@pytest.fixture
def app() -> Iterator[Any]:
    log.clear()
    with App() as app:
        yield app


@inject
def service(found: Any = Provide[App.service]) -> Any:
    return found


@inject
def part(found: Any = Provide[App.part]) -> Any:
    return found


class TestFollowing:
    def test_what_is_injected_itself(self, app: Any) -> None:
        before, fake = part(), Part("fake")
        with app.part.override(fake):
            assert part() is part() is fake
        assert part() is part() is before

    def test_what_was_built_before_follows_and_is_back_afterwards(self, app: Any) -> None:
        before, unrelated = app.service(), app.unrelated()
        assert service() is before
        with app.override_providers(part=Part("fake"), config={"pg_host": "other"}) as inside:
            assert inside is app
            assert (app.service().part.name, app.service().host, app.made().part.name) == ("fake", "other", "fake")
            assert service() is app.service() is not before
            assert app.unrelated() is unrelated
        assert app.service() is service() is before
        assert app.unrelated() is unrelated

    def test_what_was_built_inside_does_not_leak(self, app: Any) -> None:
        with app.part.override(Part("fake")):
            assert service().part.name == "fake"
        assert service().part.name == "real"

    def test_a_setting_is_followed_by_what_was_built_from_it(self, app: Any) -> None:
        before = app.service()
        with app.config.override({"pg_host": "other"}):
            assert service().host == "other"
        assert service() is before

    def test_resources_opened_inside_are_closed_at_its_end(self, app: Any) -> None:
        assert app.resource() == "real"
        with app.part.override(Part("fake")):
            assert app.resource() == "fake"
            assert log == ["open real", "open fake"]
        assert log == ["open real", "open fake", "close fake"]
        assert app.resource() == "real"

    def test_a_resource_that_came_with_the_override_is_closed_with_it(self, app: Any) -> None:
        with app.override_providers(part=providers.Resource(opened, Part("given"))):
            assert app.part() == "given"
        assert log == ["open given", "close given"]

    def test_a_fault_in_closing_is_told_and_the_override_has_ended(self, app: Any) -> None:
        def broken() -> Iterator[int]:
            yield 1
            raise OSError("gone")

        with pytest.raises(CloseError, match="gone"), app.override_providers(part=providers.Resource(broken)):
            assert app.part() == 1
        assert app.part().name == "real"

    def test_the_sqlalchemy_engine_follows_the_storage(self, app: Any) -> None:
        before = app.engine()
        with app.storage.override(memory_storage()):
            without = app.engine()
            for use in (without.connect, lambda: app.session().execute(sqlalchemy.text("SELECT 1"))):
                with pytest.raises(StorageError, match="memory has no SQL, so no SQLAlchemy engine can use it"):
                    use()
        assert app.engine() is before

    def test_what_was_opened_is_closed_even_if_a_subscriber_fails(self, app: Any) -> None:
        class Hearing:
            ended = False

            def changed(self) -> None:
                if self.ended:
                    raise OSError("can't follow")

        hearing = Hearing()
        app.config.follow(hearing.changed)
        override = app.override_providers(config={"pg_host": "other"}, part=Part("fake"))
        assert app.resource() == "fake"
        hearing.ended = True
        with pytest.raises(OSError, match="can't follow"):
            override.end()
        assert log == ["open fake", "close fake"]

    def test_asynchronous_resources_end_with_async_with(self, app: Any) -> None:
        ended: list[str] = []

        async def connection() -> Any:
            yield "open"
            ended.append("closed")

        async def use() -> None:
            async with app.override_providers(part=providers.Resource(connection)):
                assert await app.part() == "open"
            assert ended == ["closed"]

        asyncio.run(use())


class TestEnding:
    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    def test_in_any_order(self, app: Any, order: tuple[int, ...]) -> None:
        base = app.service()
        overrides = [app.part.override(Part(str(number))) for number in range(3)]
        alive = [0, 1, 2]
        for ending in order:
            assert service().part.name == str(alive[-1])
            overrides[ending].end()
            overrides[ending].end()
            alive.remove(ending)
        assert service() is base

    def test_reset(self, app: Any) -> None:
        app.part.override(Part("a"))
        app.override_providers(part=Part("b"), config={"pg_host": "c"})
        app.part.reset_last_overriding()
        assert (service().part.name, service().host) == ("a", "c")
        app.part.reset_override()
        app.config.reset_last_overriding()
        assert (service().part.name, service().host) == ("real", "localhost")
        with pytest.raises(Exception, match="is not overridden"):
            app.part.reset_last_overriding()

    def test_a_bad_one_changes_nothing(self, app: Any) -> None:
        with pytest.raises(ConfigurationError):
            app.override_providers(part=Part("fake"), config={"pg_port": -1})
        with pytest.raises(InjectionError, match="no provider 'prat'; did you mean 'part'"):
            app.override_providers(prat=1)
        assert app.part().name == "real"

    def test_none_is_a_value(self, app: Any) -> None:
        with app.part.override(None):
            assert app.part() is None
            assert service().part is None

    def test_a_provider_of_dependency_injectors_own_kind(self, app: Any) -> None:
        app.items = providers.List(app.part)
        holder = app.holder = providers.Singleton(list, app.items)
        assert holder()[0].name == "real"
        with app.override_providers(items=["fake"]):
            assert app.items() == ["fake"]
        assert app.items()[0].name == "real"
        with pytest.raises(InjectionError, match="can't be isolated"):
            app.override_providers(isolated=True, items=[])


class TestIsolated:
    def test_threads_and_tasks_that_are_not_inside_see_nothing(self, app: Any) -> None:
        base = service()
        seen: list[Any] = []
        with app.override_providers(isolated=True, part=Part("mine"), config={"pg_host": "mine"}):
            assert (service().part.name, service().host, app.storage().provider) == ("mine", "mine", "postgresql")
            thread = threading.Thread(target=lambda: seen.append(service()))
            thread.start()
            thread.join()
        assert seen == [base]
        assert service() is base

    def test_tasks_have_each_their_own_and_what_they_await_sees_it(self, app: Any) -> None:
        async def use(name: str, both: asyncio.Barrier) -> tuple[str, str, str]:
            with app.part.override(Part(name), isolated=True):
                await both.wait()
                inner = await asyncio.create_task(asyncio.sleep(0, service()))
                threaded = await asyncio.to_thread(service)
                await both.wait()
                return service().part.name, inner.part.name, threaded.part.name

        async def run() -> list[tuple[str, str, str]]:
            both = asyncio.Barrier(2)
            return await asyncio.gather(use("a", both), use("b", both))

        base = service()
        assert asyncio.run(run()) == [("a",) * 3, ("b",) * 3]
        assert service() is base

    def test_a_task_that_outlives_it_is_back_at_the_others(self, app: Any) -> None:
        async def later(ended: asyncio.Event) -> Any:
            await ended.wait()
            return service()

        async def run() -> Any:
            ended = asyncio.Event()
            with app.part.override(Part("mine"), isolated=True):
                task = asyncio.create_task(later(ended))
                await asyncio.sleep(0)
            ended.set()
            return await task

        base = service()
        assert asyncio.run(run()) is base

    def test_the_storage_goes_to_the_isolated_place(self, tmp_path: Any) -> None:
        def where() -> bytes | None:
            with app.storage() as database:
                value: bytes | None = database.get(b"where")
                return value

        with App(config={"storage_provider": "rocksdb", "rocksdb_path": tmp_path / "a"}) as app:
            storage = app.storage()
            with storage as database:
                database[b"where"] = b"base"
            with app.config.override({"rocksdb_path": tmp_path / "b"}, isolated=True):
                assert where() is None
                with storage as database:
                    database[b"where"] = b"isolated"
                found: list[Any] = []
                thread = threading.Thread(target=lambda: found.append(where()))
                thread.start()
                thread.join()
                assert (found, where()) == ([b"base"], b"isolated")
            assert where() == b"base"
            assert storage.stats()["engines"] == 1


def test_a_plain_fake_in_place_of_what_is_awaited() -> None:
    async def opened() -> AsyncIterator[str]:
        yield "real"

    async def made() -> str:
        return "real"

    class Awaited(Container):
        resource = providers.Resource(opened)
        singleton = providers.Singleton(made)
        scoped = Scoped(opened)

    @inject
    async def injected(
        one: str = Provide[Awaited.resource],
        two: str = Provide[Awaited.singleton],
        three: str = Provide[Awaited.scoped],
    ) -> set[str]:
        return {one, two, three}

    async def main() -> None:
        async with Awaited() as awaited, awaited.scope("request"):
            for used_before in (False, True):
                with awaited.override_providers(resource="fake", singleton="fake", scoped="fake"):
                    assert await awaited.resource() == await awaited.singleton() == await awaited.scoped() == "fake"
                    assert await injected() == {"fake"}
                assert used_before or await injected() == {"real"}

    asyncio.run(main())


class Pair:
    """Knows what it was built from, and is told when it is closed."""

    def __init__(self, part: str) -> None:
        self.part = part
        self.closed = 0
        self.scope: Any = None
        """The one in which it was seen."""


pairs: list[Pair] = []


def paired(part: str) -> Iterator[Pair]:
    made = Pair(part)
    pairs.append(made)
    yield made
    made.closed += 1


class Drawn(Container):
    part = providers.Object("base")
    pair = providers.Resource(paired, part)
    holder = providers.Singleton(lambda pair: pair, pair)
    scoped = Scoped(paired, part)


@inject
def holder(found: Any = Provide[Drawn.holder]) -> Any:
    return found


def steps(drawn: Any, dice: random.Random, mine: str, wrong: list[Any]) -> Iterator[None]:
    """Override, resolve and reset at random, and stop wherever another may come in between."""
    overrides: list[Any] = []
    for step in range(250):
        choice = dice.random()
        if choice < 0.25 and len(overrides) < 3:
            overrides.append(drawn.part.override(f"{mine}{step}"))
        elif choice < 0.5 and overrides:
            overrides.pop(dice.randrange(len(overrides))).end()
        elif choice < 0.75:
            with drawn.part.override(name := f"isolated {mine}{step}", isolated=True):
                found = [holder()]
                yield
                found += [drawn.holder(), holder()]
                if {each.part for each in found} != {name} or len(set(map(id, found))) != 1 or found[0].closed:
                    wrong.append((name, found))
        else:
            holder()
        yield
    for each in overrides:
        each.end()


def scoped_steps(drawn: Any, dice: random.Random, mine: str, wrong: list[Any]) -> Iterator[None]:
    """Do the same in one scope after another: what is scoped is never seen in two, nor after its end."""
    overrides: list[Any] = []
    for number in range(40):
        with drawn.scope("request") as scope:
            for step in range(6):
                choice = dice.random()
                if choice < 0.25 and len(overrides) < 3:
                    overrides.append(drawn.part.override(f"{mine}{number}.{step}"))
                elif choice < 0.5 and overrides:
                    overrides.pop(dice.randrange(len(overrides))).end()
                elif choice < 0.75:
                    with drawn.part.override(name := f"isolated {mine}{number}.{step}", isolated=True):
                        found = [drawn.scoped()]
                        yield
                        found.append(drawn.scoped())
                        if {each.part for each in found} != {name} or found[0] is not found[1] or found[0].closed:
                            wrong.append((name, found))
                else:
                    seen = drawn.scoped()
                    if seen.scope not in (None, scope):
                        wrong.append((seen.scope, scope))
                    seen.scope = scope
                yield
    for each in overrides:
        each.end()


def over_threads(workers: list[Iterator[None]]) -> None:
    threads = [threading.Thread(target=list, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def over_tasks(workers: list[Iterator[None]]) -> None:
    async def task(worker: Iterator[None]) -> None:
        for _ in worker:
            await asyncio.sleep(0)

    async def run() -> None:
        await asyncio.gather(*map(task, workers))

    asyncio.run(run())


@pytest.mark.parametrize("run", [over_threads, over_tasks])
@pytest.mark.parametrize("work", [steps, scoped_steps])
@pytest.mark.parametrize("seed", range(10))
def test_random_interleavings(seed: int, work: Any, run: Any) -> None:
    """1,000 steps each, by 4 workers: no stale object, no wrong value, none that two scopes share, no leak."""
    pairs.clear()
    wrong: list[Any] = []
    with Drawn() as drawn:
        base = holder()
        run([work(drawn, random.Random(f"{seed} {number}"), f"{number}-", wrong) for number in range(4)])
        assert wrong == []
        assert holder() is base
        assert not base.closed
        assert [each.part for each in pairs if each is not base and each.closed != 1] == []
    assert base.closed == 1
