"""How a test swaps the storage, or any setting, in one line.

pytest examples/swapping_in_a_test.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.documents import count, find, take_in
from p8fs_cluster import Container
from p8fs_cluster.testing import memory_storage


@pytest.fixture
def container() -> Iterator[Container]:
    with Container() as container, container.storage.override(memory_storage()):
        yield container


@pytest.fixture
def note(tmp_path: Path) -> Path:
    path = tmp_path / "note.txt"
    path.write_text("A handle is safe to keep")
    return path


def test_the_service_in_memory(container: Container, note: Path) -> None:
    assert take_in([note]) == 1  # type: ignore[call-arg]
    assert find("HANDLE") == [note.as_posix()]
    assert count() == 1


def test_a_setting(container: Container) -> None:
    with container.config.override({"api_port": 9000}):
        assert container.api().port == 9000
    assert container.api().port == 8000


def test_on_rocksdb_in_a_folder_of_its_own(tmp_path: Path, note: Path) -> None:
    with Container(config={"storage_provider": "rocksdb", "rocksdb_path": tmp_path / "db"}):
        take_in([note])  # type: ignore[call-arg]
        assert find("safe") == [note.as_posix()]
