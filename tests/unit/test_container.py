"""The container: overriding, following, building once, closing in reverse, and dependency-injector's own ways."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
import types
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from dependency_injector import containers, providers
from dependency_injector.wiring import Provide as PlainProvide
from dependency_injector.wiring import inject as plain_inject

from p8fs_cluster import Container, Provide, Storage, inject
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.containers.graph.checking import check
from p8fs_cluster.exceptions import CloseError, ConfigurationError, StorageClosed, StorageError
from p8fs_cluster.testing import memory_storage


def in_threads(count: int, action: Any) -> list[Any]:
    together, results = threading.Barrier(count), []

    def run() -> None:
        together.wait()
        results.append(action())

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == count
    return results


class TestOverride:
    def test_a_mapping_is_validated_and_recomputed_and_nests(self) -> None:
        container = Container()
        api = container.api()
        with container.config.override({"pg_host": "other", "api_port": 9000}) as outer:
            assert outer.pg_connection_string == "postgresql://postgres:postgres@other:5438/app"
            assert (container.api().port, api.port) == (9000, 9000)
            with container.config.override({"pg_password": "p@ss"}):
                assert container.config().pg_connection_string == "postgresql://postgres:p%40ss@other:5438/app"
                assert api.port == 9000
            assert container.config() is outer
        assert container.config().pg_host == "localhost"
        assert (container.api().port, api.port) == (8000, 8000)

    def test_a_whole_model_and_a_provider_of_one(self) -> None:
        container = Container()
        with container.config.override(P8FSConfig(pg_host="whole")):
            assert container.config().pg_host == "whole"
        with container.config.override(providers.Singleton(P8FSConfig, pg_host="provided")):
            assert container.config().pg_host == "provided"
        assert container.config().pg_host == "localhost"

    def test_in_a_plain_call(self) -> None:
        container = Container()
        container.config.override({"pg_host": "a"})
        container.config.override({"pg_port": 1})
        assert (container.config().pg_host, container.config().pg_port) == ("a", 1)
        container.config.reset_last_overriding()
        assert (container.config().pg_host, container.config().pg_port) == ("a", 5438)
        container.config.override({"pg_port": 2})
        container.config.reset_override()
        assert (container.config().pg_host, container.config().pg_port) == ("localhost", 5438)

    @pytest.mark.parametrize(
        "bad",
        [{"pg_port": -1}, {"pg_hots": "x"}, {"storage_provider": "oracle"}, 7, None, "pg_host=x", [("pg_host", "x")]],
    )
    def test_a_bad_one_changes_nothing(self, bad: object) -> None:
        container = Container()
        with container.config.override({"pg_host": "kept"}) as before:
            with pytest.raises(ConfigurationError):
                container.config.override(bad)
            assert container.config() is before

    def test_a_provider_of_something_else_is_a_clear_error(self) -> None:
        container = Container()
        container.config.override(providers.Factory(dict, pg_host="x"))
        with pytest.raises(ConfigurationError, match="not by a dict"):
            container.config()

    def test_ends_out_of_order(self) -> None:
        container = Container()
        first = container.config.override({"pg_host": "first"})
        second = container.config.override({"pg_port": 2})
        first.__exit__(None, None, None)
        assert (container.config().pg_host, container.config().pg_port) == ("first", 2), "it was built on the first"
        second.__exit__(None, None, None)
        second.__exit__(None, None, None)
        assert container.config().pg_host == "localhost"

    def test_at_no_moment_another_thread_sees_what_is_not_in_force(self) -> None:
        container = Container(config={"api_port": 1111})
        stop, seen = threading.Event(), set()

        def read() -> None:
            while not stop.is_set():
                seen.add(container.config().api_port)

        thread = threading.Thread(target=read)
        thread.start()
        for _ in range(500):
            first = container.config.override({"log_level": "DEBUG"})
            second = container.config.override({"log_level": "ERROR"})
            first.__exit__(None, None, None)
            second.__exit__(None, None, None)
        stop.set()
        thread.join()
        assert seen == {1111}

    def test_ended_by_reset_inside_the_block(self) -> None:
        container = Container()
        with container.config.override({"pg_host": "x"}):
            container.config.reset_override()
            assert container.config().pg_host == "localhost"

    def test_at_construction_and_by_dependency_injectors_ways(self) -> None:
        assert Container(config={"pg_host": "given"}).config().pg_host == "given"
        container = Container()
        with container.override_providers(config={"pg_host": "given"}):
            assert container.config().pg_host == "given"
        assert container.config().pg_host == "localhost"
        with pytest.raises(ConfigurationError, match="P8FS_PG_PORT"):
            Container(config={"pg_port": 0})

    def test_containers_do_not_share_overrides(self) -> None:
        one, two = Container(), Container()
        with one.config.override({"pg_host": "one"}):
            assert (one.config().pg_host, two.config().pg_host) == ("one", "localhost")

    def test_any_provider(self) -> None:
        container = Container()
        fake = object()
        with container.storage.override(fake), container.api.override(providers.Object(7)):
            assert container.storage() is fake
            assert container.api() == 7
        assert isinstance(container.storage(), Storage)

    def test_the_storage_kept_from_before_follows_and_follows_back(
        self, rocksdb_settings: dict[str, Any], tmp_path: Any
    ) -> None:
        with Container(config=rocksdb_settings) as container:
            storage = container.storage()
            with storage as database:
                database[b"where"] = b"outside"
            with container.config.override({"rocksdb_path": tmp_path / "other"}):
                assert container.storage() is storage
                with storage as database:
                    assert database.get(b"where") is None
                    database[b"where"] = b"inside"
                assert storage.stats()["engines"] == 2
            assert storage.stats()["engines"] == 1
            with storage as database:
                assert database[b"where"] == b"outside"

    def test_the_engine_name_follows(self) -> None:
        container = Container()
        storage = container.storage()
        with container.config.override({"storage_provider": "tidb"}):
            assert (storage.provider, container.engine().dialect.name) == ("tidb", "mysql")
        assert (storage.provider, container.engine().dialect.name) == ("postgresql", "postgresql")
        assert container.engine() is container.engine()

    def test_reload_keeps_overrides_on_top_and_the_last_good(self, monkeypatch: pytest.MonkeyPatch) -> None:
        container = Container()
        api = container.api()
        assert api.port == 8000
        monkeypatch.setenv("P8FS_API_PORT", "8001")
        assert api.port == 8000
        assert container.config.reload().api_port == 8001
        assert api.port == 8001
        monkeypatch.setenv("P8FS_API_PORT", "none")
        with pytest.raises(ConfigurationError):
            container.config.reload()
        assert api.port == 8001


class TestOnce:
    def test_singletons_are_built_once_under_32_threads(self) -> None:
        built: list[int] = []

        def slow() -> object:
            built.append(1)
            time.sleep(0.01)
            return object()

        def slow_nothing() -> None:
            slow()

        class Mine(Container):
            slow_one = providers.Singleton(slow)
            safe_one = providers.ThreadSafeSingleton(slow)
            nothing = providers.Singleton(slow_nothing)

        container = Mine()
        for name in ("storage", "api", "slow_one", "safe_one", "nothing"):
            assert len(set(map(id, in_threads(32, getattr(container, name))))) == 1
        assert container.nothing() is None
        assert len(built) == 3, "None is a value"

    def test_a_singleton_does_not_wait_for_another(self) -> None:
        entered, release = threading.Event(), threading.Event()

        def held() -> int:
            entered.set()
            assert release.wait(30)
            return 1

        class Mine(Container):
            one = providers.Singleton(held)
            other = providers.Singleton(object)

        container = Mine()
        thread = threading.Thread(target=container.one)
        thread.start()
        assert entered.wait(30)
        container.other()  # with dependency-injector's class-wide lock this would wait for ever
        release.set()
        thread.join()

    def test_a_factory_may_wait_for_a_worker_thread(self) -> None:
        class Mine(Container):
            part = providers.Singleton(object)
            whole = providers.Singleton(lambda provider: in_threads(1, provider), part.provider)

        container = Mine()
        assert container.whole() == [container.part()]

    def test_a_build_that_fails_is_tried_again(self) -> None:
        results = iter([ValueError("not yet"), 7])

        def build() -> object:
            result = next(results)
            if isinstance(result, Exception):
                raise result
            return result

        class Mine(Container):
            number = providers.Singleton(build)

        container = Mine()
        with pytest.raises(ValueError, match="not yet"):
            container.number()
        assert container.number() == container.number() == 7
        container.number.reset()
        with pytest.raises(StopIteration):
            container.number()

    def test_a_resource_opens_once(self) -> None:
        opened: list[int] = []

        def resource() -> Iterator[object]:
            opened.append(1)
            time.sleep(0.01)
            yield object()

        class Mine(Container):
            thing = providers.Resource(resource)

        with Mine() as container:
            assert len(set(map(id, in_threads(16, container.thing)))) == 1
        assert opened == [1]

    def test_each_container_has_its_own(self) -> None:
        assert Container().storage() is not Container().storage()


class TestClosing:
    def test_in_reverse_order_of_opening_whatever_the_order_of_declaration(
        self, rocksdb_settings: dict[str, Any]
    ) -> None:
        log: list[str] = []

        def resource(name: str, *needs: object) -> Iterator[str]:
            log.append(f"open {name}")
            yield name
            log.append(f"close {name}")

        class Mine(Container):
            a = providers.Resource(resource, "a")
            b = providers.Resource(resource, "b", a)
            through = providers.Singleton(list, b)
            c = providers.Resource(resource, "c", through)
            never = providers.Resource(resource, "never")
            d = providers.Resource(resource, "d")

        for _ in range(2):
            log.clear()
            with Mine(config=rocksdb_settings) as container:
                container.d()
                container.storage().open()
                container.c()
            assert log == ["open d", "open a", "open b", "open c", "close c", "close b", "close a", "close d"]

    def test_the_storage_is_closed_in_its_place(self, rocksdb_settings: dict[str, Any]) -> None:
        states: list[int] = []

        def watching(storage: Storage) -> Iterator[None]:
            yield
            states.append(storage.stats()["engines"])

        class Mine(Container):
            before = providers.Resource(watching, Container.storage)
            after = providers.Resource(watching, Container.storage)

        with Mine(config=rocksdb_settings) as container:
            container.before()
            container.storage().open()
            container.after()
        assert states == [1, 0], "what was opened after the storage ends before it"

    def test_a_resource_may_use_the_storage_when_it_ends(self, rocksdb_settings: dict[str, Any]) -> None:
        def writer(storage: Storage) -> Iterator[None]:
            storage.open()
            yield
            with storage as database:
                database[b"last words"] = b"yes"

        class Mine(Container):
            thing = providers.Resource(writer, Container.storage)

        for _ in range(2):
            with Mine(config=rocksdb_settings) as container:
                container.thing()
        with container, container.storage() as database:
            assert database[b"last words"] == b"yes"

    def test_every_step_is_tried_and_the_faults_come_together(self, rocksdb_settings: dict[str, Any]) -> None:
        closed: list[str] = []

        def resource(name: str) -> Iterator[None]:
            yield
            closed.append(name)
            if name != "fine":
                raise OSError(f"{name} is gone")

        class Mine(Container):
            a = providers.Resource(resource, "a")
            fine = providers.Resource(resource, "fine")
            b = providers.Resource(resource, "b")

        container = Mine(config=rocksdb_settings)
        with pytest.raises(CloseError, match="2 steps") as caught, container:
            container.a(), container.fine(), container.b(), container.storage().open()
        assert closed == ["b", "fine", "a"]
        assert [str(error) for _, error in caught.value.errors] == ["b is gone", "a is gone"]
        assert container.storage().stats()["engines"] == 0
        container.close()

    def test_closed_refuses_and_entered_again_works(self, rocksdb_settings: dict[str, Any]) -> None:
        container = Container(config=rocksdb_settings)
        storage = container.storage()
        for _ in range(2):
            with container:
                assert storage.ping() >= 0
            with pytest.raises(StorageClosed, match="closed"):
                storage.ping()

    def test_nested_entering_closes_at_the_outermost_exit(self, rocksdb_settings: dict[str, Any]) -> None:
        container = Container(config=rocksdb_settings)
        with container:
            with container:
                container.storage().open()
            assert container.storage().stats()["engines"] == 1
        assert container.storage().stats()["engines"] == 0

    def test_a_resource_is_opened_anew_after_closing_also_below_a_singleton(self) -> None:
        class Mine(Container):
            thing = providers.Resource(lambda: object())
            holder = providers.Singleton(list, providers.List(thing))

        container = Mine()
        with container:
            first = container.holder()[0]
            assert first is container.thing()
        with container:
            assert container.holder()[0] is container.thing() is not first

    def test_asynchronous_resources(self) -> None:
        log: list[str] = []

        async def resource() -> AsyncIterator[str]:
            log.append("open")
            yield "connection"
            log.append("close")

        class Mine(Container):
            thing = providers.Resource(resource)

        async def use() -> None:
            async with Mine() as container:
                assert await container.thing() == "connection"
            assert log == ["open", "close"]
            container = Mine()
            with pytest.raises(CloseError, match="asynchronous resource"), container:
                await container.thing()

        asyncio.run(use())

    def test_a_fault_of_the_body_is_the_one_that_is_seen(self) -> None:
        with pytest.raises(ZeroDivisionError), Container():
            1 / 0  # noqa: B018

    def test_what_an_override_brought_from_elsewhere_is_left_alone(self, rocksdb_settings: dict[str, Any]) -> None:
        other = Container(config=rocksdb_settings)
        with other:
            other.storage().open()
            with Container() as container:
                container.storage.override(other.storage)
                assert container.storage().ping() >= 0
            assert other.storage().ping() >= 0

    def test_at_exit_of_the_process(self, tmp_path: Any) -> None:
        code = """
