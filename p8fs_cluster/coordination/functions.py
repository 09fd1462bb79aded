"""Functions that users give: how to call them, and what to call them in messages."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

__all__ = ["name_of", "takes"]


def name_of(function: object) -> str:
    """Return the name of a function for a message, without any argument that is bound to it: it may be a secret.

    >>> name_of(functools.partial(print, "s3cret"))
    'builtins.print'
    """
    while isinstance(function, functools.partial):
        function = function.func
    kind = type(function)
    name = getattr(function, "__qualname__", None) or f"an object of {kind.__qualname__}"
    return f"{getattr(function, '__module__', None) or kind.__module__}.{name}"


def takes(callback: Callable[..., object], argument: object) -> tuple[object, ...]:
    """Return the arguments to call a callback with: the one, or none if it takes none.

    >>> takes(lambda: None, 1), takes(lambda why: None, 1)
    ((), (1,))
    """
    try:
        inspect.signature(callback).bind(argument)
    except TypeError:
        return ()
    except ValueError:  # a builtin that tells no signature
        return (argument,)
    return (argument,)
