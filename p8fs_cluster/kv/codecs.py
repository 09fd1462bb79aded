"""Codecs of values: bytes as they are, JSON, or a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from p8fs_cluster.exceptions import KVError

__all__ = ["BYTES", "JSON", "Codec", "codec_of"]

V = TypeVar("V")


class Codec(NamedTuple, Generic[V]):
    """Two functions that undo each other. What they can't do is a KVError, whose text holds no value."""

    encode: Callable[[V], bytes]
    decode: Callable[[bytes], V]
    is_total: bool = False
    """True if each value that is stored can be decoded."""


def _same(value: bytes) -> bytes:
    if not isinstance(value, bytes):
        raise KVError(f"a value is bytes, not {type(value).__name__}: encode it, or use kv.json or kv.typed(Model)")
    return value


def _to_json(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise KVError(f"a value of kv.json is what JSON has, and this {type(value).__name__} is not") from _plain(exc)


def _of_json(value: bytes) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as exc:
        raise KVError("the stored value is no JSON: read it with the handle that wrote it") from _plain(exc)


BYTES: Codec[bytes] = Codec(_same, _same, is_total=True)
JSON: Codec[Any] = Codec(_to_json, _of_json)


def codec_of(model: type[V]) -> Codec[V]:
    """Return the codec of a pydantic model, a dataclass, or whatever type pydantic can validate, as JSON.

    :raises KVError: it is none of these.
    """
    from pydantic import PydanticUserError, TypeAdapter, ValidationError
    from pydantic_core import PydanticSerializationError

    name = getattr(model, "__name__", str(model))
    try:
        adapter: TypeAdapter[V] = TypeAdapter(model)
    except (PydanticUserError, TypeError) as exc:
        raise KVError(f"kv.typed takes a pydantic model, a dataclass or a type, and {name} is none: {exc}") from exc

    def encode(value: V) -> bytes:
        try:
            return adapter.dump_json(adapter.validate_python(value, strict=True))
        except ValidationError as exc:
            raise KVError(f"the value is no {name}: {_faults(exc)}") from None
        except PydanticSerializationError as exc:
            raise KVError(f"this {name} can't be written as JSON") from _plain(exc)

    def decode(value: bytes) -> V:
        try:
            return adapter.validate_json(value)
        except ValidationError as exc:
            raise KVError(f"the stored value is no {name}: {_faults(exc)}") from None

    return Codec(encode, decode)


def _faults(exc: Any) -> str:
    """Return kinds and places of faults, without the values that have them."""
    faults = exc.errors(include_input=False, include_context=False, include_url=False)
    return ", ".join(f"{'.'.join(map(str, fault['loc'])) or 'all of it'} ({fault['type']})" for fault in faults[:5])


def _plain(exc: Exception) -> Exception:
    """Return the class of an error alone: its text may hold the value."""
    return Exception(type(exc).__name__)
