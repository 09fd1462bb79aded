"""Scopes: what is built once in one, closed at its end, and never shared by two."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import pytest
from dependency_injector import providers

from p8fs_cluster import Closing, Container, InjectionError, Provide, Scoped, inject
from p8fs_cluster.containers.graph.checking import check
from p8fs_cluster.di.entering import opens_asynchronously
from p8fs_cluster.di.scopes import Scope
from p8fs_cluster.di.serving import Succession, innermost

EVENTS: list[str] = []


@pytest.fixture(autouse=True)
def _no_events() -> None:
    EVENTS.clear()


class Tenant:
    """What a scope may be given."""


class Transaction:
    def __init__(self, name: str) -> None:
        self.name = name


def open_transaction(name: str = "tx") -> Iterator[Transaction]:
    EVENTS.append(f"begin {name}")
    try:
        yield Transaction(name)
    except BaseException as exc:
        EVENTS.append(f"roll back {name}: {type(exc).__name__}")
        raise
    EVENTS.append(f"commit {name}")


async def open_async(name: str = "async") -> AsyncIterator[Transaction]:
    EVENTS.append(f"begin {name}")
    try:
        async with asyncio.timeout(30):  # has to end in the task that it began in
            yield Transaction(name)
    except BaseException as exc:
        EVENTS.append(f"roll back {name}: {type(exc).__name__}")
        raise
    EVENTS.append(f"commit {name}")


class Notes:
    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction


class Keeper:
    def __init__(self, kept: Any) -> None:
        self.kept = kept


class Application(Container):
    name = providers.Object("tx")
    transaction = Scoped(open_transaction, name)
    second = Scoped(Notes, transaction)
    awaited = Scoped(open_async)
    over_awaited = Scoped(Notes, awaited)
    notes = providers.Factory(Notes, transaction)
    job = Scoped(Transaction, "job").within("job")
    lasting = Scoped(open_transaction, "lasting").within("application")
    tenant = Scoped.given(Tenant)
    scope_order = (*Container.scope_order, ("application", "import", "row"))
    row = Scoped(Transaction, "row").within("row")


@pytest.fixture(autouse=True, params=["first", "again"])
def _calls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each provider do as at its first call, or as if what it gives had been seen: then its calls are compiled."""
    if request.param == "again":
        monkeypatch.setattr(Scoped, "is_async_mode_undefined", lambda self: False)
        monkeypatch.setattr(Scoped, "is_async_mode_enabled", lambda self: opens_asynchronously(self.provides))


@pytest.fixture
def application() -> Application:
    return Application()


