"""Annotations as messages and drawings show them."""

from __future__ import annotations

import inspect
import re
import types
from typing import Annotated, Any, Union, get_args, get_origin

__all__ = ["UNKNOWN", "type_text"]

UNKNOWN: Any = inspect.Parameter.empty
"""The annotation of what has none."""

_MODULE = re.compile(r"\w+\.")
_WRITTEN = re.compile(r"[\w.\[\], |]+")


def type_text(annotation: Any) -> str:
    """Return an annotation as it is written, without modules and metadata; "" when it is not known.

    >>> type_text(dict[str, int | None])
    'dict[str, int | None]'
    """
    if annotation is UNKNOWN:
        return ""
    if annotation is None or annotation is type(None):
        return "None"
    if isinstance(annotation, str):
        return _MODULE.sub("", annotation) if _WRITTEN.fullmatch(annotation) else ""
    origin, parts = get_origin(annotation), [type_text(part) for part in get_args(annotation)]
    if origin is Annotated:
        return parts[0]
    if origin in (Union, types.UnionType):
        return " | ".join(parts)
    if origin is not None:
        return f"{type_text(origin)}[{', '.join(parts)}]" if all(parts) else type_text(origin)
    return str(getattr(annotation, "__name__", ""))
