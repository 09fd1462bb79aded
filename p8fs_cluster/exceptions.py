"""Every error that p8fs_cluster raises by intention. `ClusterError` is the root; catch it to catch all of them.

Messages name the setting (`P8FS_PG_PORT`), where its value came from, the engine and the way out. They never hold the
value of a secret.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "CloseError",
    "ClusterError",
    "CommitUnknown",
    "ConfigurationError",
    "CoordinationError",
    "GraphProblem",
    "InjectionError",
    "KVConflict",
    "KVError",
    "LeaseLost",
    "LockTimeout",
    "NotCommitted",
    "PoolExhausted",
    "Problem",
    "RequestRefused",
    "StorageClosed",
    "StorageError",
    "StorageTimeout",
    "StorageUnavailable",
    "TablesMissing",
]


class ClusterError(Exception):
    """The root of all errors of p8fs_cluster."""


@dataclass(frozen=True)
class Problem:
    """One fault in the settings: the variable that holds it, where its value came from, and what was expected.

    >>> str(Problem("P8FS_PG_PORT", "the environment", "must be between 1 and 65535"))
    'P8FS_PG_PORT (from the environment): must be between 1 and 65535'
    """

    variable: str
    source: str | None
    expected: str

    def __str__(self) -> str:
        origin = f" (from {self.source})" if self.source else ""
        return f"{self.variable}{origin}: {self.expected}"


class ConfigurationError(ClusterError):
    """The settings can't be used. `problems` holds each fault; the message lists them all.

    >>> error = ConfigurationError("2 settings can't be used", (Problem("P8FS_PG_PORT", None, "must be a number"),))
    >>> print(error)
    2 settings can't be used
      P8FS_PG_PORT: must be a number
    """

    def __init__(self, message: str, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(message, problems)
        self.message = message
        self.problems = problems

    def __str__(self) -> str:
        return "\n  ".join([self.message, *map(str, self.problems)])


class StorageError(ClusterError):
    """A storage engine could not do what was asked; the driver's own error is its `__cause__`."""


class StorageUnavailable(StorageError):
    """No connection could be had in time: the server is down, unreachable, refuses us, or the pool is exhausted."""


class PoolExhausted(StorageUnavailable):
    """Every connection of the pool was borrowed all the time; the message tells where, and for how long."""


class StorageTimeout(StorageError):
    """The store did not answer by the deadline, and the connection was ended. It is the driver's error as well.

    What was sent may have been carried out, or may still be.
    """


class CommitUnknown(StorageError):
    """The connection was lost while the commit, or a statement that is its own, was on its way.

    It may have been done or not, so it was not repeated.
    """


class NotCommitted(StorageError):
    """The block ended without an error, but the server had failed or ended its transaction: its writes were undone.

    It is the driver's error as well; `__cause__` is the error that the block had caught, if it was one.
    """


class StorageClosed(StorageError):
    """The container that owns this handle was closed."""


@dataclass(frozen=True)
class GraphProblem:
    """One fault in a container: the path of the provider that has it, what is wrong, and the way out, if it is known.

    >>> str(GraphProblem("counters", "Counters takes no argument 'storge'", "did you mean 'storage'?"))
    "counters: Counters takes no argument 'storge'; did you mean 'storage'?"
    """

    where: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f"; {self.hint}" if self.hint else "")


class InjectionError(ClusterError):
    """A parameter of an `@inject`ed function can't be resolved, or a container can't work.

    `problems` holds each fault of a container; the message lists them all.
    """

    def __init__(self, message: str, problems: tuple[GraphProblem, ...] = ()) -> None:
        super().__init__(message, problems)
        self.message = message
        self.problems = problems

    def __str__(self) -> str:
        return "\n  ".join([self.message, *map(str, self.problems)])


class CloseError(ClusterError):
    """Some of what a container opened could not be closed; everything else was. `errors` holds each fault.

    >>> CloseError((("storage", OSError("disk gone")),)).args[0]
    "1 step of closing the container failed:\\n  storage: OSError('disk gone')"
    """

    def __init__(self, errors: tuple[tuple[str, BaseException], ...]) -> None:
        steps = "1 step" if len(errors) == 1 else f"{len(errors)} steps"
        lines = [f"{steps} of closing the container failed:", *(f"{name}: {error!r}" for name, error in errors)]
        super().__init__("\n  ".join(lines))
        self.errors = errors

    def __reduce__(self) -> tuple[type[CloseError], tuple[tuple[tuple[str, BaseException], ...]]]:
        return type(self), (self.errors,)


class RequestRefused(ClusterError):
    """Told to what is scoped to a request whose answer has a status of 400 or more: it is not to be committed.

    Nobody but the scope's own values sees it; the answer leaves as it is.

    >>> RequestRefused(404).status
    404
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"the request is answered with {status}: roll back")
        self.status = status


class CoordinationError(ClusterError):
    """Leases, leaders or nodes can't be had as they were asked for; the message says what to do."""


class LeaseLost(CoordinationError):
    """The lease is over: its holder could not renew it in time, somebody else has it, or it was taken away.

    What was written under it without `guard` may be a stale write.
    """


class LockTimeout(CoordinationError):
    """Somebody else had the lock all the time that was given for waiting."""


class TablesMissing(CoordinationError):
    """Tables of coordination or of the key-value store are not in the database, or are of an older release."""


class KVError(ClusterError):
    """The key-value store can't do what it was asked to; the message says what to write instead."""


class KVConflict(KVError):
    """Somebody else wrote what this transaction had read; nothing was written, and all of it may be run again."""
