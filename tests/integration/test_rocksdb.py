"""What only RocksDB has: modes to look on, copies in use, writes that wait for the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import Container
from p8fs_cluster.exceptions import StorageError, StorageUnavailable


def test_looking_on_at_a_frozen_and_at_a_moving_view(rocksdb_settings: dict[str, Any]) -> None:
    with (
        Container(config=rocksdb_settings) as writing,
        Container(config={**rocksdb_settings, "rocksdb_mode": "secondary"}) as following,
        Container(config={**rocksdb_settings, "rocksdb_mode": "read-only"}) as frozen,
    ):
        with writing.storage() as database:
            database[b"first"] = b"1"
        for looking in (following, frozen):
            with looking.storage() as view:
                assert view.get(b"first") == b"1"
                with pytest.raises(Exception, match=r"(?i)not supported|read.?only"):
                    view[b"mine"] = b"x"
        with writing.storage() as database:
            database[b"second"] = b"2"
        with following.storage() as view:
            assert view.get(b"second") == b"2"
        with frozen.storage() as view:
            assert view.get(b"second") is None
        with pytest.raises(StorageError, match="only the process that writes"):
            following.storage().checkpoint("copy")


def test_looking_on_makes_nothing(rocksdb_settings: dict[str, Any]) -> None:
    with Container(config={**rocksdb_settings, "rocksdb_mode": "read-only"}) as container:  # noqa: SIM117
        with pytest.raises(StorageUnavailable, match="P8FS_ROCKSDB_PATH"):
            container.storage().open()
    assert not Path(rocksdb_settings["rocksdb_path"]).exists()


def test_a_copy_while_it_is_in_use(rocksdb_settings: dict[str, Any], tmp_path: Path) -> None:
    with Container(config=rocksdb_settings) as container:
        storage = container.storage()
        with storage as database:
            database[b"before"] = b"1"
            storage.checkpoint(tmp_path / "copy")
            database[b"after"] = b"2"
    with Container(config={**rocksdb_settings, "rocksdb_path": tmp_path / "copy"}) as container:  # noqa: SIM117
        with container.storage() as copy:
            assert list(copy.items()) == [(b"before", b"1")]


def test_writes_that_wait_for_the_disk(rocksdb_settings: dict[str, Any]) -> None:
    with Container(config={**rocksdb_settings, "rocksdb_sync": True}) as container, container.storage() as database:
        database[b"key"] = b"value"
        assert database[b"key"] == b"value"


def test_an_iterator_that_outlives_the_close_is_told(
    rocksdb_settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with Container(config=rocksdb_settings) as container, container.storage() as database:
        database[b"key"] = b"value"
        left = database.iter()
    assert "locked until its last iterator" in caplog.text
    with Container(config=rocksdb_settings) as again:
        with pytest.raises(StorageUnavailable, match="an iterator that lives on"):
            again.storage().ping()
        del left, database
        with again.storage() as database:
            assert database[b"key"] == b"value"
    assert caplog.text.count("locked until") == 1
