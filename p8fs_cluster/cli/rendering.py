"""Values of settings as text, which every source reads back to the same value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, RootModel
from pydantic_core import to_jsonable_python

from p8fs_cluster.config.secrets import KINDS

__all__ = ["quoted", "same", "text_of"]

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:,@%+")
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\f": "\\f"})


def text_of(value: Any) -> str:
    """Return a value as the environment holds it, secrets in clear: lists and tables as JSON, None as nothing.

    :raises ValueError: it holds bytes that are no text.

    >>> text_of(True), text_of(["a", "b"]), text_of(None)
    ('true', '["a", "b"]', '')
    """
    plain = _plain(value)
    if plain is None:
        return ""
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def same(a: Any, b: Any) -> bool:
    """Return whether two values of a setting are the same, be one of them still text; NaN is itself.

    >>> same(5, "5"), same(float("nan"), float("nan")), same("a", "b")
    (True, True, False)
    """
    try:
        return bool(a == b) or text_of(a) == text_of(b)
    except ValueError:
        return False


def quoted(text: str) -> str:
    r"""Return text as one line of a `.env` holds it.

    >>> print(quoted("a b\n"), quoted("db.example"))
    "a b\n" db.example
    """
    return text if _PLAIN.issuperset(text) else f'"{text.translate(_ESCAPES)}"'


def _plain(value: Any) -> Any:
    if isinstance(value, KINDS):
        return _plain(value.get_secret_value())
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, RootModel):
        return _plain(value.root)
    if isinstance(value, BaseModel):
        return _plain(dict(value))
    if isinstance(value, Mapping):
        return {text_of(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(item) for item in value), key=json.dumps)
    return to_jsonable_python(value, fallback=str)
