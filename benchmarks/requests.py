"""A FastAPI request whose handler is given three parts: by us, by dishka's and wireup's integrations, and by `Depends`.

    python -m benchmarks.requests

Each application is called as a server calls it, with a scope, `receive` and `send`, in one event loop and without a
socket. All handlers are `async def`, and the transaction is an asynchronous generator, so that nobody uses a thread.
"nothing injected" is what FastAPI itself takes.
"""

import asyncio
import contextvars
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Annotated, Any

import dishka
import wireup
import wireup.integration.fastapi
from dependency_injector import providers
from dishka.integrations import fastapi as dishka_fastapi
from fastapi import Depends, FastAPI

from benchmarks.contenders import Cache, Notes, Repo, Service, Transaction
from benchmarks.injection import OURS, show
from benchmarks.rounds import Loop, aim, ratio
from p8fs_cluster import Container, Provide, Scoped, inject
from p8fs_cluster.frameworks.fastapi import depends, lifespan

NOTHING = "nothing injected"
PATHS = {"/made": "a request, two singletons and a factory", "/scoped": "a request, two singletons and a transaction"}
LATEST: list[Any] = []
"""What the handler of the latest request was given."""


async def transaction() -> AsyncIterator[Transaction]:
    """Give a transaction, and close it."""
    opened = Transaction()
    try:
        yield opened
    finally:
        opened.closed += 1


def told(*parts: object) -> list[str]:
    """Return the answer of a request: the types of what its handler was given, which is kept."""
    LATEST[:] = parts
    return [type(each).__name__ for each in parts]


def app_without() -> FastAPI:
    """Return an application that makes the three parts by hand."""
    app = FastAPI()
    service, cache, repo = Service(), Cache(), Repo()

    @app.get("/made")
    async def made() -> list[str]:
        return told(service, cache, Notes(repo))

    @app.get("/scoped")
    async def scoped() -> list[str]:
        async for opened in transaction():
            answer = told(service, cache, opened)
        return answer

    return app


class Application(Container):
    """The container of both of our applications."""

    service = providers.Singleton(Service)
    cache = providers.Singleton(Cache)
    repo = providers.Singleton(Repo)
    notes = providers.Factory(Notes, repo)
    transaction = Scoped(transaction)


def app_of_ours() -> FastAPI:
    """Return an application whose handlers have `@inject`."""
    app = FastAPI(lifespan=lifespan(Application, validate=False))

    @app.get("/made")
    @inject
    async def made(
        service: Annotated[Service, Provide[Application.service]],
        cache: Annotated[Cache, Provide[Application.cache]],
        notes: Annotated[Notes, Provide[Application.notes]],
    ) -> list[str]:
        return told(service, cache, notes)

    @app.get("/scoped")
    @inject
    async def scoped(
        service: Annotated[Service, Provide[Application.service]],
        cache: Annotated[Cache, Provide[Application.cache]],
        transaction: Annotated[Transaction, Provide[Application.transaction]],
    ) -> list[str]:
        return told(service, cache, transaction)

    return app


def app_of_ours_by_depends() -> FastAPI:
    """Return an application whose handlers use `depends`."""
    app = FastAPI(lifespan=lifespan(Application, validate=False))

    @app.get("/made")
    async def made(
        service: Annotated[Service, depends(Application.service)],
        cache: Annotated[Cache, depends(Application.cache)],
        notes: Annotated[Notes, depends(Application.notes)],
    ) -> list[str]:
        return told(service, cache, notes)

    @app.get("/scoped")
    async def scoped(
        service: Annotated[Service, depends(Application.service)],
        cache: Annotated[Cache, depends(Application.cache)],
        transaction: Annotated[Transaction, depends(Application.transaction)],
    ) -> list[str]:
        return told(service, cache, transaction)

    return app


def app_by_depends() -> FastAPI:
    """Return an application that uses `Depends` alone; a function that is not `async def` would take a thread."""
    app = FastAPI()
    made_once = Service(), Cache(), Repo()

    async def service() -> Service:
        return made_once[0]

    async def cache() -> Cache:
        return made_once[1]

    async def notes() -> Notes:
        return Notes(made_once[2])

    @app.get("/made")
    async def made(
        service: Annotated[Service, Depends(service)],
        cache: Annotated[Cache, Depends(cache)],
        notes: Annotated[Notes, Depends(notes)],
    ) -> list[str]:
        return told(service, cache, notes)

    @app.get("/scoped")
    async def scoped(
        service: Annotated[Service, Depends(service)],
        cache: Annotated[Cache, Depends(cache)],
        transaction: Annotated[Transaction, Depends(transaction)],
    ) -> list[str]:
        return told(service, cache, transaction)

    return app


