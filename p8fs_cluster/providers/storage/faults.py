"""Judge what an exception means for the store, whether a handle, a driver or SQLAlchemy raised it."""

from __future__ import annotations

import sys
from typing import NamedTuple

from p8fs_cluster.exceptions import CommitUnknown, NotCommitted, StorageTimeout, StorageUnavailable
from p8fs_cluster.providers.storage.engine_table import specs_in_use
from p8fs_cluster.providers.storage.engines import Fault, built_in

__all__ = ["Told", "fault_of"]


class Told(NamedTuple):
    """A fault of the store, and the error that shows it: the exception, or one that it was raised from.

    SQLAlchemy's own text would have the statement and its parameters.
    """

    fault: Fault
    error: BaseException


def fault_of(exc: BaseException) -> Told | None:
    """Return what an exception tells of the store; None if it is no fault of the store.

    Judged are the exception, its `orig` (SQLAlchemy's name for the driver's error), and what each was raised from. A
    group of exceptions is a fault of the store if each of them is.

    >>> fault_of(StorageUnavailable("refused")).fault, fault_of(ValueError("too long"))
    (<Fault.UNAVAILABLE: 'no connection, or one that was lost'>, None)
    """
    if isinstance(exc, BaseExceptionGroup):
        return _of_all(exc)
    chain = _chain(exc)
    for each in chain:
        fault = _judged(each)
        if fault is not None:
            return Told(fault, each)
    lost = any(getattr(each, "connection_invalidated", False) for each in chain)  # SQLAlchemy knows other drivers
    return Told(Fault.UNAVAILABLE, chain[-1]) if lost else None


def _of_all(group: BaseExceptionGroup[BaseException]) -> Told | None:
    told = [fault_of(each) for each in group.exceptions]
    late = [each for each in told if each is not None and each.fault is Fault.LATE]
    return None if None in told else (*late, *told)[0]


def _chain(exc: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    following: BaseException | None = exc
    while following is not None and all(following is not each for each in chain):
        chain.append(following)
        orig = getattr(following, "orig", None)
        following = orig if isinstance(orig, BaseException) else following.__cause__
    return chain


def _judged(exc: BaseException) -> Fault | None:
    if isinstance(exc, CommitUnknown | StorageTimeout):
        return Fault.LATE
    if isinstance(exc, StorageUnavailable | NotCommitted) or _is_of_a_full_pool(exc):
        return Fault.UNAVAILABLE
    judged = (spec.fault(exc) for spec in {*built_in(), *specs_in_use()})
    return next((fault for fault in judged if fault is not None), None)


def _is_of_a_full_pool(exc: BaseException) -> bool:
    """Return whether it is the error of a pool of SQLAlchemy's own."""
    sqlalchemy = sys.modules.get("sqlalchemy.exc")
    return sqlalchemy is not None and isinstance(exc, sqlalchemy.TimeoutError)
