"""What type checkers know: every line passes mypy --strict and pyright."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from logging import Logger
from typing import Annotated, Any, Protocol, assert_type

from dependency_injector import providers
from key_value.aio.protocols.key_value import AsyncKeyValue
from sqlalchemy import Engine

from p8fs_cluster import (
    Closing,
    Container,
    FieldLogger,
    Injected,
    NotSecret,
    Provide,
    Section,
    Storage,
    all_of,
    container,
    inject,
)
from p8fs_cluster.config import P8FSConfig, config
from p8fs_cluster.coordination import AsyncCluster, AsyncLock, Change, Cluster, Lock, Node, Token, View
from p8fs_cluster.kv import KV, AsyncKV, AsyncTransaction, Counted, Entry, Transaction
from p8fs_cluster.kv.py_key_value import PyKeyValue
from p8fs_cluster.logging import get_logger, log_context
from p8fs_cluster.providers.api import ApiSettings


class Service:
    def __init__(self, storage: Storage) -> None:
        self.storage = storage


class App(Container):
    service = providers.Singleton(Service, Container.storage)


class Mail(Section, prefix="typed_"):
    server: str = "localhost"
    key: Annotated[str, NotSecret()] = ""


@inject
def mail(settings: Mail = Provide[Container.section(Mail)]) -> Mail:
    return settings


def sections() -> None:
    assert_type(Container().section(Mail), Mail)
    assert_type(config.section(Mail).server, str)
    assert_type(container.watch().running, bool)
    assert_type(mail(), Mail)


def uses() -> None:
    assert_type(Container().storage(), Storage)
    assert_type(container.storage(), Storage)
    assert_type(container.config(), P8FSConfig)
    assert_type(container.logger("name"), FieldLogger)
    assert_type(get_logger("name"), FieldLogger)
    get_logger("name").trace("looked at %s", "a note", note_id=7)
    assert_type(config.is_development, bool)
    plain: Logger = container.logger("name")
    plain.info("saved")
    container.logger("name").info("saved %s", "a note", note_id=7, exc_info=True)
    with log_context(request_id="a1"):
        pass
    assert_type(container.api(), ApiSettings)
    assert_type(container.engine(), Engine)
    assert_type(App().storage(), Storage)
    with App() as app:
        assert_type(app, App)
    with container.config.override({"pg_host": "db"}, isolated=True) as settings:
        assert_type(settings, P8FSConfig)
    with App().override_providers(service=None, isolated=True) as app:
        assert_type(app, App)


@inject
def lead(cluster: Cluster = Provide[Container.cluster]) -> str:
    with cluster.lock("invoices", ttl=15, timeout=10) as lock:
        assert_type(lock, Lock)
        assert_type(lock.token, Token)
        assert_type(lock.fence, int)
    assert_type(cluster.leader("scheduler").is_leader, bool)
    assert_type(cluster.once("migrate", lambda: None), bool)
    assert_type(cluster.nodes(), View)
    assert_type(cluster.shard(["a", "b"]), list[str])
    for change in cluster.watch():
        assert_type(change.node, Node)
    return "led"


async def lead_too(cluster: AsyncCluster) -> None:
    async with cluster.lock("invoices") as lock:
        assert_type(lock, AsyncLock)
    assert_type(await cluster.nodes(), View)
    async for change in cluster.watch():
        assert_type(change, Change)


@dataclass
class User:
    name: str


def keep(kv: KV[bytes]) -> None:
    assert_type(kv.get("a"), bytes | None)
    assert_type(kv.scan("a"), Iterator[tuple[bytes, bytes]])
    assert_type(kv.scan("a", keys_only=False), Iterator[tuple[bytes, bytes]])
    assert_type(kv.scan("a", reverse=True, keys_only=True), Iterator[bytes])
    assert_type(kv.json, KV[Any])
    users = kv.namespace("users").typed(User)
    assert_type(users, KV[User])
    assert_type(users.scan(), Iterator[tuple[bytes, User]])
    assert_type(users.get_many(["a"]), dict[str, User])
    assert_type(users.entry("a"), Entry[User] | None)
    assert_type(kv.increment("n"), Counted)
    with users.transaction() as tx:
        assert_type(tx, Transaction[User])
        assert_type(tx.get("a"), User | None)
    assert_type(users.run_in_transaction(lambda tx: tx.put("a", User("ada"))), int)
    assert_type(kv.namespace("n").typed(dict[str, int]).get("a"), dict[str, int] | None)


async def keep_too(kv: AsyncKV[bytes]) -> None:
    assert_type(await kv.get("a"), bytes | None)
    assert_type(kv.scan("a"), AsyncIterator[tuple[bytes, bytes]])
    assert_type(kv.scan("a", keys_only=False), AsyncIterator[tuple[bytes, bytes]])
    assert_type(kv.scan("a", reverse=True, keys_only=True), AsyncIterator[bytes])
    assert_type(kv.json, AsyncKV[Any])
    users = kv.namespace("users").typed(User)
    assert_type(users, AsyncKV[User])
    assert_type(users.scan(), AsyncIterator[tuple[bytes, User]])
    assert_type(await users.entry("a"), Entry[User] | None)

    async def write(tx: AsyncTransaction[User]) -> int:
        return tx.put("a", User("ada"))

    async with users.transaction() as tx:
        assert_type(tx, AsyncTransaction[User])
        assert_type(await tx.get("a"), User | None)
    assert_type(await users.run_in_transaction(write), int)


others: AsyncKeyValue = PyKeyValue(Container().async_kv())

users = Container().kv().typed(User)
async_users = Container().async_kv().typed(User)


@users.cached(60)
def user(number: int, *, fresh: bool = False) -> User:
    return User("ada")


@async_users.cached(60, name="user", claim=5)
async def async_user(number: int, *, fresh: bool = False) -> User:
    return User("ada")


@users.cached(None)
@inject
def injected_user(number: int, storage: Storage = Provide[Container.storage]) -> User:
    return User(storage.provider)


@inject
@users.cached(60)
def user_injected(number: int, storage: Storage = Provide[Container.storage]) -> User:
    return User(storage.provider)


class Users:
    @users.cached(60, key=lambda _, number: str(number))
    def user(self, number: int) -> User:
        return User("ada")

    @async_users.cached(60, key=lambda _, number: str(number))
    async def async_user(self, number: int) -> User:
        return User("ada")


@Container().kv().json.cached(60)
def rates(day: str) -> dict[str, float]:
    return {}


async def look_up() -> None:
    assert_type(user(1, fresh=True), User)
    assert_type(injected_user(1), User)
    assert_type(user_injected(1), User)
    assert_type(Users().user(1), User)
    Users.user.forget(Users(), 1)
    user.forget(1)
    assert_type(await async_user(1, fresh=True), User)
    assert_type(await Users().async_user(1), User)
    await Users.async_user.forget(Users(), 1)
    await async_user.forget(1)
    assert_type(rates("today"), Any)


@inject
def save(number: int, storage: Storage = Provide[Container.storage]) -> str:
    return f"{number} {storage.provider}"


@inject
async def load(service: Service = Closing[Provide[App.service]]) -> Service:
    return service


@inject
def log(logger: Annotated[Logger, Provide[Container.logger]] = Provide[Container.logger]) -> Logger:
    return logger


def calls() -> None:
    assert_type(lead(), str)
    assert_type(save(1), str)
    assert_type(save(1, Container().storage()), str)
    assert_type(log(), Logger)


class Handler(Protocol):
    def handle(self) -> int: ...


class Base(ABC):
    @abstractmethod
    def run(self) -> None: ...


class Application(App):
    by_type = providers.Factory(Service)


@inject
def handled(
    handlers: list[Handler] = Provide[all_of(Handler)],
    bases: list[Base] = Provide[all_of(Base)],
    services: list[Service] = Provide[all_of(Service)],
    app: Application = Provide[Application],
    named: Service = Provide["service"],
) -> int:
    assert_type(app, Application)
    return len(handlers)


@inject
def endpoint(
    number: int,
    service: Injected[Service],
    maybe: Injected[Service | None],
    annotated: Annotated[Service, Provide[App.service]],
) -> int:
    assert_type(service, Service)
    assert_type(maybe, Service | None)
    return number


def by_type(register: Callable[[Callable[..., Any]], None]) -> None:
    assert_type(handled(), int)
    assert_type(handled([], services=[]), int)
    assert_type(Application.by_type(), Service)
    register(endpoint)
