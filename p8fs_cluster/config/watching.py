"""Watches the folders of files: files are replaced, and whoever watches a file goes on watching the old one."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from watchfiles._rust_notify import RustNotify

__all__ = ["DEBOUNCE", "STEP", "Watch", "folders_of"]

log = logging.getLogger("p8fs_cluster.config")

DEBOUNCE = 50
"""Milliseconds that changes are gathered for, at most."""
STEP = 5
"""Milliseconds without another change after which they are looked at."""
_LOOK_ANYWAY = 1000
"""Milliseconds: some file systems tell of nothing, and a folder may be made anew."""
_POLL = 300

Command = Literal["look", "reload", "stop"]
Commands = SimpleQueue[Command]
Places = dict[str, tuple[int, int]]


class Watch:
    """Calls `look(force)` in a thread of its own when something changes in the folders of `paths()`, or at SIGHUP.

    `stop()`, or the end of its `with` block, ends it.
    """

    def __init__(self, look: Callable[[bool], None], paths: Callable[[], Iterable[Path]]) -> None:
        self._look = look
        self._paths = paths
        self._commands: Commands = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._files = False
        self._hup: Any = None
        self._terminal = False

    @property
    def running(self) -> bool:
        """Return whether changes of files are followed."""
        return self._files and self._thread is not None and self._thread.is_alive()

    def start(self, *, files: bool) -> None:
        """Begin, if that has not happened; without `files`, only SIGHUP is waited for."""
        self._take_signal()
        alive = self._thread is not None and self._thread.is_alive()
        if (alive and self._files is files) or not (files or self._hup):
            return
        self.stop(keep_signal=True)
        self._files = files
        self._commands = SimpleQueue()
        folders = _Folders(self._paths, self._commands) if files else None  # what changes from here on is seen
        run = partial(self._follow, folders) if folders else partial(self._wait_for_signals, self._commands)
        self._thread = threading.Thread(target=run, name="p8fs-cluster-watch", daemon=True)
        self._thread.start()

    def stop(self, *, keep_signal: bool = False) -> None:
        """End it. When this returns, `look` is not called any more."""
        thread, self._thread = self._thread, None
        self._commands.put("stop")
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        if not keep_signal:
            self._give_signal_back()

    def pause(self, seconds: float) -> None:
        """Let time pass for whoever is writing."""
        time.sleep(seconds)

    def forked(self) -> None:
        """Go on in a forked child, which has no threads of its parent."""
        if self._thread is None:
            return
        self._thread = None
        self.start(files=self._files)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _follow(self, folders: _Folders) -> None:
        with contextlib.closing(folders):
            command: Command = "look"
            while command != "stop":
                try:
                    folders.renew()
                    self._look(command == "reload")
                except Exception:
                    log.exception("looking for changed settings failed")
                command = folders.wait()

    def _wait_for_signals(self, commands: Commands) -> None:
        while commands.get() != "stop":
            try:
                self._look(True)
            except Exception:
                log.exception("loading the settings again failed")

    def _take_signal(self) -> None:
        if self._hup is None and _in_main_thread() and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            self._hup, self._terminal = self._hang_up, _has_terminal()
            signal.signal(signal.SIGHUP, self._hup)

    def _give_signal_back(self) -> None:
        if self._hup is not None and _in_main_thread():
            if signal.getsignal(signal.SIGHUP) == self._hup:
                signal.signal(signal.SIGHUP, signal.SIG_DFL)
            self._hup = None

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        if self._terminal and not _has_terminal():  # it was closed: the signal means what it means without us
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGHUP)
        self._commands.put("reload")  # a SimpleQueue may be filled from a signal's handler


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


class _Folders:
    """The folders that are watched now. One that was made anew, or that a link leads to now, is another one."""

    def __init__(self, paths: Callable[[], Iterable[Path]], commands: Commands) -> None:
        self._paths = paths
        self._commands = commands
        self._places: Places = {}
        self._notify: RustNotify | None = None
        self.renew()

    def renew(self) -> None:
        """Watch the folders that are there."""
        places = folders_of(self._paths())
        if places != self._places:
            self.close()
            self._places, self._notify = places, _notify(places)

    def wait(self) -> Command:
        """Return what to do when something has changed, or may have."""
        if self._notify is None:
            return self._commands.get()
        seen = self._notify.watch(DEBOUNCE, STEP, _LOOK_ANYWAY, self)
        return self._commands.get() if seen == "stop" else "look"

    def is_set(self) -> bool:
        """Return whether the wait is to be ended, as watchfiles asks."""
        return not self._commands.empty()

    def close(self) -> None:
        """Watch nothing any more."""
        if self._notify is not None:
            self._notify.close()


def folders_of(paths: Iterable[Path]) -> Places:
    """Return the folders to watch, with what tells them from others of the same name."""
    found: Places = {}
    for path in paths:
        for place in (path, Path(os.path.realpath(path))):
            for folder in (place, place.parent):
                _add(folder, found)
    return found


def _add(folder: Path, found: Places) -> None:
    """Take in a folder; of one that is missing, the nearest one above, in which it may appear."""
    while True:
        try:
            status = folder.stat()
        except OSError:
            if folder == folder.parent:
                return
            folder = folder.parent
            continue
        if folder.is_dir():
            found[str(folder)] = (status.st_dev, status.st_ino)
        return


def _notify(places: Places) -> RustNotify:
    from watchfiles._rust_notify import RustNotify

    folders = list(places)
    try:
        return RustNotify(folders, False, False, _POLL, False, True)
    except Exception as exc:  # a limit of the system
        log.warning("folders are looked at every %d ms, for they can't be watched: %s", _POLL, exc)
    return RustNotify(folders, False, True, _POLL, False, True)
