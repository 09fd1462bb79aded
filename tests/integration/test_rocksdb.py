"""What only RocksDB has: modes to look on, copies in use, writes that wait for the disk."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rocksdict import Options

from p8fs_cluster import Container, Storage
from p8fs_cluster.exceptions import StorageError, StorageUnavailable
from p8fs_cluster.providers.storage.rocksdb import engine
from tests.processes import variables


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


@pytest.mark.parametrize("waits", [True, False])
def test_writes_wait_for_the_disk_if_they_are_to(
    rocksdb_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    """As RocksDB itself counts it: through the handle, and by each way in which the key-value store writes."""
    made: list[Options] = []

    def counting(**given: Any) -> Options:
        made.append(Options(**given))
        made[-1].enable_statistics()
        return made[-1]

    monkeypatch.setattr(engine, "Options", counting)
    with Container(config={**rocksdb_settings, "rocksdb_sync": waits}) as container:
        storage, kv = container.storage(), container.kv()
        kv.get("key")  # so that the column family is there
        for write in (
            lambda: written(storage),
            lambda: kv.put("key", b"value"),
            lambda: kv.put("key", b"value", ttl=9),
            lambda: kv.put_many({"a": b"1", "b": b"2"}),
            lambda: kv.increment("number"),
            lambda: kv.delete("key"),
        ):
            before = synced(made[0])
            write()
            assert synced(made[0]) - before == waits


def written(storage: Storage) -> None:
    with storage as database:
        database[b"key"] = b"value"


def synced(options: Options) -> int:
    found = re.search(r"rocksdb.wal.synced COUNT : (\d+)", str(options.get_statistics()))
    assert found
    return int(found[1])


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


def test_a_checkpoint_is_restored(rocksdb_settings: dict[str, Any], tmp_path: Path) -> None:
    copy, elsewhere = tmp_path / "copy", tmp_path / "elsewhere"
    with Container(config=rocksdb_settings) as container:
        with container.storage() as database:
            database[b"kept"] = b"1"
        container.storage().checkpoint(copy)
        with container.storage() as database:
            database[b"later"] = b"2"
    done = command("storage", "restore", copy, settings={**rocksdb_settings, "rocksdb_path": elsewhere})
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    with Container(config={**rocksdb_settings, "rocksdb_path": elsewhere}) as container:
        assert list(container.storage().scan()) == [(b"kept", b"1")]
    for folder, settings, fault in (
        (copy, rocksdb_settings, "it is not empty, move it away first"),
        (tmp_path / "nowhere", {**rocksdb_settings, "rocksdb_path": tmp_path / "new"}, "can't be restored there"),
        (copy, {"storage_provider": "tidb"}, "tidb has no checkpoints"),
    ):
        refused = command("storage", "restore", folder, settings=settings)
        assert refused.returncode == 1
        assert fault in refused.stderr
    assert not (tmp_path / "new").exists()


def command(*arguments: object, settings: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "p8fs_cluster", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, env={**os.environ, **variables(settings)})


FULL = """
import os, resource, signal, sys
from p8fs_cluster import container
from p8fs_cluster.exceptions import StorageError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
storage, (soft, hard) = container.storage(), resource.getrlimit(resource.RLIMIT_FSIZE)
with storage as database:
    database[b"before"] = b"1"
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))  # stands for a disk that is full
for kind in ("raised", "caught"):
    try:
        with storage as database:
            try:
                database[b"large"] = os.urandom(65536)
            except Exception:
                if kind == "raised":
                    raise
    except Exception as exc:
        print(kind, type(exc).__name__)
    try:
        storage.ping()
    except StorageError as exc:
        print("ping:", "IO error" in str(exc))
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
with storage as database:
    database[b"after"] = b"2"
print([key for key, _ in storage.scan()], storage.ping() > 0)
"""


def test_it_comes_back_after_the_disk_was_full(rocksdb_settings: dict[str, Any]) -> None:
    environment = {**os.environ, **variables(rocksdb_settings)}
    done = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "raised Exception"
    assert "ping: True" in lines, "it says why not"
    assert lines[-1] == "[b'after', b'before'] True"
