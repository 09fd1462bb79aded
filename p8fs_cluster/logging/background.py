"""Records on their way in a thread of its own, and the one lock under which all are written."""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

__all__ = ["Background", "writing"]

Write = Callable[[str], None]

writing = threading.RLock()
"""Held for each write, and over a fork, so that no child inherits half of one."""


class Background:
    """Writes lines in the order of their coming, in a thread that the first one starts; at exit all are written.

    A forked child begins with an empty one. What comes after the end is written at once.

    >>> background = Background()
    >>> written = []
    >>> background.put(written.append, "saved")
    >>> background.flush()
    >>> written
    ['saved']
    >>> background.stop()
    """

    def __init__(self) -> None:
        atexit.register(self.stop)
        self.forget()

    def forget(self) -> None:
        """Start anew in a forked child: the parent writes what was on its way."""
        self._queue: SimpleQueue[tuple[Write, str] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ended = False
        self._beginning = False
        self._starting = threading.RLock()

    def put(self, write: Write, line: str) -> None:
        """Have `write(line)` called. It never waits."""
        self._queue.put((write, line))
        if self._thread is None:  # looked at after putting, so that nothing stays behind when the thread ends
            self._start()

    def flush(self) -> None:
        """Wait until all that was put is written."""
        if self._thread is None:
            self._drain()
            return
        done = threading.Event()
        self.put(lambda _: done.set(), "")
        done.wait()

    def stop(self) -> None:
        """End the thread when all is written."""
        with self._starting:
            thread, self._ended = self._thread, True
        if thread is not None:
            self._queue.put(None)
            thread.join()
            self._thread = None
        self._drain()

    def _start(self) -> None:
        with self._starting:
            if self._beginning:  # a signal's handler logs while this very thread starts the other one
                return
            if self._thread is None and not self._ended:
                self._beginning = True
                try:
                    self._begin()
                finally:
                    self._beginning = False
                return
        if self._ended:
            self._drain()

    def _begin(self) -> None:
        thread = threading.Thread(target=self._run, name="p8fs-logging", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread can be had: the interpreter is ending, or a limit was reached
            self._drain()
            return
        self._thread = thread
        self._end_with_multiprocessing()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            with writing:
                item[0](item[1])

    def _drain(self) -> None:
        with writing:
            while True:
                try:
                    item = self._queue.get_nowait()
                except Empty:
                    return
                if item is not None:
                    item[0](item[1])

    def _end_with_multiprocessing(self) -> None:
        """Children of multiprocessing, and of Celery's billiard, end without atexit."""
        for name in ("multiprocessing.util", "billiard.util"):
            if util := sys.modules.get(name):
                util.Finalize(None, self.stop, exitpriority=-1000)
