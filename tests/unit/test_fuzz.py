"""A short form of each long search; `make fuzz` is the full one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.fuzz import configuration


@pytest.fixture
def environment_back() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_any_world_gives_settings_or_our_error_and_shows_no_secret(environment_back: None) -> None:
    ended = configuration.fuzz(2_000, seed=0)
    assert min(ended["valid"], ended["refused"]) > 200, "both ends are searched"