from dependency_injector import providers
from p8fs_cluster import Container
def resource():
    yield 1
    print("closed")
class Mine(Container):
    thing = providers.Resource(resource)
container = Mine(config={"storage_provider": "rocksdb"})
container.storage().open()
container.thing()
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == ("closed\n", "")


@plain_inject
def plainly_wired(storage: Storage = PlainProvide[Container.storage]) -> Storage:
    return storage


class TestDependencyInjector:
    def test_wire(self) -> None:
        container = Container()
        container.wire(modules=[__name__])
        try:
            assert plainly_wired() is container.storage()
            with container.storage.override("fake"):
                assert plainly_wired() == "fake"  # type: ignore[comparison-overlap]
        finally:
            container.unwire()

    def test_a_subclass(self) -> None:
        class Mine(Container):
            repository = providers.Singleton(
                lambda storage, port: (storage, port), Container.storage, Container.config.provided.pg_port
            )
            upper = providers.Factory(str.upper, Container.config.provided.pg_host)

        container = Mine(config={"pg_host": "db"})
        assert container.repository() == (container.storage(), 5438)
        assert container.upper() == "DB"
        assert Mine.storage is Container.storage

    def test_inside_another_container(self, rocksdb_settings: dict[str, Any]) -> None:
        class Application(containers.DeclarativeContainer):
            settings = providers.Object(rocksdb_settings)
            cluster = providers.Container(Container)
            service = providers.Singleton(list, providers.List(cluster.storage))

        class Ours(Container):
            inner = providers.Container(Container, config=providers.Object(rocksdb_settings))

        application = Application()
        application.cluster.config.override({"pg_host": "inner"})
        assert application.cluster.config().pg_host == "inner"
        assert application.service()[0] is application.cluster.storage()
        with Ours() as ours:
            ours.inner.storage().open()
            assert ours.inner.storage().provider == "rocksdb"
        assert ours.inner.storage().stats()["engines"] == 0

    def test_check_dependencies_and_traverse(self) -> None:
        container = Container()
        container.check_dependencies()
        assert container.storage in set(container.traverse())

    def test_making_one_opens_reads_and_imports_nothing(self) -> None:
        code = """
import sys, os
os.environ["P8FS_PG_PORT"] = "nonsense"
from p8fs_cluster import Container
container = Container()
container.storage(), container.api()
print([name for name in ("psycopg", "pymysql", "sqlalchemy", "rocksdict", "typer") if name in sys.modules])
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"


def test_default_container_and_live_view_follow_each_other() -> None:
    code = """
