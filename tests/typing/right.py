"""What type checkers know: every line passes mypy --strict and pyright."""

from __future__ import annotations

from logging import Logger
from typing import Annotated, assert_type

from dependency_injector import providers
from sqlalchemy import Engine

from p8fs_cluster import Closing, Container, FieldLogger, NotSecret, Provide, Section, Storage, container, inject
from p8fs_cluster.config import P8FSConfig, config
from p8fs_cluster.coordination import AsyncCluster, AsyncLock, Change, Cluster, Lock, Node, Token, View
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