class TestOneScope:
    def test_one_value_opened_and_closed_with_it(self, application: Application) -> None:
        with application.scope("request"):
            first = application.transaction()
            assert application.transaction() is first
            assert application.notes().transaction is first
            assert application.second() is application.second()
            assert application.second().transaction is first
            assert EVENTS == ["begin tx"]
        assert EVENTS == ["begin tx", "commit tx"]

    def test_nothing_is_opened_that_nobody_asks_for(self, application: Application) -> None:
        with application.scope("request"):
            pass
        assert EVENTS == []

    def test_closed_in_reverse_and_told_of_the_exception(self, application: Application) -> None:
        with application.scope("application"), pytest.raises(ValueError, match="mine"), application.scope("request"):
            application.lasting()
            application.transaction()
            raise ValueError("mine")
        assert EVENTS == ["begin lasting", "begin tx", "roll back tx: ValueError", "commit lasting"]

    def test_what_is_closed_may_ask_for_the_container(self) -> None:
        @inject
        def port(api: Any = Provide[Container.api]) -> int:
            return int(api.port)

        def open_audited() -> Iterator[None]:
            yield
            EVENTS.append(f"audited at {port()}")
            with pytest.raises(InjectionError, match="has ended"):
                auditing.transaction()

        class Auditing(Application):
            audited = Scoped(open_audited)

        auditing = Auditing(config={"api_port": 9001})
        with auditing.scope("request"):
            auditing.audited()
        assert EVENTS == ["audited at 9001"]
        assert port() == 8000

    def test_what_an_end_raises_is_seen_by_those_that_follow(self) -> None:
        def fails(_: Any) -> Iterator[None]:
            yield
            raise KeyError("commit")

        class Failing(Container):
            transaction = Scoped(open_transaction)
            last = Scoped(fails, transaction)

        failing = Failing()
        with pytest.raises(KeyError, match="commit"), failing.scope("request"):
            failing.last()
        assert EVENTS == ["begin tx", "roll back tx: KeyError"]

    def test_an_exception_is_not_swallowed_by_what_is_closed(self) -> None:
        def swallows() -> Iterator[None]:
            try:
                yield
            except ValueError:
                EVENTS.append("swallowed")

        class Swallowing(Container):
            value = Scoped(swallows)

        swallowing = Swallowing()
        with pytest.raises(ValueError, match="mine"), swallowing.scope("request"):
            swallowing.value()
            raise ValueError("mine")
        assert EVENTS == ["swallowed"]

    def test_what_could_not_be_opened_is_tried_again(self) -> None:
        tries = iter([ConnectionError("first"), None])

        def opened() -> Iterator[str]:
            if fault := next(tries):
                raise fault
            yield "opened"

        class Flaky(Container):
            value = Scoped(opened)

        flaky = Flaky()
        with flaky.scope("request"):
            with pytest.raises(ConnectionError):
                flaky.value()
            assert flaky.value() == "opened"

    def test_injected(self, application: Application) -> None:
        @inject
        def use(
            notes: Annotated[Notes, Provide[Application.notes]], tx: Transaction = Provide[Application.transaction]
        ) -> bool:
            return notes.transaction is tx

        with application.scope("request"):
            assert use()  # of this container, though it is not entered
            with pytest.raises(InjectionError, match=r"closed at the end of its scope 'request': write Provide"):
                inject(lambda tx=Closing[Provide[Application.transaction]]: tx)()

    def test_a_singleton_is_the_same_in_every_scope(self, application: Application) -> None:
        with application.scope("request"):
            first = application.api()
        with application.scope("request"):
            assert application.api() is first

    def test_it_is_opened_once(self, application: Application) -> None:
        scope = application.scope("request")
        with scope, pytest.raises(InjectionError, match="opened before"), scope:
            pass
        with pytest.raises(InjectionError, match="opened before"), scope:
            pass


class TestOutside:
    def test_no_scope(self, application: Application) -> None:
        with pytest.raises(InjectionError, match=r"Application.transaction belongs to the scope 'request', and none"):
            application.transaction()
        with application.scope("job"), pytest.raises(InjectionError, match="'request', and none is open"):
            application.notes()

    def test_a_scope_that_has_ended(self, application: Application) -> None:
        with application.scope("request"):
            later = contextvars.copy_context()
            application.transaction()
        with pytest.raises(InjectionError, match="has ended"):
            later.run(application.transaction)
        assert EVENTS == ["begin tx", "commit tx"]

    def test_one_of_another_container(self, application: Application) -> None:
        other = Application()
        with application.scope("request"):
            with pytest.raises(InjectionError, match="one of another container"):
                other.transaction()
            with other.scope("request"):
                assert other.transaction() is not application.transaction()
        assert EVENTS == ["begin tx", "begin tx", "commit tx", "commit tx"]

    def test_a_thread_of_ones_own(self, application: Application) -> None:
        with application.scope("request"), ThreadPoolExecutor(1) as pool:
            with pytest.raises(InjectionError, match="A thread of your own sees the scope if"):
                pool.submit(application.transaction).result()
            copied = contextvars.copy_context()
            assert pool.submit(copied.run, application.transaction).result() is application.transaction()

    def test_unknown(self, application: Application) -> None:
        with pytest.raises(InjectionError, match="no scope 'requst': did you mean 'request'"):
            application.scope("requst")
        with pytest.raises(InjectionError, match="declare it in the container's `scope_order`"):
            application.scope("xyz")


