"""A worker loop: one job after another until a signal comes, over outages of the store, and an end in order."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Callable, Collection, Iterator
from contextvars import Context, copy_context
from typing import Any, NamedTuple

from p8fs_cluster.containers.container import Container
from p8fs_cluster.containers.validation import validate_configuration
from p8fs_cluster.di.scopes import Scope
from p8fs_cluster.frameworks._common import Given, container_of, opened_scope, require_given, set_logging_up
from p8fs_cluster.frameworks._outage import Outage, Pauses
from p8fs_cluster.frameworks._stopping import GraceOver, Stop
from p8fs_cluster.frameworks._threads import in_thread, soon

__all__ = ["run"]

log = logging.getLogger(__name__)

_LAST = 2
"""The number of times that jobs are cancelled, or interrupted if they block the loop, before the loop is left."""


def run(
    work: Callable[[], object],
    container: Given = None,
    *,
    every: float = 0,
    workers: int = 1,
    grace: float = 25.0,
    validate: bool = True,
) -> None:
    """Call `work()` again and again, until it returns False or the process gets SIGTERM or SIGINT.

    `every` is the seconds to wait after each call. Each call has a scope "job", in one of "application": a transaction
    in it has been committed when the next begins. Several `workers` do so side by side; each job has a scope of its
    own. If `work` is an `async def`, or returns an awaitable, all of them are tasks of one event loop, and the scopes
    asynchronous. Else one worker is the main thread, and several are threads. The container is the active one in all.

    **Outages.** A job that fails because the store is away, or does not answer in time, is tried again: the first one
    is logged, the pauses grow from 0.1 to 30 seconds, each random between half of that and all of it, and begin anew
    after a job that was done. A job whose lease was lost (`LeaseLost`, as from `leader_only`) is logged, and the next
    one begins after `every`. Any other exception ends all workers and is raised.

    **The end.** A signal ends every pause, and no further job begins. The jobs at hand are finished, then the container
    is closed. After `grace` seconds, which should be some less than Kubernetes' `terminationGracePeriodSeconds`,
    asynchronous jobs are cancelled, and the job of the main thread is ended by an exception: their scopes roll back.
    Threads can't be ended: the connections that they hold are, once the container is closed, and `run` returns
    without them. The log names what did not end. A second signal does what it does without us: SIGTERM ends the
    process, SIGINT raises KeyboardInterrupt. Call it in the main thread.

    Logging is set up first. With `validate`, the settings and one round trip to the storage are checked, and changed
    settings are followed from then on, if `P8FS_RELOAD` says so or the environment is development. A store that is down
    at the start is an error, not an outage: what runs the process starts it again.

    :raises ConfigurationError: the settings or the storage can't be used.
    :raises InjectionError: the container can't work, or declares values of a "job", which nobody gives.

    >>> jobs = ["first", "second"]
    >>> run(lambda: print(jobs.pop(0)) if jobs else False, validate=False)
    first
    second
    """
    if workers < 1 or not grace >= 0:
        raise ValueError(f"workers is 1 or more, and grace 0 seconds or more: not {workers} and {grace}")
    with Stop(grace) as stop:
        copy_context().run(_Loop(work, every, workers, stop).run, container_of(container), validate)


class _Begun(NamedTuple):
    """A job whose call has returned an awaitable, its scope, and the context in which both were made."""

    scope: Scope
    awaitable: Any
    context: Context


class _Loop:
    """The workers and their container; they begin in threads, and go over to the event loop with an awaitable."""

    def __init__(self, work: Callable[[], object], every: float, workers: int, stop: Stop) -> None:
        self._work = work
        self._stop = stop
        outage = Outage()
        self._workers = {self._name(number, workers): Pauses(outage, every) for number in range(1, workers + 1)}
        self._runner = asyncio.Runner()
        self._asynchronous = inspect.iscoroutinefunction(work)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._left: list[str] = []
        """The workers whose job did not end in time."""

    def run(self, container: Container, validate: bool) -> None:
        self._container = container
        try:
            with self._entered():
                set_logging_up(container)
                if validate:
                    container.check(functions=filter(inspect.isfunction, [self._work]))
                    validate_configuration(container)
                    container.watch()
                require_given(container, "job", ())
                with self._application():
                    self._until_asked()
        finally:
            self._close()

    @contextlib.contextmanager
    def _entered(self) -> Iterator[None]:
        self._container.__enter__()
        try:
            yield
        finally:
            if self._asynchronous:
                self._runner.run(self._container.__aexit__(None, None, None))
            else:
                self._container.__exit__(None, None, None)

    @contextlib.contextmanager
    def _application(self) -> Iterator[None]:
        self._scope = scope = opened_scope(self._container, "application")
        scope.begin(asynchronous=self._asynchronous)
        try:
            yield
        except BaseException as exc:
            self._end_application(exc)
            raise
        self._end_application(None)

    def _end_application(self, exc: BaseException | None) -> None:
        if self._asynchronous:
            self._runner.run(self._scope.end_async(exc))
        else:
            self._scope.end(exc)

    def _until_asked(self) -> None:
        """Let the workers work: one that never gave an awaitable is the main thread itself."""
        first: _Begun | None = None
        if len(self._workers) == 1 and not self._asynchronous:
            first = self._alone()
        if first is not None or not self._stop.asked:
            self._together(first)
        if self._left:
            told = ", ".join(self._left)
            log.error("jobs that did not end within the grace of %g s, and were cut off: %s", self._stop.grace, told)

    def _alone(self) -> _Begun | None:
        [(name, pauses)] = self._workers.items()
        try:
            self._stop.late = _interrupt
            begun = self._work_on(pauses)
            self._stop.late = _nothing
        except GraceOver:
            self._left.append(name)
            return None
        finally:
            self._stop.late = _nothing
        return begun

    def _together(self, first: _Begun | None) -> None:
        with contextlib.suppress(GraceOver):
            self._runner.run(self._all(first))
        self._left += [name for name, task in self._tasks.items() if _was_interrupted(task)]

    def _work_on(self, pauses: Pauses) -> _Begun | None:
        """Work in this thread until the end is asked for, or a call returns an awaitable."""
        pause = self._stop.pauses()
        while not self._stop.asked:
            try:
                result = self._job()
            except Exception as exc:
                seconds = pauses.after_error(exc)
                if seconds is None:
                    raise
            else:
                if isinstance(result, _Begun):
                    return result
                seconds = self._after(result, pauses)
            pause(seconds)
        return None

    def _job(self) -> object:
        scope = opened_scope(self._container, "job")
        scope.begin()
        try:
            result = self._work()
        except BaseException as exc:
            scope.end(exc)
            raise
        if inspect.isawaitable(result):
            return _Begun(scope, result, copy_context())
        scope.end()
        return result

    def _after(self, result: object, pauses: Pauses) -> float:
        if result is False:
            self._stop.ask()
        return pauses.after_success()

    async def _all(self, first: _Begun | None) -> None:
        loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._stop.wake(lambda: soon(loop, self._ended.set))
        for name, pauses in self._workers.items():
            self._tasks[name] = loop.create_task(self._on_loop(name, pauses, first))
        tasks = self._tasks.values()
        self._stop.late = _Lateness(loop, tasks).tell
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        self._stop.ask()
        await asyncio.wait(tasks)
        faults = [fault for task in tasks if not _was_interrupted(task) and (fault := task.exception())]
        for fault in faults[1:]:
            log.error("another worker failed as well", exc_info=fault)
        if faults:
            raise faults[0]

    async def _on_loop(self, name: str, pauses: Pauses, begun: _Begun | None) -> None:
        """Work until the end is asked for: in a thread as long as no call returns an awaitable."""
        if begun is None and not self._asynchronous:
            begun = await in_thread(lambda: self._work_on(pauses), name)
            if begun is None:
                return
        self._asynchronous = self._scope.asynchronous = True
        self._scope.in_thread = in_thread
        while begun is not None or not self._stop.asked:
            try:
                result = await (self._finished(begun) if begun else self._async_job())
            except Exception as exc:
                seconds = pauses.after_error(exc)
                if seconds is None:
                    raise
            else:
                seconds = self._after(result, pauses)
            begun = None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), seconds)

    async def _finished(self, begun: _Begun) -> object:
        async def finish() -> object:
            begun.scope.asynchronous, begun.scope.in_thread = True, in_thread
            try:
                result: object = await begun.awaitable
            except BaseException as exc:
                await begun.scope.end_async(exc)
                raise
            await begun.scope.end_async()
            return result

        return await asyncio.get_running_loop().create_task(finish(), context=begun.context)

    async def _async_job(self) -> object:
        async with opened_scope(self._container, "job", in_thread=in_thread):
            result = self._work()
            return await result if inspect.isawaitable(result) else result

    def _close(self) -> None:
        """End the event loop, and the connections of jobs that did not end."""
        with contextlib.suppress(GraceOver):
            self._runner.close()
        self._stop.late = _nothing
        if self._left:
            for handle in self._container._handles():
                handle.cut_off()

    def _name(self, number: int, workers: int) -> str:
        name = getattr(self._work, "__qualname__", type(self._work).__qualname__)
        return f"{name} (worker {number} of {workers})" if workers > 1 else name


class _Lateness:
    """The end of an event loop's tasks when the grace is over: they are cancelled, and at last the loop is left."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tasks: Collection[asyncio.Task[None]]) -> None:
        self._loop = loop
        self._tasks = tasks
        self._told = 0

    def tell(self) -> None:
        """Called by a signal handler: a job that keeps the loop from running is ended by an exception."""
        self._told += 1
        if self._told > _LAST or (self._told > 1 and asyncio.current_task(self._loop) is not None):
            raise GraceOver
        soon(self._loop, self._cancel)

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()


def _was_interrupted(task: asyncio.Task[None]) -> bool:
    return not task.done() or task.cancelled() or isinstance(task.exception(), GraceOver)


def _interrupt() -> None:
    raise GraceOver


def _nothing() -> None:
    """Do nothing: no job is at hand any more."""
