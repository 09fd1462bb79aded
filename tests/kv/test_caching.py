"""`kv.cached`: what is kept is what the function has returned, and one computes for all callers of a process."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import pytest

from p8fs_cluster import Container, Provide, inject
from p8fs_cluster.exceptions import KVError, StorageUnavailable, TablesMissing
from p8fs_cluster.testing import memory_storage
from tests.kv.caching import THREADS, Slow, begun, giving
from tests.kv.computing import asked
from tests.kv.conftest import Case, opened
from tests.processes import until
from tests.servers import Server, free_port

# What is kept


def test_a_result_is_kept_until_its_time_is_over_or_it_is_forgotten(case: Case) -> None:
    kv = case.kv.namespace("cache")
    runs: list[object] = []

    @kv.json.cached(60, name="double")
    def double(number: int, *, by: int = 2) -> list[int]:
        """Multiply."""
        runs.append(number)
        return [number * by]

    assert double(1) == double(1, by=2) == double(number=1) == [2] and runs == [1]
    assert double(2) == [4] and double(1, by=3) == [3] and runs == [1, 2, 1]
    assert double.__name__ == "double" and double.__doc__ == "Multiply."
    double.forget(1)
    assert double(1) == [2] and double(2) == [4] and runs == [1, 2, 1, 1]
    for key in list(kv.scan("cached:double\0", keys_only=True)):
        case.end("cache", key.decode())
    assert double(1) == [2] and runs == [1, 2, 1, 1, 1]


def test_nothing_is_a_result_too(local: Case) -> None:
    runs: list[object] = []
    nothing = local.kv.json.cached(60, name="nothing")(lambda: runs.append(1))
    assert nothing() is None and nothing() is None and runs == [1]


@dataclass
class User:
    name: str
    tags: tuple[str, ...] = ()


def test_everybody_gets_what_is_stored(local: Case) -> None:
    kv = local.kv
    plain = kv.cached(60, name="plain")(lambda: b"\0\xff")
    assert plain() == plain() == b"\0\xff"
    pair = kv.json.cached(60, name="pair")(lambda: (1, [2]))
    first, second = pair(), pair()
    assert first == second == [1, [2]] and first is not second, "the first one gets it as the others do"
    user = kv.typed(User).cached(60, name="user")(lambda name: User(name, ("a",)))
    assert user("ada") == user("ada") == User("ada", ("a",))


def test_a_result_that_can_not_be_kept_is_the_codecs_error(local: Case) -> None:
    for cached, result, told in (
        (local.kv.cached, "s3cret", "a value is bytes, not str"),
        (local.kv.json.cached, {"s3cret"}, "what JSON has, and this set is not"),
        (local.kv.typed(User).cached, {"name": "s3cret"}, "the value is no User"),
    ):
        with pytest.raises(KVError, match=told) as caught:
            cached(60, name="f")(giving(result))()
        assert "s3cret" not in str(caught.value)
    assert local.kv.count("cached:") == 0, "no claim is left"


def test_a_result_that_has_become_unreadable_says_what_to_do(local: Case) -> None:
    assert local.kv.json.cached(60, name="user")(lambda: {"names": ["s3cret"]})()
    with pytest.raises(KVError, match=r"^user: the stored value is no User.*give kv\.cached another name=") as caught:
        local.kv.typed(User).cached(60, name="user")(lambda: User("ada"))()
    assert "s3cret" not in str(caught.value)


def test_a_result_that_is_too_long_is_told(local: Case) -> None:
    with opened("memory", local.loop is not None, {"kv_max_value": 20}) as case:
        with pytest.raises(KVError, match="at most 20 bytes"):
            case.kv.cached(60, name="long")(lambda: b"1" * 20)()
        assert case.kv.count() == 0


# Keys


def test_what_has_no_name_or_no_arguments_of_json_says_what_to_write(local: Case) -> None:
    kv = local.kv.json
    nameless: list[Any] = [lambda: 1, Slow(), Notes().load, functools.partial(Notes.load, Notes()), asked]
    nameless[-1].__module__, module = "__main__", asked.__module__
    try:
        for function in nameless:
            with pytest.raises(KVError, match=r"give it a name, as in kv\.cached\(60, name='rates'\)"):
                kv.cached(60)(function)
    finally:
        asked.__module__ = module
    for name in ("", "a\0b", 7):
        with pytest.raises(KVError, match="name= is text"):
            kv.cached(60, name=name)(lambda: 1)
    with pytest.raises(KVError, match="at most 2,048 bytes"):
        kv.cached(60, name="n" * 2000)(lambda: 1)
    with pytest.raises(KVError, match="key= is a function"):
        kv.cached(60, name="f", key="7")(lambda: 1)
    with pytest.raises(KVError, match="largest tells nothing of its parameters"):
        local.container.kv().cached(60, name="largest")(max)
    same = kv.cached(60, name="same")(lambda first, second=None: 1)
    for argument, told in (
        (Notes(), r"Notes"),
        ([{"s3cret"}], r"set"),
        ({7: "s3cret"}, r"dict whose keys are not all text"),
        (float("nan"), r"number that is not finite"),
        ({"s3cret": b"s3cret"}, r"bytes"),
    ):
        with pytest.raises(
            KVError, match=rf"^same: the argument 'first' is or has a {told}.*key=lambda first, second: …"
        ):
            same(argument)
        with pytest.raises(KVError) as caught:
            same.forget(argument)
        assert "s3cret" not in str(caught.value)
    with pytest.raises(TypeError, match="argument"):
        same()


@pytest.mark.parametrize(
    ("ttl", "claim", "told"),
    [
        (0, 30, "ttl is more than 0"),
        ("60", 30, "ttl is a number of seconds, or None for ever, not str"),
        (asked, 30, "ttl is a number of seconds, or None for ever, not function"),
        (60, None, "claim is a number of seconds, not NoneType"),
        (60, float("nan"), "claim is more than 0"),
        (60, -1, "claim is more than 0"),
    ],
)
def test_times_that_can_not_be_used_are_told(ttl: Any, claim: Any, told: str) -> None:
    with Container() as container:
        for kv in (container.kv(), container.async_kv()):
            with pytest.raises(KVError, match=told):
                kv.cached(ttl, name="f", claim=claim)


def test_functions_of_the_other_kind_are_refused() -> None:
    async def coroutine() -> bytes:
        return b""

    async def many() -> Any:
        yield b""

    with Container() as container:
        kv: Any = container.kv()
        async_kv: Any = container.async_kv()
        with pytest.raises(KVError, match=r"container\.async_kv\(\)\.cached"):
            kv.cached(60, name="f")(coroutine)
        with pytest.raises(KVError, match=r"container\.kv\(\)\.cached"):
            async_kv.cached(60, name="f")(lambda: b"")
        for wrong in (many, (lambda: (yield)), classmethod(coroutine), 7):
            for cached in (kv.cached, async_kv.cached):
                with pytest.raises(KVError, match="a function that returns its result"):
                    cached(60, name="f")(wrong)


class Notes:
    """A class with methods that are cached."""

    def __init__(self, tenant: str = "ours") -> None:
        self.tenant = tenant

    def load(self, number: int, fresh: bool = False) -> str:
        return f"{self.tenant} {number}"


def test_a_key_of_its_own(local: Case) -> None:
    def key_of(notes: Notes, number: int, fresh: bool) -> Any:
        return {1: "", 2: 2}.get(number, f"{notes.tenant}:{number}")

    load = local.kv.json.cached(60, key=key_of, name="load")(Notes.load)
    assert load(Notes(), 7) == load(Notes(), 7, fresh=True) == "ours 7" and load(Notes("theirs"), 7) == "theirs 7"
    assert set(local.kv.scan(keys_only=True)) == {b"cached:load\0ours:7", b"cached:load\0theirs:7"}
    load.forget(Notes(), 7)
    assert list(local.kv.scan(keys_only=True)) == [b"cached:load\0theirs:7"]
    with pytest.raises(KVError, match="at least one byte"):
        load(Notes(), 1)
    with pytest.raises(KVError, match="bytes or text, not int"):
        load(Notes(), 2)


def test_a_method_is_bound() -> None:
    with Container() as container, container.storage.override(memory_storage()):

        class Cached:
            @container.kv().json.cached(60, name="get", key=lambda self, number: str(number))
            def get(self, number: int) -> int:
                return number

        assert Cached().get(7) == Cached().get(7) == 7
        Cached.get.forget(Cached(), 7)
        assert container.kv().count() == 0


def test_names_and_keys_do_not_run_together(local: Case) -> None:
    kv = local.kv.json
    one = kv.cached(60, name="a", key=lambda key: key)(lambda key: 1)
    two = kv.cached(60, name="a:b", key=lambda key: key)(lambda key: 2)
    assert one("b:c") == 1 and two("c") == 2


def test_what_somebody_else_has_written_is_no_result(local: Case) -> None:
    kv = local.kv
    cached = kv.cached(60, name="f", key=lambda: "k")(lambda: b"1")
    kv.put("cached:f\0k", b"s3cret")
    with pytest.raises(KVError, match="give it a namespace of its own") as caught:
        cached()
    assert "s3cret" not in str(caught.value) and kv.get("cached:f\0k") == b"s3cret"


# One computes


def test_in_one_process_callers_join(case: Case, joiners: list[object]) -> None:
    slow, kv = Slow(), case.kv.namespace("cache").json
    cached = kv.cached(60, name="slow")(slow)
    other = kv.cached(60, name="other")(lambda: 1)
    calls = [begun(cached, "a") for _ in range(THREADS)]
    until(lambda: len(joiners) == THREADS - 1, "all others have joined")
    assert other() == 1, "another one is not held up"
    slow.may_end.set()
    results = [call.result(60) for call in calls]
    assert results == [["a", 1]] * THREADS and slow.runs == ["a"]
    assert len({id(result) for result in results}) == THREADS, "each has one of its own"
    assert cached("a") == ["a", 1]


def test_an_error_is_told_to_those_who_joined_and_never_kept(case: Case, joiners: list[object]) -> None:
    slow, kv = Slow(), case.kv.namespace("cache").json

    def failing(what: str) -> None:
        slow(what)
        raise LookupError(what)

    cached = kv.cached(60, name="failing")(failing)
    calls = [begun(cached, "a") for _ in range(3)]
    until(lambda: len(joiners) == 2, "the others have joined")
    slow.may_end.set()
    for call in calls:
        with pytest.raises(LookupError):
            call.result(60)
    assert len(slow.runs) == 1 and kv.count() == 0, "the claim is gone"
    with pytest.raises(LookupError):
        cached("a")
    assert len(slow.runs) == 2


def test_a_late_result_is_its_callers_alone(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    slow, quick, kv = Slow(), Slow(), case.kv.namespace("cache").json
    quick.runs = ["before"]
    quick.may_end.set()
    late = kv.cached(60, name="f", key=lambda what: what, claim=0.2 if case.clock is None else 5000)(slow)
    begun_late = begun(late, "a")
    until(lambda: slow.runs, "it has begun")
    if case.clock is not None:
        case.clock.move(10_000)
    newer = kv.cached(60, name="f", key=lambda what: what)(quick)  # another process's
    assert newer("a") == ["a", 2]
    slow.may_end.set()
    assert begun_late.result(60) == ["a", 1]
    assert newer("a") == late("a") == ["a", 2], "the newer one stays"
    if case.clock is None:
        assert "f took" in caplog.text and "longer than its claim of 0.2 s" in caplog.text


def test_what_is_forgotten_while_it_is_computed_is_not_kept(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    slow, kv = Slow(), case.kv.namespace("cache").json
    cached = kv.cached(60, name="f")(slow)
    before = begun(cached, "a")
    until(lambda: slow.runs, "it has begun")
    cached.forget("a")
    after = begun(cached, "a")
    until(lambda: len(slow.runs) == 2, "it is computed anew, from what is there now")
    slow.may_end.set()
    assert before.result(60) == ["a", 1] and after.result(60) == ["a", 2] and cached("a") == ["a", 2]
    assert not caplog.records


def test_a_function_that_asks_for_itself_is_told(local: Case) -> None:
    kv = local.container.kv().json

    @kv.cached(60, name="round")
    def round_(number: int) -> int:
        return 1 + round_(number)

    with pytest.raises(KVError, match="round calls itself with the same arguments"):
        round_(1)

    @kv.cached(60, name="sum")
    def sum_(number: int) -> int:
        return number and number + sum_(number - 1)

    assert sum_(4) == 10 and kv.count("cached:sum\0") == 5


def test_an_overridden_store_has_results_of_its_own(local: Case) -> None:
    slow, kv, container = Slow(), local.kv.json, local.container
    cached = kv.cached(60, name="f")(slow)
    first = begun(cached, "a")
    until(lambda: slow.runs, "it has begun")
    with container.storage.override(memory_storage()):
        second = begun(cached, "a")
        until(lambda: len(slow.runs) == 2, "it is computed there as well")
        slow.may_end.set()
        assert second.result(60) == ["a", 2]
    assert first.result(60) == ["a", 1]


def test_a_store_that_fails_is_an_error_and_nothing_is_computed(postgresql_server: Server) -> None:
    settings = {**postgresql_server.settings, "pg_port": free_port(), "pool_timeout": 1}
    for asynchronous in (False, True):
        with opened("postgresql", asynchronous, settings) as case:
            slow = Slow()
            with pytest.raises(StorageUnavailable):
                case.kv.json.cached(60, name="f")(slow)("a")
            assert not slow.runs


def test_a_result_that_can_not_be_stored_is_an_error(postgresql_server: Server) -> None:
    settings = {**postgresql_server.settings, "kv_table": "p8fs_kv_dropped", "kv_create": False}
    with Container(config={**settings, "kv_create": True}) as container:
        container.kv().get("a")
    for asynchronous in (False, True):
        with opened("postgresql", asynchronous, settings) as case, Container(config=settings) as other:
            hide = functools.partial(other.storage().execute, "ALTER TABLE p8fs_kv_dropped RENAME TO p8fs_kv_hidden")
            with pytest.raises(TablesMissing) as caught:
                case.kv.json.cached(60, name="f", key=lambda *_: "k")(hide)()
            assert "The claim to compute f was not deleted" in caught.value.__notes__[0]
            other.storage().execute("ALTER TABLE p8fs_kv_hidden RENAME TO p8fs_kv_dropped")
            other.kv().clear()


# With @inject


def test_inject_within_and_around(local: Case) -> None:
    runs: list[int] = []
    container = local.container
    kv: Any = local.container.async_kv().json if local.loop else container.kv().json

    def write(number: int, config: Any = Provide[Container.config], *, text: str = "") -> str:
        runs.append(number)
        return f"{number} {text} {config.kv_table}"

    async def write_too(number: int, config: Any = Provide[Container.config], *, text: str = "") -> str:
        return write(number, config, text=text)

    function = write_too if local.loop else write
    within = kv.cached(60, name="within")(inject(function))
    around = inject(kv.cached(60, name="around")(function))
    by_key = inject(kv.cached(60, name="key", key=lambda number, text: f"{number}{text}")(function))
    call = local.loop.call if local.loop else lambda function, *args, **kwargs: function(*args, **kwargs)
    with container:
        for cached in (within, around, by_key):
            runs.clear()
            for _ in range(2):
                assert call(cached, 1) == "1  p8fs_kv" and call(cached, 1, text="a") == "1 a p8fs_kv"
            assert runs == [1, 1]
            call(cached.forget, 1)
            assert call(cached, 1) == "1  p8fs_kv" and runs == [1, 1, 1]
