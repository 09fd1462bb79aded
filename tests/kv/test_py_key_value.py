"""py-key-value-aio's protocol: one text for a store of theirs and for ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any

import pytest
from key_value.aio.adapters.pydantic import PydanticAdapter
from key_value.aio.protocols.key_value import AsyncKeyValue
from key_value.aio.stores.simple import SimpleStore
from key_value.aio.wrappers.prefix_collections import PrefixCollectionsWrapper
from pydantic import BaseModel

from p8fs_cluster import Container
from p8fs_cluster.exceptions import KVError
from p8fs_cluster.kv.py_key_value import PyKeyValue
from p8fs_cluster.testing import memory_storage
from tests.kv.conftest import Case

pytestmark = pytest.mark.filterwarnings("ignore:A configured store is unstable")  # of their SimpleStore

Work = Callable[[AsyncKeyValue], Coroutine[Any, Any, None]]


def ours(work: Work) -> None:
    with Container() as container, container.storage.override(memory_storage()):
        asyncio.run(work(PyKeyValue(container.async_kv().namespace("mcp"))))


def theirs(work: Work) -> None:
    asyncio.run(work(SimpleStore()))


@pytest.fixture(params=[ours, theirs])
def run(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_each_method_does_as_theirs_does(run: Any) -> None:
    async def work(store: AsyncKeyValue) -> None:
        assert isinstance(store, AsyncKeyValue)
        await put_and_read(store)

    run(work)


async def put_and_read(store: AsyncKeyValue) -> None:
    assert await store.get("a") is None and await store.ttl("a") == (None, None)
    await store.put("a", {"n": 1, "of": ["x", None]})
    assert await store.get("a") == {"n": 1, "of": ["x", None]} and await store.ttl("a") == (await store.get("a"), None)
    await store.put("a", {"n": 2}, collection="c", ttl=Decimal(60))
    value, left = await store.ttl("a", collection="c")
    assert value == {"n": 2} and left is not None and 50 < left <= 60
    assert (await store.get("a") or {})["n"] == 1, "collections are apart"
    assert await store.delete("a") and not await store.delete("a") and await store.get("a", collection="c")
    await store.put_many(["x", "y"], [{"n": 3}, {"n": 4}], collection="c", ttl=60.5)
    assert await store.get_many(["y", "none", "x", "y"], collection="c") == [{"n": 4}, None, {"n": 3}, {"n": 4}]
    [(x, left), none] = await store.ttl_many(["x", "none"], collection="c")
    assert x == {"n": 3} and left and 50 < left <= 60.5 and none == (None, None)
    assert await store.delete_many(["x", "y", "x", "none"], collection="c") == 2
    assert await store.get_many(["x", "y"], collection="c") == [None, None]
    assert await store.get_many([]) == [] and await store.delete_many([]) == 0
    await store.put_many([], [])


def test_their_wrappers_and_adapters_take_it(run: Any) -> None:
    class User(BaseModel):
        name: str

    async def work(store: AsyncKeyValue) -> None:
        users = PydanticAdapter(PrefixCollectionsWrapper(store, prefix="app"), User, default_collection="users")
        await users.put("a", User(name="ada"), ttl=60)
        assert await users.get("a") == User(name="ada")
        assert await store.get("a") is None and await users.delete("a")

    run(work)


@pytest.mark.parametrize("case", ["async postgresql", "async mariadb", "async rocksdb"], indirect=True)
def test_it_does_so_on_the_other_stores(case: Case) -> None:
    assert case.loop is not None
    case.loop.call(put_and_read, PyKeyValue(case.container.async_kv().namespace("mcp")))
    assert case.kv.namespace("mcp").count() == 1


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda store: store.put("a", {}, ttl=0), "ttl is more than 0"),
        (lambda store: store.put("a", {}, ttl=True), "ttl is a number of seconds.*not bool"),
        (lambda store: store.put("a", {}, ttl="60"), "ttl is a number of seconds.*not str"),
        (lambda store: store.put("a", {}, ttl=float("nan")), "ttl is more than 0"),
        (lambda store: store.put("a", ["s3cret"]), "a value is a mapping"),
        (lambda store: store.put("a", {"s3cret": {1}}), "what JSON has"),
        (lambda store: store.put_many(["a"], []), "as many values as keys, not 0 and 1"),
        (lambda store: store.put(7, {}), "a key and a collection are text, not int"),
        (lambda store: store.put("a", {}, collection=7), "a key and a collection are text, not str and int"),
        (lambda store: store.get("a", collection="a\0b"), "no NUL"),
        (lambda store: store.get("a" * 3000), "at most 2,048 bytes"),
        (lambda store: store.get("foreign"), "no JSON object"),
    ],
)
def test_what_can_not_be_used_is_told(wrong: Any, told: str) -> None:
    with Container() as container, container.storage.override(memory_storage()):
        container.kv().put("\0foreign", b'["s3cret"]')
        with pytest.raises(KVError, match=told) as caught:
            asyncio.run(wrong(PyKeyValue(container.async_kv())))
        assert "s3cret" not in str(caught.value) and container.kv().count() == 1


def test_no_two_collections_meet() -> None:
    async def work(store: AsyncKeyValue) -> None:
        places = [("a", "b\0c"), ("ab", "c"), (None, "a\0b"), ("a", "b")]
        for number, (collection, key) in enumerate(places):
            await store.put(key, {"n": number}, collection=collection)
        for number, (collection, key) in enumerate(places):
            assert await store.get(key, collection=collection) == {"n": number}

    ours(work)
