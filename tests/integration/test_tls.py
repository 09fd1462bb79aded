"""TLS against servers that have it, with certificates of an authority made for the test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from p8fs_cluster import Container
from p8fs_cluster.exceptions import StorageUnavailable
from p8fs_cluster.health.checks import steps
from tests import servers
from tests.servers import Server

ENCRYPTED = {
    "postgresql": "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    "tidb": "SHOW STATUS LIKE 'Ssl_version'",
}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA) -> dict[str, bytes]:
    """The server's: its certificate is for `localhost` alone, not for the address it listens on."""
    ours = authority.issue_cert("localhost")
    certificates = b"".join(blob.bytes() for blob in ours.cert_chain_pems)
    return {"key": ours.private_key_pem.bytes(), "certificate": certificates, "ca": authority.cert_pem.bytes()}


PG_OPTIONS = {"ssl_key_file": "{room}/key", "ssl_cert_file": "{room}/certificate", "ssl_ca_file": "{room}/ca"}
MYSQL_OPTIONS = {"ssl_key": "{room}/key", "ssl_cert": "{room}/certificate", "ssl_ca": "{room}/ca"}


@pytest.fixture(scope="module", params=servers.SQL)
def server(request: pytest.FixtureRequest, files: dict[str, bytes]) -> Iterator[Server]:
    options = {"ssl": "on", **PG_OPTIONS} if request.param == "postgresql" else MYSQL_OPTIONS
    with servers.STARTED[request.param](files, **options) as server:
        yield server


@pytest.fixture(params=["threads", "asyncio"])
def answer(request: pytest.FixtureRequest) -> Any:
    """Asks one question of the store, through either handle."""

    def in_threads(settings: dict[str, Any], statement: str) -> Any:
        with Container(config=settings) as container:
            return container.storage().execute(statement)

    async def in_a_task(settings: dict[str, Any], statement: str) -> Any:
        async with Container(config=settings) as container:
            return await container.async_storage().execute(statement)

    return in_threads if request.param == "threads" else lambda *given: asyncio.run(in_a_task(*given))


def verified(server: Server, ca: Path, host: str = "localhost") -> dict[str, Any]:
    """The settings with which the server's certificate is verified."""
    settings = {**server.settings, "pool_timeout": 10}
    if settings["storage_provider"] == "tidb":
        return {**settings, "tidb_host": host, "tidb_ssl_ca": ca}
    return {**settings, "pg_host": host, "pg_sslmode": "verify-full", "pg_sslrootcert": ca}


