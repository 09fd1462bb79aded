"""A replica that lags is promoted: what it knows of leases is old, and its tokens are still greater."""

from __future__ import annotations

import pytest

from p8fs_cluster import Container
from p8fs_cluster.coordination.terms import Token
from p8fs_cluster.exceptions import ClusterError
from tests import servers
from tests.processes import until


def test_tokens_grow_over_a_promoted_replica_that_lagged() -> None:
    with servers.postgresql({"private": b""}) as primary, servers.replica(primary) as replica:
        tokens: list[Token] = []
        with Container(config={**primary.settings, "cluster_create": True}) as container:
            lock = container.cluster().lock("invoices")
            with lock:
                tokens.append(lock.token)
            with Container(config=replica.settings) as looking:
                until(lambda: _fence(looking) == tokens[0].fence, "the replica has followed")
            replica.stop()
            for _ in range(3):
                with lock:
                    tokens.append(lock.token)
        primary.kill()
        replica.start()
        with Container(config={**replica.settings, "cluster_create": True}) as container:
            assert _fence(container) == tokens[0].fence, "it knows nothing of the others"
            container.storage().execute("SELECT pg_promote()")
            with container.cluster().lock("invoices") as lock:
                tokens.append(lock.token)
    assert [token.timeline for token in tokens] == [1, 1, 1, 1, 2]
    assert tokens == sorted(set(tokens))
    assert [token.fence for token in tokens] == sorted({token.fence for token in tokens})
    assert Token(2, tokens[0].fence + 1) > tokens[-2], "the timeline alone would do, whatever the replica's clock says"


def _fence(container: Container) -> int:
    [(fence,)] = container.storage().execute("SELECT max(fence) FROM p8fs_leases")
    return int(fence)


def test_a_replica_that_was_not_promoted_grants_nothing() -> None:
    with servers.postgresql({"private": b""}) as primary, Container(config=primary.settings) as container:
        with container.cluster().lock("invoices"):
            """The tables are there."""
        with servers.replica(primary) as replica, Container(config=replica.settings) as looking:
            lock = looking.cluster().lock("invoices")
            with pytest.raises(ClusterError, match=r"recovery|read-only"):
                lock.acquire(timeout=0)
