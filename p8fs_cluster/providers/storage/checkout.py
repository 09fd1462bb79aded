"""Checkouts of connections, and how the end of a `with storage` block finds the one that its beginning made."""

from __future__ import annotations

import sys
import time
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from p8fs_cluster.exceptions import StorageError

__all__ = ["Borrowed", "Enter", "Exit"]


class Site:
    """A place in a program that borrows."""

    def __init__(self, code: CodeType, instruction: int) -> None:
        self.code = code
        self.instruction = instruction
        path = Path(code.co_filename)
        self.is_library = (
            path.is_relative_to(_PACKAGE) or "sqlalchemy" in path.parts or path.name == "contextlib.py"
        )  # it borrows for somebody else

    def __str__(self) -> str:
        line, *_ = next(islice(self.code.co_positions(), self.instruction // 2, None))
        return f"{self.code.co_filename}:{line} in {self.code.co_qualname}"


_PACKAGE = Path(__file__).parents[2]
_sites: dict[tuple[int, int], Site] = {}
_MANY = 10_000


def site_of(frame: FrameType) -> Site:
    """Return the place where a frame is. The line comes later: Python takes half a microsecond to find it."""
    code, instruction = frame.f_code, frame.f_lasti
    key = id(code), instruction  # a code's hash takes longer than all of this
    site = _sites.get(key)
    if site is None or site.code is not code:
        if len(_sites) >= _MANY:
            _sites.clear()
        site = _sites[key] = Site(code, instruction)
    return site


class Borrowed:
    """A borrowed connection, the place in the program that borrowed it, and the time by the monotonic clock."""

    connection: Any = None
    ended = False
    told = False
    """True if it was reported as one that is held for long."""
    handle: Any
    site: Site
    since: float
    reference: weakref.ref[Any]

    def note(self, borrower: FrameType) -> None:
        """Note where the frame is, or the one that called library code there, and the time."""
        code = borrower.f_code
        site = _sites.get((id(code), borrower.f_lasti))  # as `site_of` does, without a call
        if site is None or site.code is not code or site.is_library:
            site = site_of(borrower)
            while site.is_library and borrower.f_back is not None:
                borrower = borrower.f_back
                site = site_of(borrower)
        self.site = site
        self.since = time.monotonic()

    def __str__(self) -> str:
        return f"borrowed at {self.site}, {time.monotonic() - self.since:.1f} s ago"


# A `with` statement asks the handle for its two methods, one right after the other, before it calls the first. So both
# can be methods of a checkout that is made at the first question: the statement then holds that checkout, and nothing
# else does. Who calls `handle.__enter__()` in a function, or fills an ExitStack, asks for the second method later; the
# context in which he does so tells which checkout he means.

_Stack = tuple[Borrowed, Any] | None
_begun: ContextVar[_Stack] = ContextVar("p8fs_cluster_begun", default=None)
"""The checkouts one of whose methods was asked for, the latest first."""

_EXIT_IS_ASKED_FOR_FIRST = sys.version_info >= (3, 14)


class Enter:
    """`__enter__` or `__aenter__` of a handle: the one of a checkout that is made for it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, handle: Any, owner: type | None = None) -> Callable[..., Any]:
        if handle is None:
            return lambda handle: self.__get__(handle)()  # an ExitStack takes the methods from the class
        stack = _begun.get()
        if _EXIT_IS_ASKED_FOR_FIRST and stack is not None and _is_new(stack[0], handle):
            checkout, rest = stack
            _begun.set(rest)
        else:
            checkout = handle.connection()
            _begun.set((checkout, stack and _begun_ones(stack)))
        method: Callable[..., Any] = getattr(checkout, self._name)
        return method


class Exit:
    """`__exit__` or `__aexit__` of a handle: the one of the checkout that the block began with."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, handle: Any, owner: type | None = None) -> Callable[..., Any]:
        if handle is None:
            return lambda handle, *exc_info: self.__get__(handle)(*exc_info)
        stack = _begun.get()
        if _EXIT_IS_ASKED_FOR_FIRST:
            new: Borrowed = handle.connection()
            _begun.set((new, stack and _begun_ones(stack)))
            return lambda *exc_info: self._called(new, handle, *exc_info)
        if stack is not None and _is_new(stack[0], handle):
            _begun.set(stack[1])
            method: Callable[..., Any] = getattr(stack[0], self._name)
            return method
        return lambda *exc_info: self._called(None, handle, *exc_info)

    def _called(self, checkout: Borrowed | None, handle: Any, *exc_info: Any) -> Any:
        """End the checkout, or if it was never begun, the latest one that was begun in this context."""
        if checkout is None or checkout.connection is None:
            checkout = _latest(handle)
        return getattr(checkout, self._name)(*exc_info)


def _is_new(checkout: Borrowed, handle: Any) -> bool:
    return checkout.connection is None and checkout.handle is handle and not checkout.ended


def _begun_ones(stack: _Stack) -> _Stack:
    while stack is not None and stack[0].connection is None:
        stack = stack[1]  # it has ended, or was never begun
    return stack


def _latest(handle: Any) -> Borrowed:
    stack = _begun.get()
    while stack is not None:
        checkout: Borrowed = stack[0]
        if checkout.handle is handle and checkout.connection is not None:
            return checkout
        stack = stack[1]
    raise StorageError("a `with storage` block ended where none had begun; use storage.connection() here")
