"""Plain Python by hand: singletons made at first use by a getter, the resource by `contextlib.contextmanager`."""

from __future__ import annotations

from contextlib import contextmanager

from benchmarks.contenders import Cache, Handler, Mailer, Notes, Repo, Service, Transaction, transaction
from p8fs_cluster.config.settings import P8FSConfig

RESOLVE = "service()"
GRAPH = "handler()"

_service: Service | None = None
_cache: Cache | None = None
_mailer: Mailer | None = None
_repo: Repo | None = None
_settings: P8FSConfig | None = None
_transaction = contextmanager(transaction)


def service() -> Service:
    global _service  # noqa: PLW0603
    if _service is None:
        _service = Service()
    return _service


def cache() -> Cache:
    global _cache  # noqa: PLW0603
    if _cache is None:
        _cache = Cache()
    return _cache


def mailer() -> Mailer:
    global _mailer  # noqa: PLW0603
    if _mailer is None:
        _mailer = Mailer()
    return _mailer


def repo() -> Repo:
    global _repo  # noqa: PLW0603
    if _repo is None:
        _repo = Repo()
    return _repo


def notes() -> Notes:
    return Notes(repo())


def handler() -> Handler:
    return Handler(notes(), mailer())


def settings() -> P8FSConfig:
    global _settings  # noqa: PLW0603
    if _settings is None:
        _settings = P8FSConfig()
    return _settings


def use(service: Service) -> Service:
    return service


def one() -> Service:
    return use(service())


def use_three(service: Service, cache: Cache, mailer: Mailer) -> tuple[Service, Cache, Mailer]:
    return service, cache, mailer


def three() -> tuple[Service, Cache, Mailer]:
    return use_three(service(), cache(), mailer())


def use_mixed(service: Service, cache: Cache, notes: Notes) -> tuple[Service, Cache, Notes]:
    return service, cache, notes


def mixed() -> tuple[Service, Cache, Notes]:
    return use_mixed(service(), cache(), notes())


async def use_mixed_async(service: Service, cache: Cache, notes: Notes) -> tuple[Service, Cache, Notes]:
    return service, cache, notes


async def mixed_async() -> tuple[Service, Cache, Notes]:
    return await use_mixed_async(service(), cache(), notes())


async def use_async(service: Service) -> Service:
    return service


async def one_async() -> Service:
    return await use_async(service())


def use_resource(transaction: Transaction) -> tuple[Transaction, int]:
    return transaction, transaction.closed


def with_resource() -> tuple[Transaction, int]:
    with _transaction() as opened:
        return use_resource(opened)


in_scope = with_resource


def made() -> Service:
    return use(Service())


def use_settings(settings: P8FSConfig) -> P8FSConfig:
    return settings


def configured() -> P8FSConfig:
    return use_settings(settings())


def use_positional(x: int, y: int, service: Service) -> tuple[int, int, Service]:
    return x, y, service


def positional(x: int, y: int) -> tuple[int, int, Service]:
    return use_positional(x, y, service())
