"""A short form of each long search; `make fuzz` is the full one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from tests.fuzz import configuration, reloads


@pytest.fixture
def environment_back() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_any_world_gives_settings_or_our_error_and_shows_no_secret(environment_back: None) -> None:
    ended = configuration.fuzz(2_000, seed=0)
    assert min(ended["valid"], ended["refused"]) > 200, "both ends are searched"


def test_reloads_are_never_torn() -> None:
    """Threads take turns a hundred times as often, so that they meet in more places and wait less for each other."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-5)
    try:
        assert reloads.torn(1_000) == []
    finally:
        sys.setswitchinterval(before)
