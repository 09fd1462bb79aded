"""The secrets that this process has seen in its settings, so that nothing it writes shows one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin  # noqa: F401 - the first, in the example of NotSecret

from pydantic import BaseModel, Secret, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

from p8fs_cluster.config.aliases import aliases_of

__all__ = [
    "KINDS",
    "MASK",
    "NotSecret",
    "forget",
    "is_named_secret",
    "is_typed_secret",
    "known",
    "remember",
    "shown",
    "sounds_secret",
    "within",
    "without_passwords",
]

KINDS = (SecretStr, SecretBytes, Secret)
"""The types of fields that hold secrets."""

MASK = "***"

_WORDS = (
    r"(?:^|_)(?:password|passwd|pwd|pass|passphrase|passcode|pin|secret|token|key|apikey|credential|salt|jwt|pat)"
    r"s?(?:_|$)"
)
_TAKEN_BACK = (
    r"_(?:ur[li]|endpoint|host|file|path|dir|folder|names?|ids?|type|kind|prefix|suffix|header|field|column|algorithms?"
    r"|expiry|ttl|length|size|count|limit|policy|scheme|issuer|audience|provider|version|format|mode|class|pattern"
    r"|encoding|duration|rotation|enabled|required|usage|command)$"
)
"""Last words of names that tell of a secret, and are none: `token_url`, `secret_name`."""
_OTHER_KEYS = r"(?:^|_)(?:public|sort|partition|primary|foreign|routing|group|shard|row|cache|dedup|order)_keys?$"
_IN_DSN = r"(:/{1,2}[^\s:/?#@]*:)(?:(?!\d{1,5}[/?#])(?:(?!://)[^\s\"'<>])*|[^\s/]*)(?=@)"  # a port, or any password
_known: frozenset[str] = frozenset()


class NotSecret:
    """Marks a text whose name sounds like a secret's, and is none: `Annotated[str, NotSecret()]`.

    >>> from p8fs_cluster import Section
    >>> class MapSettings(Section, prefix="map_"):
    ...     key: Annotated[str, NotSecret()] = "north"
    >>> MapSettings()
    MapSettings(key='north')
    """


def sounds_secret(name: str) -> bool:
    """Return whether a setting of this name holds a secret, if it is a text.

    >>> sounds_secret("smtp_password"), sounds_secret("api_key"), sounds_secret("token_url"), sounds_secret("monkey")
    (True, True, False, False)
    """
    name = name.lower()
    return bool(re.search(_WORDS, name)) and not re.search(_TAKEN_BACK, name) and not re.search(_OTHER_KEYS, name)


def is_named_secret(name: str, field: FieldInfo) -> bool:
    """Return whether a field is a text that its name or alias, or a name within a nested model, makes a secret."""
    if any(isinstance(mark, NotSecret) or mark is NotSecret for mark in field.metadata):
        return False
    sounding = sounds_secret(name) or any(map(sounds_secret, aliases_of(field)))
    return (sounding and _holds_text(field.annotation)) or _names_secrets(field.annotation)


def is_typed_secret(annotation: Any) -> bool:
    """Return whether a type is one of secrets, or holds one: in a list, a table, a nested model."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return any(is_typed_secret(field.annotation) for field in annotation.model_fields.values())
    kinds = (annotation, get_origin(annotation))
    return any(kind in KINDS for kind in kinds) or any(map(is_typed_secret, get_args(annotation)))


def _names_secrets(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return any(is_named_secret(name, field) for name, field in annotation.model_fields.items())
    return any(map(_names_secrets, get_args(annotation)))


def _holds_text(annotation: Any) -> bool:
    return annotation in (str, bytes) or any(map(_holds_text, get_args(annotation)))


def remember(secrets: Iterable[str]) -> None:
    """Take these values for secrets for as long as the process lives: a rotated password stays one."""
    global _known  # noqa: PLW0603
    fresh = frozenset(secrets) - {""}
    if not fresh <= _known:
        _known |= fresh


def known() -> frozenset[str]:
    """Return all secrets seen so far."""
    return _known


def forget() -> None:
    """Start anew, as a test does."""
    global _known  # noqa: PLW0603
    _known = frozenset()


def without_passwords(text: str) -> str:
    """Return `text` with the passwords of connection strings masked; a path that was made of one has a slash less.

    >>> without_passwords("to mysql://root:x@db/app"), without_passwords("to mysql:/root:x@db/app")
    ('to mysql://root:***@db/app', 'to mysql:/root:***@db/app')
    """
    return re.sub(_IN_DSN, rf"\1{MASK}", text) if ":/" in text else text


def within(value: Any) -> Iterator[str]:
    """Yield the texts in a secret's value, in any form that it may have: nested, or as it was found in a source.

    >>> list(within([SecretStr("a"), {"b": "c"}]))
    ['a', 'c']
    """
    if isinstance(value, KINDS):
        yield from within(value.get_secret_value())
    elif isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield value.decode(errors="replace")
    elif isinstance(value, BaseModel):
        yield from within(vars(value))
    elif isinstance(value, Mapping):
        yield from within(list(value.values()))
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from within(item)


def shown(value: Any, secret: bool = False) -> Any:
    """Return how a setting is shown: masked if it is a secret, else for people and JSON alike.

    >>> shown("x", secret=True), shown(5432), shown("mysql://root:x@db")
    ('***', 5432, 'mysql://root:***@db')
    """
    if secret or isinstance(value, KINDS):
        return MASK if any(within(value)) else None if value is None else ""
    if isinstance(value, (int, float, type(None))):
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        return [shown(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): shown(item) for key, item in value.items()}
    return without_passwords(str(value))
