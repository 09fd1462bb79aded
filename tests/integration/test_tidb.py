"""A TiDB that goes away in order, and two of them on one store, as a cluster has them."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from p8fs_cluster import Container
from p8fs_cluster.exceptions import StorageUnavailable
from tests import servers
from tests.processes import takes_connections, until
from tests.tidb.binary import built

pytestmark = pytest.mark.skipif(
    built() is None, reason="servers that are stopped and started here are those of `make tidb`"
)


def insert(connection: Any, number: int) -> None:
    connection.cursor().execute("INSERT INTO kept VALUES (%s)", (number,))


def test_a_block_ends_well_while_the_server_shuts_down() -> None:
    with servers.tidb(grace="30s") as server, Container(config={**server.settings, "pool_timeout": 2}) as container:
        storage, port = container.storage(), server.settings["tidb_port"]
        storage.execute("CREATE TABLE kept (n INT)")
        assert server.process is not None
        with storage as connection:
            insert(connection, 1)
            server.process.send_signal(signal.SIGTERM)
            until(lambda: not takes_connections(port), "the server takes no more connections")
            insert(connection, 2)
        server.process.wait(60)
        with pytest.raises(StorageUnavailable):
            storage.execute("SELECT 1")
        server.start()
        assert sorted(storage.execute("SELECT n FROM kept")) == [(1,), (2,)]


def test_two_servers_on_one_store() -> None:
    """One of them is taken away, as a rolling restart does; the settings lead to the other."""
    second = servers.free_port()
    with servers.tidb(second=str(second)) as server, Container(config=server.settings) as container:
        storage = container.storage()
        storage.execute("CREATE TABLE kept (n INT)")
        storage.execute("INSERT INTO kept VALUES (1)")
        with container.config.override({"tidb_port": second}):
            assert storage.execute("SELECT n FROM kept") == [(1,)]
            storage.execute("INSERT INTO kept VALUES (2)")
        assert storage.execute("SELECT COUNT(*) FROM kept") == [(2,)]
        assert server.process is not None
        server.process.send_signal(signal.SIGUSR1)
        until(lambda: not takes_connections(server.settings["tidb_port"]), "the first one takes no more connections")
        with container.config.override({"tidb_port": second}):
            assert storage.execute("SELECT COUNT(*) FROM kept") == [(2,)]