class TestNesting:
    def test_in_the_declared_order(self, application: Application) -> None:
        with application.scope("application"):
            lasting = application.lasting()
            with application.scope("websocket"), application.scope("request"):
                assert application.lasting() is lasting
            with application.scope("import"), application.scope("row"):
                assert application.row().name == "row"
                assert application.lasting() is lasting

    def test_not_the_other_way_round(self, application: Application) -> None:
        with (
            application.scope("request"),
            pytest.raises(InjectionError, match="'application' can't be opened within 'request'"),
            application.scope("application"),
        ):
            pass

    def test_one_beside_another_does_not_see_it(self, application: Application) -> None:
        with application.scope("request"):
            first = application.transaction()
            with application.scope("job"):
                assert application.job().name == "job"
                with pytest.raises(InjectionError, match="'request', and none is open"):
                    application.transaction()
            with application.scope("request"):
                assert application.transaction() is not first
            assert application.transaction() is first

    def test_parts_of_a_container(self) -> None:
        class Part(Container):
            transaction = Scoped(open_transaction)

        class Whole(Container):
            part = providers.Container(Part)
            notes = providers.Factory(Notes, part.transaction)

        whole = Whole()
        with whole.scope("request"):
            assert whole.notes().transaction is whole.part.transaction()
        assert EVENTS == ["begin tx", "commit tx"]

    def test_declared_anew_and_inherited(self) -> None:
        class Special(Application):
            transaction = Scoped(open_transaction, "special")

        special = Special()
        with special.scope("request", {Tenant: Tenant()}):
            assert special.notes().transaction.name == "special"
            assert isinstance(special.tenant(), Tenant)
        with special.scope("job"):
            assert special.job().name == "job"


class TestGiven:
    def test_by_type_and_by_name(self, application: Application) -> None:
        tenant = Tenant()
        for values in ({Tenant: tenant}, {"tenant": tenant}):
            with application.scope("request", values=values):
                assert application.tenant() is tenant

    def test_missing(self, application: Application) -> None:
        with application.scope("request"), pytest.raises(InjectionError, match="without a value for Tenant"):
            application.tenant()

    @pytest.mark.parametrize(
        ("values", "told"),
        [
            ({int: 3}, "a value for int, which Application does not declare"),
            ({"tennant": 3}, "a value for tennant, which Application does not declare"),
            ({Tenant: 3}, "was given int for Tenant"),
            ({"tenant": "secret"}, "was given str for tenant, which wants Tenant"),
        ],
    )
    def test_wrong(self, application: Application, values: dict[Any, Any], told: str) -> None:
        with pytest.raises(InjectionError, match=told):
            application.scope("request", values=values)

    def test_of_another_scope(self, application: Application) -> None:
        with pytest.raises(InjectionError, match="declared for it: none"):
            application.scope("job", values={Tenant: Tenant()})


class TestOverriding:
    def test_within_a_scope(self, application: Application) -> None:
        with application.scope("request"):
            before = application.transaction()
            with application.transaction.override("fake"):
                assert application.notes().transaction == "fake"
            with application.name.override("other"):
                other = application.transaction()
                assert other.name == "other"
                assert application.transaction() is other
            assert EVENTS == ["begin tx", "begin other", "commit other"]  # closed with the override
            assert application.transaction() is before
        assert EVENTS[3:] == ["commit tx"]

    def test_around_scopes(self, application: Application) -> None:
        with application.name.override("other") as _:
            for _ in range(2):
                with application.scope("request"):
                    assert application.transaction().name == "other"
            [layer] = application.name.layers
            assert not layer.held  # scopes that are over leave nothing behind
        assert EVENTS == ["begin other", "commit other"] * 2

    def test_an_exception_that_ends_it(self, application: Application) -> None:
        overriding = application.name.override
        with pytest.raises(ValueError, match="mine"), application.scope("request"), overriding("other"):
            application.transaction()
            raise ValueError("mine")
        assert EVENTS == ["begin other", "roll back other: ValueError"]

    def test_isolated(self, application: Application) -> None:
        with application.scope("request"), application.name.override("mine", isolated=True):
            assert application.transaction().name == "mine"
            with ThreadPoolExecutor(1) as pool:
                seen = contextvars.Context()
                seen.run(lambda: None)
                pool.submit(lambda: None).result()
        assert EVENTS == ["begin mine", "commit mine"]

    def test_given(self, application: Application) -> None:
        with application.scope("request"), application.tenant.override("fake"):
            assert application.tenant() == "fake"

    def test_one_that_begins_while_a_value_is_built(self, application: Application) -> None:
        def open_slowly(name: str) -> Iterator[str]:
            EVENTS.append(f"begin {name}")
            if len(EVENTS) == 1:
                overriding.append(slow.name.override("other"))
            yield name
            EVENTS.append(f"end {name}")

        class Slow(Application):
            value = Scoped(open_slowly, Application.name)

        slow, overriding = Slow(), list[Any]()
        with slow.scope("request"):
            assert slow.value() == "other"
            assert slow.value() == "other"
            overriding[0].end()
            assert slow.value() == "tx"
        assert EVENTS == ["begin tx", "end tx", "begin other", "end other", "begin tx", "end tx"]

    def test_a_value_is_kept_when_settings_are_reloaded_meanwhile(self) -> None:
        def open_slowly() -> Iterator[str]:
            EVENTS.append("begin")
            reloading.config.reload()
            yield "value"
            EVENTS.append("end")

        class Reloading(Container):
            value = Scoped(open_slowly)

        reloading = Reloading()
        for _ in range(2):
            with reloading.scope("request"):
                assert reloading.value() == reloading.value() == "value"
        assert EVENTS == ["begin", "end"] * 2


