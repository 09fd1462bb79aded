"""Embedded RocksDB through rocksdict, in raw mode: keys and values are bytes."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from errno import ENOENT, ENOTEMPTY
from pathlib import Path
from typing import Any, ClassVar

from rocksdict import AccessType, Checkpoint, Options, Rdict, WriteBatch, WriteOptions

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import StorageError, StorageUnavailable
from p8fs_cluster.providers.storage.engines import Parameters
from p8fs_cluster.providers.storage.keys import Span
from p8fs_cluster.providers.storage.rocksdb.pairs import RocksPairs, items

__all__ = ["RocksDB"]

log = logging.getLogger("p8fs_cluster.storage")


class RocksDB:
    """One open database directory. Every borrower gets the same `Rdict`, which is safe to share between threads.

    >>> RocksDB(P8FSConfig(rocksdb_path="data/notes"))
    <rocksdb at data/notes>
    """

    questions: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: P8FSConfig) -> None:
        self._settings = settings
        self._path = settings.rocksdb_path
        self._lock = threading.Lock()
        self._suspect = False
        """True if a write failed, after which RocksDB refuses all others until it is opened anew."""
        self._pairs: RocksPairs | None = None
        self._notes: tempfile.TemporaryDirectory[str] | None = None

    def open(self) -> None:
        """Open the directory, made if it is missing; as one that looks on, only if it is there.

        :raises StorageUnavailable: it can't be written, or another process holds it.
        """
        options = Options(raw_mode=True)
        try:
            if self._settings.rocksdb_mode == "primary":
                options.create_if_missing(True)
                self._path.mkdir(parents=True, exist_ok=True)
            elif not self._path.is_dir():
                raise FileNotFoundError(ENOENT, "there is none")
            self._database = Rdict(str(self._path), options, access_type=self._access())
        except OSError as exc:
            raise StorageUnavailable(self._fault(f"{exc.strerror}: name a directory that can be written")) from exc
        except Exception as exc:  # rocksdict knows no other class
            raise StorageUnavailable(self._fault(self._reason(str(exc)))) from exc
        if self._settings.rocksdb_sync:
            waiting = WriteOptions()
            waiting.sync = True
            self._database.set_write_options(waiting)

    def _access(self) -> AccessType:
        if self._settings.rocksdb_mode == "read-only":
            return AccessType.read_only()
        if self._settings.rocksdb_mode == "secondary":
            self._notes = tempfile.TemporaryDirectory(prefix="p8fs-secondary-")  # its own log
            return AccessType.secondary(self._notes.name)
        return AccessType.read_write()

    def checkpoint(self, folder: Path) -> None:
        """Write a whole copy of what is stored now, while others write on; files are linked where that is possible.

        :raises StorageError: the folder is there already, can't be made, or this process is not the one that writes.
        """
        if self._settings.rocksdb_mode != "primary":
            raise StorageError(self._fault("only the process that writes can copy it whole"))
        try:
            self._database.flush()
            Checkpoint(self._database).create_checkpoint(str(folder))
        except Exception as exc:  # rocksdict knows no other class
            raise StorageError(self._fault(f"no checkpoint in {folder}: {exc}")) from exc

    def restore(self, folder: Path) -> Path:
        """Copy a checkpoint to the directory that the settings name, which must be new or empty, and return that.

        :raises StorageError: the folder holds no whole RocksDB, the directory is in use, or the copy failed.
        """
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}.restored")
        try:
            Rdict(str(folder), Options(raw_mode=True), access_type=AccessType.read_only()).close()
            if self._path.exists() and any(self._path.iterdir()):
                raise FileExistsError(ENOTEMPTY, "it is not empty, move it away first")
            shutil.copytree(folder, draft)
            draft.replace(self._path)
        except Exception as exc:  # rocksdict knows no other class
            told = getattr(exc, "strerror", None) or str(exc)
            raise StorageError(self._fault(f"{folder} can't be restored there: {told}")) from exc
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return self._path

    def scan(self, connection: Rdict, span: Span, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
        return items(connection, span, reverse)

    def pairs(self) -> RocksPairs:
        """Return the column family of the key-value store, which is made when it is first asked for.

        :raises StorageError: it can't be made.
        """
        with self._lock:
            if self._pairs is None:
                self._pairs = RocksPairs(self._database, self._settings)
            return self._pairs

    def close(self) -> None:
        self._give_up_pairs()
        self._database.close()
        if self._settings.rocksdb_mode == "primary" and self._holder() == os.getpid():
            log.warning(self._fault("it is closed, but locked until its last iterator or column family is given up"))
        if self._notes:
            self._notes.cleanup()

    def _give_up_pairs(self) -> None:
        """Forget the column family: its handle keeps the directory open."""
        if self._pairs is not None:
            self._pairs.close()
            self._pairs = None

    def acquire(self, deadline: float | None, holder: weakref.ref[Any] | None = None) -> Rdict:
        if self._suspect or (self._pairs is not None and not self._pairs.usable):
            self._recover()
        if self._settings.rocksdb_mode == "secondary":
            self._database.try_catch_up_with_primary()
        return self._database

    def release(self, connection: Rdict, exc: BaseException | None) -> None:
        """Note a failed write. What was written is in the log already, and there is no transaction to undo."""
        if exc is not None and "IO error" in str(exc):
            self._suspect = True
            if self._pairs is not None:
                self._pairs.usable = False

    def execute(self, connection: Rdict, sql: str, parameters: Parameters) -> list[Any]:
        raise StorageError(
            "rocksdb has no SQL: use `with container.storage() as db` and db[key], or set "
            f"{self._settings.describe('storage_provider')} to an engine that has"
        )

    def ping(self, connection: Rdict) -> None:
        try:
            connection.get(b"")
            self._write_nothing()
        except Exception as exc:
            self._suspect = True
            raise StorageUnavailable(self._fault(str(exc))) from exc

    def _write_nothing(self) -> None:
        """Write an empty batch, which fails as any write does once one has failed."""
        if self._settings.rocksdb_mode == "primary":
            self._database.write(WriteBatch(raw_mode=True))

    def _recover(self) -> None:
        """Open the directory anew after a failed write, as when the disk was full for a moment.

        :raises StorageUnavailable: it can't be opened, or written.
        """
        with self._lock:
            sound = not self._suspect and (self._pairs is None or self._pairs.usable)
            if sound:
                return
            self._give_up_pairs()
            with contextlib.suppress(Exception):
                self._write_nothing()
                self._suspect = False
                return
            with contextlib.suppress(Exception):  # it tells of the failed write once more
                self._database.close()
            self.open()
            try:
                self._write_nothing()
            except Exception as exc:
                raise StorageUnavailable(self._fault(str(exc))) from exc
            self._suspect = False
            log.warning(self._fault("a write had failed, and it was opened anew"))

    def cut(self, connection: Rdict) -> None:
        """Nothing waits for a store of this process."""

    @staticmethod
    def retry_pause(exc: BaseException) -> float | None:
        return None

    @staticmethod
    def inspected(answers: Sequence[Sequence[tuple[Any, ...]]]) -> str:
        return ""

    def stats(self) -> dict[str, int]:
        return {"size": 1, "idle": 1, "waiting": 0, "max_size": 1}

    def _reason(self, text: str) -> str:
        holder = self._holder()
        if holder == os.getpid() or (holder is None and "current process" in text):
            return (
                "this process has it open already, in another container, or by an iterator that lives on: share one "
                "container, or close the other"
            )
        if "While lock file" in text or "lock hold by" in text:
            who = f"process {holder}" if holder else "another process"
            return f"{who} holds it: RocksDB lets one process at a time in; stop that one, or use another directory"
        return f"{text}: is it a RocksDB directory, and whole?"

    def _holder(self) -> int | None:
        """Return the process that holds the lock file, where the system tells it."""
        try:
            inode = (self._path / "LOCK").stat().st_ino
            locks = Path("/proc/locks").read_text().splitlines()
        except OSError:
            return None
        owners = (line.split() for line in locks if f":{inode} " in line and "->" not in line)
        return next((int(fields[4]) for fields in owners), None)

    def _fault(self, reason: str) -> str:
        return f"rocksdb at {self._path}: {reason}: {self._settings.describe('rocksdb_path')}"

    def __repr__(self) -> str:
        return f"<rocksdb at {self._path}>"
