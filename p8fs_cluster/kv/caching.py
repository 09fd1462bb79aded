"""The keys and records of cached results. Nothing here does I/O.

A key is `cached:`, the name of the function, NUL, and a digest of the arguments or what `key=` returns. Its record is
either a claim, while a process computes the result, or the result. As both have the same key, who stores a result
replaces exactly the claim that it has made: never a newer result, and nothing after `forget`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

from p8fs_cluster.coordination.functions import name_of
from p8fs_cluster.di.markers import injections_of
from p8fs_cluster.exceptions import KVError
from p8fs_cluster.kv.keys import Key, Space

__all__ = ["CLAIM", "Keys", "payload_of", "record_of"]

CLAIM = b"\0p8fs?"
"""The record of a result that is being computed."""
_RESULT = b"\0p8fs="
"""The beginning of the record of a result."""
_PREFIX = b"cached:"


def record_of(payload: bytes) -> bytes:
    """Return the record of a result that a codec has encoded."""
    return _RESULT + payload


def payload_of(record: bytes) -> bytes | None:
    """Return the encoded result of a record; None: it is a claim.

    :raises KVError: it is neither.

    >>> payload_of(record_of(b"null")), payload_of(CLAIM)
    (b'null', None)
    """
    if record == CLAIM:
        return None
    if not record.startswith(_RESULT):
        raise KVError("a key of kv.cached holds a value that it has not written: give it a namespace of its own")
    return record[len(_RESULT) :]


class Keys:
    """The keys of the results of one function.

    :raises KVError: the function has no name that tells it from others, or one that can't be used.
    """

    def __init__(
        self, space: Space, function: Callable[..., Any], name: str | None, key: Callable[..., Key] | None
    ) -> None:
        if key is not None and not callable(key):
            raise KVError(f"key= is a function of the arguments, which returns a key, not {type(key).__name__}")
        self.name = _name_of(function) if name is None else _usable(name)
        self._space = space
        self._function = function
        self._signature = _signature_of(function, self.name)
        self._key = key
        self._head = _PREFIX + _bytes(self.name) + b"\0"
        space.physical(self._head + hashlib.sha256().hexdigest().encode())

    def physical(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Return the key of a call, as the store has it.

        :raises KVError: an argument can't be part of a key, or `key=` has returned none.
        :raises TypeError: the function does not take these arguments.
        """
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        for name in self._injected:
            bound.arguments.pop(name, None)
        if self._key is None:
            return self._space.physical(self._head + self._digest(bound.arguments))
        return self._space.physical(self._head + _bytes(self._key(*bound.args, **bound.kwargs)))

    @functools.cached_property
    def _injected(self) -> tuple[str, ...]:
        """The parameters that an `@inject` around the cache fills: they are no part of the key."""
        with contextlib.suppress(NameError):  # of an annotation for type checkers alone
            return tuple(each.name for each in injections_of(self._function, self._signature, {}, []))
        return ()

    def _digest(self, arguments: Mapping[str, Any]) -> bytes:
        for name, value in arguments.items():
            if (kind := _foreign(value)) is not None:
                raise KVError(
                    f"{self.name}: the argument {name!r} is or has a {kind}, and JSON has none: give kv.cached "
                    f"key=, a function of the arguments that returns a key, as in key=lambda {', '.join(arguments)}: …"
                )
        text = json.dumps(arguments, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest().encode()


def _bytes(key: Key) -> bytes:
    """Return a part of a key, which any key can be."""
    plain = Space()
    return plain.stripped(plain.physical(key))


def _foreign(value: Any) -> str | None:
    """Return the name of a type within an argument that JSON does not tell from others; None: there is none."""
    if value is None or isinstance(value, str | int):
        return None
    if isinstance(value, float):
        return None if value - value == 0 else "number that is not finite"
    if isinstance(value, list | tuple):
        return next(filter(None, map(_foreign, value)), None)
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return next(filter(None, map(_foreign, value.values())), None)
    return "dict whose keys are not all text" if isinstance(value, dict) else type(value).__name__


def _name_of(function: Callable[..., Any]) -> str:
    name, written = name_of(function), inspect.unwrap(function)
    is_bound = inspect.ismethod(written) or isinstance(written, functools.partial)
    if is_bound or name.startswith("__main__.") or "<" in name or " " in name:
        raise KVError(
            f"kv.cached names results after their function, and {name} may be several ones: give it a name, as in "
            "kv.cached(60, name='rates')"
        )
    return name


def _signature_of(function: Callable[..., Any], name: str) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except ValueError:
        raise KVError(f"{name} tells nothing of its parameters: cache a function that calls it") from None


def _usable(name: str) -> str:
    if not isinstance(name, str) or not name or "\0" in name:
        raise KVError("name= is text of at least one character without NUL, as in kv.cached(60, name='rates')")
    return name