@pytest.fixture
def ca(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path / "ca.pem"


def test_verified(server: Server, answer: Any, ca: Path) -> None:
    statement = ENCRYPTED[server.settings["storage_provider"]]
    ((*_, version),) = answer(verified(server, ca), statement)
    assert version.startswith("TLS")


def test_used_where_it_is_offered(server: Server, answer: Any) -> None:
    ((*_, version),) = answer(server.settings, ENCRYPTED[server.settings["storage_provider"]])
    assert version.startswith("TLS")


def test_a_server_of_another_authority(server: Server, answer: Any, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    with pytest.raises(StorageUnavailable, match=r"certificate.*P8FS_(PG_SSLROOTCERT|TIDB_SSL_CA)"):
        answer(verified(server, tmp_path / "other.pem"), "SELECT 1")


def test_a_certificate_for_another_host(server: Server, answer: Any, ca: Path) -> None:
    with pytest.raises(StorageUnavailable, match=r"P8FS_(PG_SSLROOTCERT|TIDB_SSL_CA)"):
        answer(verified(server, ca, host="127.0.0.1"), "SELECT 1")


def test_a_server_without_tls(sql_server: Server, answer: Any, ca: Path) -> None:
    if not sql_server.is_ours:
        pytest.skip("the server that the environment names may have TLS")
    with pytest.raises(StorageUnavailable, match=r"P8FS_(PG_SSLMODE|TIDB_SSL_CA)"):
        answer(verified(sql_server, ca), "SELECT 1")


@pytest.mark.parametrize("server", [kind for kind in servers.MYSQL if kind == "tidb"], indirect=True)
def test_a_password_of_sha2(server: Server, answer: Any, ca: Path) -> None:
    """TiDB asks for it over TLS alone."""
    create = "CREATE USER IF NOT EXISTS sha2@'%' IDENTIFIED WITH caching_sha2_password BY 's3cret é'"
    answer(server.settings, create)
    user = {"tidb_user": "sha2", "tidb_password": "s3cret é", "tidb_database": "information_schema"}
    for _ in range(2):  # the second login is answered from the server's cache
        assert answer({**verified(server, ca), **user}, "SELECT SUBSTRING_INDEX(USER(), '@', 1)") == [("sha2",)]


@pytest.mark.parametrize("handle", ["threads", "asyncio"])
def test_authorities_that_are_replaced_under_the_same_path(
    server: Server, authority: trustme.CA, ca: Path, handle: str
) -> None:
    """The next connection is made with what the file holds then; those that are there go on."""
    other, right = trustme.CA().cert_pem.bytes(), ca.read_bytes()
    settings = {**verified(server, ca), "pool_max_size": 2, "pool_timeout": 2}

    def in_threads() -> None:
        with Container(config=settings) as container:
            storage = container.storage()
            with storage:
                ca.write_bytes(other)
                with pytest.raises(StorageUnavailable), storage:
                    pass
                ca.write_bytes(right)
                with storage as second:
                    second.cursor().execute("SELECT 1")

    async def in_tasks() -> None:
        async with Container(config=settings) as container:
            storage = container.async_storage()
            async with storage:
                ca.write_bytes(other)
                with pytest.raises(StorageUnavailable):
                    async with storage:
                        pass
                ca.write_bytes(right)
                assert await storage.execute("SELECT 1") == [(1,)]

    in_threads() if handle == "threads" else asyncio.run(in_tasks())


def test_a_missing_file_is_told_by_the_check(server: Server, tmp_path: Path) -> None:
    name = "tidb_ssl_ca" if server.provider == "tidb" else "pg_sslcert"
    with Container(config={**server.settings, name: tmp_path / "nowhere"}) as container:
        faults = [str(step.fault) for step in steps(container.config, container.storage()) if step.fault]
    assert f"P8FS_{name.upper()} (from code) names {tmp_path}/nowhere, which can't be read: No such file" in faults[0]


def test_an_idle_connection_is_lent_again(server: Server, ca: Path) -> None:
    with Container(config={**verified(server, ca), "pool_max_size": 1}) as container:
        lent = []
        for _ in range(5):
            with container.storage() as connection:
                lent.append(connection)
        assert len(set(map(id, lent))) == 1

    async def asynchronous() -> list[Any]:
        lent = []
        async with Container(config={**verified(server, ca), "pool_max_size": 1}) as container:
            for _ in range(5):
                async with container.async_storage() as connection:
                    lent.append(connection)
                await asyncio.sleep(0)
        return lent

    assert len(set(map(id, asyncio.run(asynchronous())))) == 1


@pytest.fixture(scope="module")
def asking(files: dict[str, bytes]) -> Iterator[Server]:
    """A server that asks for certificates of its clients."""
    hba = b"hostssl all all all cert\nhostnossl all all all scram-sha-256\n"
    with servers.postgresql({**files, "hba": hba}, ssl="on", hba_file="{room}/hba", **PG_OPTIONS) as server:
        yield server


def test_our_own_certificate(asking: Server, answer: Any, authority: trustme.CA, ca: Path, tmp_path: Path) -> None:
    ours = authority.issue_cert(common_name=asking.settings["pg_user"])
    ours.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    (tmp_path / "key.pem").chmod(0o600)
    ours.cert_chain_pems[0].write_to_path(str(tmp_path / "certificate.pem"))
    given = {"pg_sslcert": tmp_path / "certificate.pem", "pg_sslkey": tmp_path / "key.pem"}
    assert answer({**verified(asking, ca), **given}, "SELECT 1") == [(1,)]
    with pytest.raises(StorageUnavailable, match=r"certificate.*P8FS_PG_SSLCERT"):
        answer(verified(asking, ca), "SELECT 1")