class TestLifetimes:
    def test_what_stays_is_not_made_of_what_ends(self) -> None:
        class Wrong(Application):
            keeper = providers.Singleton(Keeper, Application.notes)
            resource = providers.Resource(Keeper, Application.transaction)
            outer = Scoped(Keeper, Application.transaction).within("application")
            beside = Scoped(Keeper, Application.transaction).within("job")
            called_later = providers.Singleton(Keeper, Application.transaction.provider)

        told = [str(problem) for problem in check(Wrong)]
        assert len(told) == 4
        assert told[0].startswith(
            "keeper: it lives as long as the container, but transaction ends with the scope 'request'"
        )
        assert "keeper → notes → transaction" in told[0]
        wrong = Wrong()
        with wrong.scope("application"), wrong.scope("request"):
            for provider in (wrong.keeper, wrong.resource, wrong.outer):
                with pytest.raises(InjectionError, match=r"lives as long as .*Wrong.transaction ends with"):
                    provider()
            assert wrong.called_later().kept().name == "tx"
            with wrong.transaction.override("fake"):
                assert wrong.keeper().kept.transaction == "fake"
        with wrong.scope("job"), pytest.raises(InjectionError, match="within it or beside"):
            wrong.beside()

    def test_what_is_asked_for_while_it_is_built(self, application: Application) -> None:
        @inject
        class Repository:
            def __init__(self, transaction: Transaction = Provide["transaction"]) -> None:
                self.transaction = transaction

        class Wrong(Application):
            repository = providers.Singleton(Repository)
            resource = providers.Resource(Repository)
            outer = Scoped(Repository).within("application")
            each = providers.Factory(Repository)
            within = Scoped(Repository)

        wrong = Wrong()
        with wrong.scope("application"), wrong.scope("request"):
            for name in ("repository", "resource", "outer"):
                with pytest.raises(InjectionError, match=f"was asked for while Wrong.{name} was built"):
                    wrong.providers[name]()
            assert wrong.each().transaction is wrong.within().transaction is wrong.transaction()

    def test_a_scope_opened_while_something_is_built(self) -> None:
        def build() -> str:
            with using.scope("job"):
                return using.job().name

        class Using(Application):
            built = providers.Singleton(build)

        using = Using()
        with using.scope("request"):
            assert using.built() == "job"

    def test_a_scope_nobody_declares(self) -> None:
        class Wrong(Container):
            value = Scoped(Tenant).within("requst")

        assert [str(problem) for problem in check(Wrong)] == [
            "value: there is no scope 'requst'; did you mean 'request'?"
        ]

    def test_types_are_checked(self) -> None:
        class Wrong(Container):
            tenant = Scoped.given(Tenant)
            notes = providers.Factory(Notes, tenant)

        assert "wants Transaction, not Tenant (from tenant)" in str(check(Wrong)[0])
        assert check(Application) == ()


