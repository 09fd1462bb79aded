"""A value that depends on what is in force is asked for once, and anew after each change."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from dependency_injector import providers

from p8fs_cluster import Container
from p8fs_cluster.di.followed import Followed


class Asked:
    """The host of a container, and how often it was asked for."""

    def __init__(self) -> None:
        self.container = Container(config={"pg_host": "one"})
        self.times = 0
        self.followed: Callable[[], str] = Followed(self.container.config, self._host)

    def _host(self) -> str:
        self.times += 1
        host: str = self.container.config().pg_host
        return host


@pytest.fixture
def asked() -> Asked:
    return Asked()


def test_it_is_asked_once_until_something_changes(asked: Asked) -> None:
    assert [asked.followed() for _ in range(3)] == ["one"] * 3
    assert asked.times == 1
    with asked.container.config.override({"pg_host": "two"}):
        assert [asked.followed() for _ in range(3)] == ["two"] * 3
        assert asked.times == 2
    assert asked.followed() == "one"


def test_an_isolated_override_is_seen_inside_alone(asked: Asked) -> None:
    assert asked.followed() == "one"
    with asked.container.config.override({"pg_host": "two"}, isolated=True):
        assert [asked.followed(), asked.followed()] == ["two", "two"]
    assert asked.followed() == "one"


def test_a_provider_of_somebody_else_is_asked_each_time(asked: Asked) -> None:
    """It may give other settings without a word."""
    settings = asked.container.config()
    hosts = itertools.count(1)
    with asked.container.config.override(
        providers.Callable(lambda: settings.with_changes({"pg_host": f"db{next(hosts)}"}))
    ):
        assert asked.followed() != asked.followed()


def test_a_fault_is_not_kept(asked: Asked) -> None:
    faults = [ZeroDivisionError()]

    def ask() -> str:
        if faults:
            raise faults.pop()
        return "well"

    followed = Followed(asked.container.config, ask)
    with pytest.raises(ZeroDivisionError):
        followed()
    assert followed() == "well"
