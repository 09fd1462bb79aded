"""Clients that are opened once, shared by all requests, and closed in order: of an HTTP service, and of NATS.

P8FS_STORAGE_PROVIDER=rocksdb P8FS_WEATHER_URL=http://127.0.0.1:8080 P8FS_BUS_SERVERS=nats://127.0.0.1:4222 \
    uvicorn examples.shared_clients:app

Without P8FS_BUS_SERVERS nothing is published, and nats-py need not be installed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx2
from dependency_injector import providers
from fastapi import FastAPI
from pydantic import SecretStr

from p8fs_cluster import Container, Section
from p8fs_cluster.frameworks.fastapi import depends, lifespan


class WeatherSettings(Section, prefix="weather_"):
    """The service that is asked over HTTP."""

    url: str = "http://127.0.0.1:8080"
    timeout: float = 5.0
    token: SecretStr = SecretStr("")


class BusSettings(Section, prefix="bus_"):
    """The NATS servers; none: no bus."""

    servers: tuple[str, ...] = ()
    subject: str = "weather.asked"


async def open_weather(settings: WeatherSettings) -> AsyncIterator[httpx2.AsyncClient]:
    """Give a client, whose connections are kept between requests."""
    headers = {"Authorization": f"Bearer {token}"} if (token := settings.token.get_secret_value()) else {}
    async with httpx2.AsyncClient(base_url=settings.url, timeout=settings.timeout, headers=headers) as client:
        yield client


class Bus:
    """Publish messages to one subject, or nowhere."""

    def __init__(self, connection: Any, subject: str) -> None:
        self._connection = connection
        self._subject = subject

    async def publish(self, message: str) -> None:
        """Send a message, if there is a bus."""
        if self._connection is not None:
            await self._connection.publish(self._subject, message.encode())


async def open_bus(settings: BusSettings) -> AsyncIterator[Bus]:
    """Connect; at the end, what was published is sent before the connection is closed."""
    if not settings.servers:
        yield Bus(None, settings.subject)
        return
    import nats

    connection = await nats.connect(list(settings.servers))
    try:
        yield Bus(connection, settings.subject)
    finally:
        await connection.drain()


class Application(Container):
    """Each client is opened by the first request that needs it; the last one that was opened is closed first."""

    weather = providers.Resource(open_weather, Container.section(WeatherSettings))
    bus = providers.Resource(open_bus, Container.section(BusSettings))


app = FastAPI(lifespan=lifespan(Application))


@app.get("/weather/{city}")
async def weather(
    city: str,
    client: Annotated[httpx2.AsyncClient, depends(Application.weather, shared=True)],
    bus: Annotated[Bus, depends(Application.bus, shared=True)],
) -> Any:
    """Ask the service, and tell the bus about it."""
    answer = await client.get(f"/{city}")
    answer.raise_for_status()
    await bus.publish(city)
    return answer.json()