class TestAsynchronous:
    def test_one_value_for_all_tasks_of_a_scope(self, application: Application) -> None:
        @inject
        async def use(
            first: Transaction = Provide[Application.awaited], second: Notes = Provide[Application.over_awaited]
        ) -> Transaction:
            assert second.transaction is first
            return first

        async def main() -> None:
            async with application.scope("request"):
                used = await asyncio.gather(*(use() for _ in range(10)))
                assert len(set(map(id, used))) == 1
                application.transaction()

        asyncio.run(main())
        assert sorted(EVENTS[:2]) == ["begin async", "begin tx"]
        assert EVENTS[2:] == ["commit tx", "commit async"]

    def test_concurrent_scopes_never_share(self, application: Application) -> None:
        async def one() -> tuple[Any, Any]:
            async with application.scope("request"):
                values = (application.transaction(), await application.awaited())
                await asyncio.sleep(0)
                assert values == (application.transaction(), await application.awaited())
                return values

        async def main() -> None:
            found = await asyncio.gather(*(one() for _ in range(100)))
            assert len({id(value) for values in found for value in values}) == 200

        asyncio.run(main())
        assert sorted(EVENTS) == sorted(["begin tx", "commit tx", "begin async", "commit async"] * 100)

    @pytest.mark.parametrize("kind", ["scoped", "resource", "singleton"])
    def test_whoever_gives_up_waiting_does_so_alone(self, kind: str) -> None:
        async def slow() -> AsyncIterator[str]:
            EVENTS.append("begin")
            await go_on.wait()
            yield "slow"
            EVENTS.append("end")

        async def made() -> str:
            await go_on.wait()
            return "slow"

        class Slow(Container):
            scoped = Scoped(slow)
            resource = providers.Resource(slow)
            singleton = providers.Singleton(made)

        async def main() -> None:
            async with Slow() as application, application.scope("request"):
                provider = application.providers[kind]

                async def ask() -> Any:
                    return await provider()

                impatient, patient = asyncio.create_task(ask()), asyncio.create_task(ask())
                await asyncio.sleep(0)
                impatient.cancel()
                await asyncio.sleep(0)
                go_on.set()
                assert await patient == "slow"
                assert impatient.cancelled()
                assert await provider() == "slow"

        go_on = asyncio.Event()
        asyncio.run(main())
        assert ([] if kind == "singleton" else ["begin", "end"]) == EVENTS

    def test_a_value_that_is_opened_when_its_scope_has_ended(self) -> None:
        async def slow() -> AsyncIterator[str]:
            await go_on.wait()
            EVENTS.append("opened")
            yield "slow"
            EVENTS.append("closed")

        class Slow(Container):
            value = Scoped(slow)

        async def main() -> None:
            application = Slow()

            async def ask() -> Any:
                return await application.value()

            async with application.scope("request"):
                asked = asyncio.create_task(ask())
                await asyncio.sleep(0)
                asyncio.get_running_loop().call_soon(go_on.set)
            with pytest.raises(InjectionError, match="ended before its value was open"):
                await asked

        go_on = asyncio.Event()
        asyncio.run(main())
        assert EVENTS == ["opened", "closed"]

    def test_the_exception_reaches_it(self, application: Application) -> None:
        async def main() -> None:
            async with application.scope("request"):
                await application.awaited()
                raise LookupError

        with pytest.raises(LookupError):
            asyncio.run(main())
        assert EVENTS == ["begin async", "roll back async: LookupError"]

    def test_a_cancelled_scope(self, application: Application) -> None:
        async def request(begun: asyncio.Event) -> None:
            async with application.scope("request"):
                await application.awaited()
                begun.set()
                await asyncio.Event().wait()

        async def main() -> None:
            begun = asyncio.Event()
            task = asyncio.create_task(request(begun))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert EVENTS == ["begin async", "roll back async: CancelledError"]

    def test_not_in_a_synchronous_scope(self, application: Application) -> None:
        async def main() -> None:
            with application.scope("request"), pytest.raises(InjectionError, match="opened by `async with"):
                await application.awaited()

        asyncio.run(main())
        with application.scope("request"), pytest.raises(InjectionError, match="ask for it in `async def`"):
            application.awaited()

    def test_a_task_that_outlives_its_scope(self, application: Application) -> None:
        async def late(ended: asyncio.Event) -> None:
            await ended.wait()
            with pytest.raises(InjectionError, match="has ended"):
                application.transaction()
            async with application.scope("job"):
                assert application.job().name == "job"

        async def main() -> None:
            ended = asyncio.Event()
            async with application.scope("request"):
                application.transaction()
                task = asyncio.create_task(late(ended))
            ended.set()
            await task

        asyncio.run(main())