def app_of_dishka() -> FastAPI:
    """Return an application with dishka's middleware; its container has no lock, which is faster."""
    app = FastAPI()
    provider = dishka.Provider(scope=dishka.Scope.APP)
    provider.provide_all(Service, Cache, Repo)
    provider.provide(Notes, cache=False)
    provider.provide(transaction, scope=dishka.Scope.REQUEST)

    @app.get("/made")
    @dishka_fastapi.inject
    async def made(
        service: dishka.FromDishka[Service], cache: dishka.FromDishka[Cache], notes: dishka.FromDishka[Notes]
    ) -> list[str]:
        return told(service, cache, notes)

    @app.get("/scoped")
    @dishka_fastapi.inject
    async def scoped(
        service: dishka.FromDishka[Service],
        cache: dishka.FromDishka[Cache],
        transaction: dishka.FromDishka[Transaction],
    ) -> list[str]:
        return told(service, cache, transaction)

    dishka_fastapi.setup_dishka(dishka.make_async_container(provider, lock_factory=None), app)
    return app


def app_of_wireup() -> FastAPI:
    """Return an application set up by wireup, with its route class, and without its middleware, which takes longer."""
    app = FastAPI()
    app.router.route_class = wireup.integration.fastapi.WireupRoute

    @app.get("/made")
    async def made(
        service: wireup.Injected[Service], cache: wireup.Injected[Cache], notes: wireup.Injected[Notes]
    ) -> list[str]:
        return told(service, cache, notes)

    @app.get("/scoped")
    async def scoped(
        service: wireup.Injected[Service], cache: wireup.Injected[Cache], transaction: wireup.Injected[Transaction]
    ) -> list[str]:
        return told(service, cache, transaction)

    injectables = [wireup.injectable(each) for each in (Service, Cache, Repo)]
    injectables += [wireup.injectable(Notes, lifetime="transient"), wireup.injectable(transaction, lifetime="scoped")]
    wireup.integration.fastapi.setup(wireup.create_async_container(injectables=injectables), app)
    return app


APPS: Mapping[str, Callable[[], FastAPI]] = {
    OURS: app_of_ours,
    "p8fs_cluster, depends": app_of_ours_by_depends,
    "Depends": app_by_depends,
    "dishka": app_of_dishka,
    "wireup": app_of_wireup,
    NOTHING: app_without,
}


async def get(app: FastAPI, path: str, send: Any) -> None:
    """Let an application serve one request."""
    await app(
        {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"localhost")],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 80),
        },
        _receive,
        send,
    )


async def verify(app: FastAPI) -> None:
    """Make sure that handlers get the right objects, and that each transaction is closed once, after its request."""
    given = {path: [await _given(app, path) for _ in range(3)] for path in PATHS}
    singletons = {(id(service), id(cache)) for calls in given.values() for service, cache, _ in calls}
    assert len(singletons) == 1
    notes = [third for _, _, third in given["/made"]]
    assert len({id(each) for each in notes}) == 3
    assert len({id(each.repo) for each in notes}) == 1
    transactions = [third for _, _, third in given["/scoped"]]
    assert len({id(each) for each in transactions}) == 3
    assert [each.closed for each in transactions] == [1] * 3


async def _given(app: FastAPI, path: str) -> list[Any]:
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    await get(app, path, send)
    third = {"/made": "Notes", "/scoped": "Transaction"}[path]
    assert messages[0]["status"] == 200
    assert json.loads(messages[1]["body"]) == ["Service", "Cache", third]
    return LATEST.copy()


def serving(app: FastAPI, path: str, runner: asyncio.Runner) -> Loop:
    """Return what lets an application serve requests, within one run of the event loop."""

    async def loop(times: int) -> float:
        started = time.perf_counter()
        for _ in range(times):
            await get(app, path, _ignore)
        return time.perf_counter() - started

    return lambda times: runner.run(loop(times))


async def _receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _ignore(message: Any) -> None:
    pass


def main() -> None:
    """Verify, measure, and say which aims are met."""
    apps = {name: make() for name, make in APPS.items()}
    started = AsyncExitStack()
    beside = contextvars.copy_context()  # as a server does, which starts an application in a task of its own
    with asyncio.Runner() as runner:
        for app in apps.values():
            runner.run(started.enter_async_context(app.router.lifespan_context(app)), context=beside)
            runner.run(verify(app))
        figures = {
            path: show(title, {name: serving(app, path, runner) for name, app in apps.items()})
            for path, title in PATHS.items()
        }
        runner.run(started.aclose(), context=beside)
    print()
    for path, title in PATHS.items():
        for name in ("Depends", "dishka", "wireup"):
            aim(f"{title}, to {name}", ratio(figures[path], OURS, name), 1)


if __name__ == "__main__":
    main()
