"""A table of coordination that somebody has dropped: what was held is lost, and the next holder's token is greater."""

from __future__ import annotations

import uuid

import pytest

from p8fs_cluster import Container
from p8fs_cluster.exceptions import TablesMissing
from tests.processes import PATIENCE
from tests.servers import Server

TABLES = ("p8fs_leases", "p8fs_lease_names", "p8fs_cluster_versions")


@pytest.fixture(params=("postgresql", "mariadb"))
def server(request: pytest.FixtureRequest) -> Server:
    """Each kind of server on which leases may be short."""
    found: Server = request.getfixturevalue(f"{request.param}_server")
    return found


@pytest.mark.parametrize("table", TABLES)
def test_it_is_made_again_where_that_is_allowed(server: Server, table: str) -> None:
    with Container(config={**server.settings, "cluster_create": True}) as container:
        lock = container.cluster().lock(str(uuid.uuid4()), ttl=1)
        assert lock.acquire(PATIENCE)
        before = lock.token
        container.storage().execute(f"DROP TABLE {table}")
        if table == "p8fs_leases":
            assert lock.lost.wait(PATIENCE)
        else:
            lock.release()
        lock = container.cluster().lock(lock.name, ttl=1)
        assert lock.acquire(PATIENCE)
        assert lock.token > before
        lock.release()


@pytest.mark.parametrize("table", TABLES)
def test_it_is_told_of_where_that_is_not_allowed(server: Server, table: str) -> None:
    with Container(config={**server.settings, "cluster_create": True}) as container:
        with container.cluster().lock(str(uuid.uuid4()), ttl=1):
            pass
        container.storage().execute(f"DROP TABLE {table}")
    with Container(config={**server.settings, "cluster_create": False}) as container:
        lock = container.cluster().lock("lock", ttl=1)
        with pytest.raises(TablesMissing, match="cluster init"):
            lock.acquire(PATIENCE)