def test_a_forked_child_closes_nothing_of_its_parents(application: Application) -> None:
    reader, writer = os.pipe()
    with application.scope("request"):
        transaction = application.transaction()
        if not (child := os.fork()):
            told = b"wrong"
            try:
                with pytest.raises(InjectionError, match="has ended"):
                    application.transaction()
                with application.scope("request"):
                    assert application.transaction() is not transaction
                innermost(application).end()  # as the block's own end would
                assert EVENTS == ["begin tx", "begin tx", "commit tx"]
                told = b"right"
            finally:
                os.write(writer, told)
                os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reader, 10) == b"right"
        assert application.transaction() is transaction
    assert EVENTS == ["begin tx", "commit tx"]
    os.close(reader)
    os.close(writer)


def test_threads_of_a_scope_build_one_value(application: Application) -> None:
    together = threading.Barrier(8)

    def ask() -> Transaction:
        together.wait(30)
        return application.transaction()

    with application.scope("request"), ThreadPoolExecutor(8) as pool:
        found = [pool.submit(contextvars.copy_context().run, ask) for _ in range(8)]
        assert len({id(each.result()) for each in found}) == 1
    assert EVENTS == ["begin tx", "commit tx"]


def test_a_thread_waits_for_the_one_that_builds() -> None:
    begun, twice = threading.Event(), threading.Event()

    def slow() -> Iterator[Tenant]:
        if begun.is_set():
            twice.set()
        begun.set()
        twice.wait(0.2)  # as long as another one would have begun in
        yield Tenant()

    class Slow(Container):
        value = Scoped(slow)

    def ask() -> Tenant:
        assert begun.wait(30)
        return application.value()

    application = Slow()
    with application.scope("request"), ThreadPoolExecutor(1) as pool:
        other = pool.submit(contextvars.copy_context().run, ask)
        assert application.value() is other.result()
    assert not twice.is_set()


def test_a_scope_that_ends_at_the_moment_when_a_value_is_there_closes_it_once() -> None:
    class Ending(dict[Any, Any]):
        def __setitem__(self, key: Any, value: Any) -> None:
            super().__setitem__(key, value)
            scope.end()

    class Opened:
        def __enter__(self) -> None:
            EVENTS.append("open")

        def __exit__(self, *exc_info: object) -> None:
            EVENTS.append("close")

    class Opening(Container):
        value = Scoped(Opened)

    application = Opening()
    with application.scope("request") as scope:
        scope.closing = Ending()
        with pytest.raises(InjectionError, match=r"has ended|none is open"):
            application.value()
    assert EVENTS == ["open", "close"]


def test_a_value_that_is_finished_when_its_scope_has_ended_is_closed() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> Iterator[str]:
        begun.set()
        assert go_on.wait(30)
        EVENTS.append("opened")
        yield "slow"
        EVENTS.append("closed")

    class Slow(Container):
        value = Scoped(slow)

    application = Slow()
    with ThreadPoolExecutor(1) as pool:
        with application.scope("request"):
            asked = pool.submit(contextvars.copy_context().run, application.value)
            assert begun.wait(30)
        go_on.set()
        with pytest.raises(InjectionError, match="has ended"):
            asked.result()
    assert EVENTS == ["opened", "closed"]


class TestSuccession:
    def test_it_is_opened_once_by_all_who_ask(self, application: Application) -> None:
        made, barrier, found = [], threading.Barrier(8), []

        def make() -> Scope:
            assert succession.scope() is None  # whoever opens it may look for it
            made.append(application.scope("job"))
            return made[0]

        def ask() -> None:
            barrier.wait()
            found.append(succession.scope())

        succession = Succession(make)
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 1
        assert found == made * 8
        assert succession.end() is succession.scope() is made[0]

    def test_none_is_opened_after_its_end(self, application: Application) -> None:
        succession = Succession(lambda: application.scope("job"))
        assert succession.end() is None
        assert succession.scope() is None