import os
os.environ["P8FS_PG_HOST"] = "env"
from p8fs_cluster.config.settings import config
assert config.pg_host == "env"
from p8fs_cluster import container, Container
import p8fs_cluster
assert p8fs_cluster.container is container and container.config() is config.current
with container.config.override({"pg_host": "other", "pg_password": "p@ss"}):
    assert config.pg_connection_string == "postgresql://postgres:p%40ss@other:5438/app"
    with Container(config={"pg_host": "unrelated"}):
        assert config.pg_host == "other"
    with container.config.override({"pg_port": 1}):
        assert config.pg_port == 1 and config.current.pg_host == "other"
    assert config.pg_port == 5438
assert config.pg_host == "env" and container.config() is config.current
os.environ["P8FS_PG_HOST"] = "changed"
container.config.reload()
assert config.pg_host == "changed"
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "fine\n", done.stderr


def test_overriding_the_default_before_anything_was_read() -> None:
    code = """
from p8fs_cluster import container
from p8fs_cluster.config.settings import config, P8FSConfig
with container.config.override(P8FSConfig(pg_host="first")):
    assert config.pg_host == "first"
assert config.pg_host == "localhost" and container.config() is config.current
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "fine\n", done.stderr


def test_memory_storage_is_swapped_in_one_line() -> None:
    container = Container()
    with container.storage.override(memory_storage()):
        with container.storage() as connection:
            connection[b"a"] = b"1"
        with container.storage() as connection:
            assert connection[b"a"] == b"1"
        with pytest.raises(StorageError, match="no SQL"):
            container.storage().execute("SELECT 1")


class Shop(Container):
    service = providers.Singleton(lambda storage: [storage], Container.storage)
    page = providers.Factory(dict, service=service, port=Container.config.provided.api_port)


class Metered:
    """What stands around another storage."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner


