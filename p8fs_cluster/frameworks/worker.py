"""A plain worker loop: one job after another until a signal comes, and an end in order."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from types import FrameType

from p8fs_cluster.containers.container import Container
from p8fs_cluster.containers.validation import validate_configuration
from p8fs_cluster.frameworks._common import Given, container_of, finished, opened_scope, require_given

__all__ = ["run"]


def run(work: Callable[[], object], container: Given = None, *, every: float = 0, validate: bool = True) -> None:
    """Call `work()` again and again, until it returns False or the process gets SIGTERM or SIGINT.

    The job at hand is finished and the container closed before it returns. A second signal does what it does without
    us: SIGTERM ends the process, SIGINT raises KeyboardInterrupt. Call it in the main thread.

    Each call has a scope "job", in one of "application": a transaction in it has been committed when the next begins.

    `every` is the seconds to wait after each call; a signal ends the wait. With `validate`, the settings and one round
    trip to the storage are checked first, and changed settings are followed from then on, if `P8FS_RELOAD` says so or
    the environment is development.

    :raises ConfigurationError: the settings or the storage can't be used.
    :raises TypeError: `work` is asynchronous.
    :raises InjectionError: the container can't work, or declares values of a "job", which nobody gives.

    >>> jobs = ["first", "second"]
    >>> run(lambda: print(jobs.pop(0)) if jobs else False, validate=False)
    first
    second
    """
    with _signals() as came, container_of(container) as opened:
        if validate:
            opened.check()
            validate_configuration(opened)
            opened.watch()
        require_given(opened, "job", ())
        with opened_scope(opened, "application"):
            while _done(work, opened) is not False and not _one_of(came, every):
                pass


def _done(work: Callable[[], object], container: Container) -> object:
    with opened_scope(container, "job"):
        return finished(work())


@contextmanager
def _signals() -> Iterator[SimpleQueue[int]]:
    """A SimpleQueue may be filled while this very thread waits for it, which an Event may not."""
    came: SimpleQueue[int] = SimpleQueue()

    def note(number: int, frame: FrameType | None) -> None:
        is_second = not came.empty()
        came.put(number)
        restore()
        if is_second:  # it came before the first had restored what it does
            signal.raise_signal(number)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield came
    finally:
        restore()


def _one_of(came: SimpleQueue[int], seconds: float) -> bool:
    try:
        came.get(timeout=seconds)
    except Empty:
        return False
    return True
