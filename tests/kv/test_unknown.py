"""Connections that are lost in the middle of a call: its error tells whether it may have been done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from p8fs_cluster.exceptions import CommitUnknown, StorageError
from tests.chaos.network import Network, network
from tests.kv.conftest import opened, settings_of
from tests.servers import SQL, Server

ANSWERS = 8
"""The answers that a call waits for at most, and one more."""


class Behind(NamedTuple):
    """A store behind a network, and the same one past it."""

    kv: Any
    network: Network
    direct: Any


@pytest.fixture(params=[*SQL, *(f"async {kind}" for kind in SQL)])
def behind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Behind]:
    kind = request.param.removeprefix("async ")
    server: Server = request.getfixturevalue(f"{kind}_server")
    port, settings = server.port_setting, settings_of(kind, request, tmp_path)
    assert port is not None
    with (
        network(settings[port]) as net,
        opened(kind, False, settings) as direct,
        opened(kind, kind != request.param, {**settings, port: net.port}) as case,
    ):
        yield Behind(case.kv, net, direct.kv)


def without_answer(net: Network, number: int, call: Callable[[], object]) -> Exception | None:
    """Return the error of a call whose connection is lost in place of an answer; None: it waits for fewer."""
    net.lost = number
    try:
        call()
    except StorageError as exc:
        return exc
    finally:
        net.heal()
    return None


@pytest.mark.parametrize("verb", ["increment", "take"])
def test_a_lost_answer_is_told_as_what_it_is(behind: Behind, verb: str) -> None:
    came = []
    for number in range(ANSWERS):
        key = f"{verb} {number}"
        behind.direct.put(key, b"1")
        behind.kv.get(key)  # so that there is a connection
        error = without_answer(behind.network, number, lambda key=key: getattr(behind.kv, verb)(key))
        behind.direct.increment(key, 0) if verb == "increment" else behind.direct.delete_if(key, 1)  # waits for locks
        value = behind.direct.get(key)
        assert value in ((b"1", b"2") if verb == "increment" else (b"1", None)), "more than once"
        came.append((type(error), value != b"1"))
    assert came[-1] == (type(None), True) and (CommitUnknown, True) in came, came
    assert all(kind is CommitUnknown or done is (kind is type(None)) for kind, done in came), came