class TestDeclaredAnew:
    """Everything that depends on a provider follows what a subclass declares in its place."""

    def test_what_the_base_declares_follows(self) -> None:
        fake = memory_storage()

        class ForTests(Shop):
            storage = providers.Object(fake)

        class Further(ForTests):
            both = providers.Factory(list, providers.List(Shop.service, Container.storage))

        for cls in (ForTests, Further):
            with cls() as container:
                assert container.service() == [fake]
                assert container.page()["service"] == [fake]
                assert container.async_storage().provider == "memory"
                container.check()
        with Further() as container:
            assert container.both() == [[fake], fake]
        with Shop() as container:
            assert container.storage() is not fake, "the base is as it was"

    def test_markers_of_the_base_mean_the_new_one(self) -> None:
        fake = memory_storage()

        class ForTests(Shop):
            storage = providers.Object(fake)

        @inject
        def given(service: Any = Provide[Shop.service], storage: Any = Provide[Container.storage]) -> Any:
            return service, storage

        with ForTests():
            assert given() == ([fake], fake)

    def test_what_it_is_made_from_is_the_base(self, rocksdb_settings: dict[str, Any]) -> None:
        class Decorated(Shop):
            storage = providers.Singleton(Metered, providers.Factory(lambda inner: inner, Container.storage))

        with Decorated(config=rocksdb_settings) as container:
            [metered] = container.service()
            assert metered is container.storage()
            inner = metered.inner
            with inner as connection:
                connection[b"key"] = b"value"
        with pytest.raises(StorageClosed), inner:
            pass

    def test_settings_too(self) -> None:
        class Other(Container):
            config = type(Container.config)()

        container = Other(config={"api_port": 9000})
        assert container.api().port == container.storage().settings_now().api_port == 9000

    def test_settings_too_in_what_a_base_has_declared_anew(self) -> None:
        class Decorated(Container):
            storage = providers.Singleton(Metered, Container.storage)

        class Other(Decorated):
            config = type(Container.config)()

        class Both(Container):
            config = type(Container.config)()
            storage = providers.Singleton(Metered, providers.Factory(lambda inner: inner, Container.storage))

        for cls in (Other, Both):
            container = cls(config={"api_port": 9000})
            assert container.storage().inner.settings_now().api_port == 9000

    def test_two_that_stand_around_each_other(self) -> None:
        class Pair(Container):
            one = providers.Object(1)
            two = providers.Object(2)

        class Swapped(Pair):
            one = providers.Callable(lambda other: f"around {other}", Pair.two)
            two = providers.Callable(lambda other: f"around {other}", Pair.one)

        assert (Swapped().one(), Swapped().two()) == ("around 2", "around 1")

    def test_of_several_bases(self) -> None:
        fake = memory_storage()

        class Faked(Container):
            storage = providers.Object(fake)

        class Both(Faked, Shop):
            pass

        with Both() as container:
            assert container.storage() is fake
            assert container.service() == [fake]


