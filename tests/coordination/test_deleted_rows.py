"""A lease whose row somebody has deleted: nobody gets it before its holder has surely noticed."""

from __future__ import annotations

import uuid

import pytest

from p8fs_cluster import Container
from tests.processes import PATIENCE
from tests.servers import Server


@pytest.mark.parametrize("first", ["maker", "stranger"])
def test_who_has_made_the_name_gets_it_no_sooner_than_others(sql_server: Server, first: str) -> None:
    name = str(uuid.uuid4())
    with Container(config={**sql_server.settings, "cluster_create": True}) as container:
        maker, holder, stranger = (container.cluster().lock(name) for _ in range(3))
        assert maker.acquire(PATIENCE)
        maker.release()
        assert holder.acquire(PATIENCE)
        container.storage().execute("DELETE FROM p8fs_leases WHERE name = %s", (f"lock:{name}",))
        assert not {"maker": maker, "stranger": stranger}[first].acquire(0)
        assert holder.held