class Gate(containers.DeclarativeContainer):
    name = providers.Object("declared")


class Given(containers.DeclarativeContainer):
    name = providers.Object("given")


class TestPartsOfAContainer:
    """A container's instance stands for a part of another, as dependency-injector takes it."""

    def test_given_at_the_making_or_in_an_override(self) -> None:
        class House(Container):
            gate = providers.Container(Gate)
            said = providers.Callable(str, gate.name)

        assert House(gate=Given()).said() == "given"
        house = House()
        with house.override_providers(gate=Given()):
            assert house.said() == "given"
        assert house.said() == "declared"

    def test_given_for_what_is_only_declared(self) -> None:
        class House(Container):
            gate = providers.DependenciesContainer()
            said = providers.Callable(str, gate.name)

        assert House(gate=Given()).said() == "given"
        assert House(gate=providers.Container(Given)).said() == "given"

    def test_a_part_shares_settings_and_pools(self) -> None:
        class Part(Container):
            users = providers.Singleton(dict, storage=Container.storage)

        class Whole(Container):
            part = providers.Container(Part)
            user = providers.Factory(dict, of=part.users)

        class Around(Container):
            whole = providers.Container(Whole)

        around = Around(config={"api_port": 9000})
        for part in (around.whole.part, around.whole):
            assert part.api() is around.api()
            assert part.storage() is around.storage()
            assert part.async_storage() is around.async_storage()
        assert around.whole.user()["of"] is around.whole.part.users()
        assert around.whole.part.users()["storage"] is around.storage()
        with around.config.override({"api_port": 1}), around.storage.override("fake"):
            assert (around.whole.part.api().port, around.whole.part.users()["storage"]) == (1, "fake")
        assert Around().whole.part.storage() is not around.storage()
        assert check(Around) == ()

        @inject
        def found(one: Any = Provide[Part.users], same: Any = Provide["whole.part.users"]) -> bool:
            return one is same

        with around:
            assert found()

    def test_a_part_keeps_what_it_was_given_or_declares(self) -> None:
        class Part(Container):
            users = providers.Singleton(dict, storage=Container.storage)

        class Own(Part):
            storage = providers.Object("own")

        class Whole(Container):
            told = providers.Container(Part, config={"api_port": 1})
            own = providers.Container(Own)

        whole = Whole(config={"api_port": 9000})
        assert (whole.told.api().port, whole.own.api().port) == (1, 9000)
        assert whole.told.storage() is not whole.storage()
        assert whole.own.users()["storage"] == "own"
        assert whole.own.sql() is not whole.sql()

    def test_copied(self) -> None:
        class Source(Container):
            word = providers.Object("source")
            said = providers.Singleton(str, word)

        @containers.copy(Source)
        class Copied(Source):
            word = providers.Object("copied")

        assert (Copied().said(), Source().said()) == ("copied", "source")

    def test_attributes_of_modules_are_wired(self) -> None:
        module = types.ModuleType("wired")
        marker = module.__dict__["port"] = Provide[Container.config.provided.api_port]
        container = Container(config={"api_port": 9000})
        container.wire(modules=[module])
        assert module.port == 9000
        container.unwire()
        assert module.port is marker

    def test_the_container_itself(self) -> None:
        class Greeter(Container):
            __self__ = providers.Self()
            name = providers.Object("you")
            hello = providers.Callable(lambda container, word: f"{word} {container.name()}", __self__, "hello")
            kept = providers.Singleton(lambda container: container, __self__)

        class Another(Greeter):
            name = providers.Object("all")

        for cls, name in ((Greeter, "you"), (Another, "all")):
            container = cls()
            container.check()
            assert container.hello() == f"hello {name}"
            assert container.kept() is container


def test_singletons_are_forgotten_of_every_kind_and_again_at_the_end_of_a_block() -> None:
    class App(Container):
        ours = providers.Singleton(object)
        of_thread = providers.ThreadLocalSingleton(object)
        of_context = providers.ContextLocalSingleton(object)
        inner = providers.List(providers.Singleton(object))
        part = providers.Container(Gate)

    app = App()
    storage = app.storage()

    def values() -> list[Any]:
        return [app.ours(), app.of_thread(), app.of_context(), *app.inner()]

    before = values()
    with app.reset_singletons() as entered:
        assert entered is app
        within = values()
    after = values()
    assert len({id(value) for value in (*before, *within, *after)}) == 12
    assert values() == after
    assert app.storage() is storage, "a handle stays"


class TestShutdownResources:
    """It closes all that `close` closes, in one order."""

    def test_handles_and_resources(self, rocksdb_settings: dict[str, Any]) -> None:
        closed: list[str] = []

        def open_resource(storage: Storage) -> Iterator[Storage]:
            with storage:
                pass
            yield storage
            closed.append(f"the engine is {'open' if storage.stats()['engines'] else 'closed'}")

        class App(Container):
            resource = providers.Resource(open_resource, Container.storage)

        app = App(config=rocksdb_settings)
        app.init_resources()
        assert app.shutdown_resources() is None
        assert closed == ["the engine is open"]
        with pytest.raises(StorageClosed), app.storage():
            pass

    def test_what_is_asynchronous_is_awaited(self) -> None:
        closed: list[str] = []

        async def open_later() -> AsyncIterator[int]:
            yield 1
            await asyncio.sleep(0)
            closed.append("later")

        def open_first() -> Iterator[int]:
            yield 2
            closed.append("first")

        class App(Container):
            first = providers.Resource(open_first)
            later = providers.Resource(open_later)

        async def main() -> None:
            app = App()
            app.first()
            assert await app.later() == 1
            await app.shutdown_resources()
            assert closed == ["later", "first"]

        asyncio.run(main())

    def test_outside_of_a_loop_it_says_what_to_do(self) -> None:
        async def open_later() -> AsyncIterator[int]:
            yield 1

        class App(Container):
            later = providers.Resource(open_later)

        app = App()

        async def opened() -> int:
            return await app.later()

        assert asyncio.run(opened()) == 1
        with pytest.raises(CloseError, match="where its event loop runs"):
            app.shutdown_resources()
