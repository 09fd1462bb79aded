"""Turn the text of a source into the value that a field takes: lists, tables, JSON, paths, and nothing."""

from __future__ import annotations

import collections
import dataclasses
import json
import typing
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AliasPath, BaseModel, Json, RootModel
from pydantic.fields import FieldInfo

from p8fs_cluster.config import secrets
from p8fs_cluster.config.aliases import choices_of
from p8fs_cluster.config.sources.files import at_home

__all__ = ["Form", "dropped", "form_of"]

Kind = Literal["list", "table", "json", "path", "secret", "text", "none", "other"]
_LISTS = (list, tuple, set, frozenset, collections.deque, collections.abc.Collection)


@dataclass(frozen=True)
class Form:
    """The kinds of values that a field takes.

    >>> form_of(FieldInfo(annotation=list[int] | None)).value_of("1, 2,")
    ['1', '2']
    >>> form_of(FieldInfo(annotation=int | None)).value_of("") is None
    True
    """

    kinds: frozenset[Kind]

    @property
    def is_text(self) -> bool:
        """Return whether a text is taken as it is, so that blanks and quotes around it may be meant."""
        return bool(self.kinds & {"text", "secret"})

    def value_of(self, value: Any) -> Any:
        """Return what a value of a source stands for, or the value itself if it can't be understood."""
        if not isinstance(value, str):
            return json.dumps(value) if "json" in self.kinds and value is not None else value
        text = value if self.is_text else value.strip()
        if not text and "none" in self.kinds:
            return None
        if self.kinds & {"list", "table"}:
            return self._several(value)
        return at_home(text) if "path" in self.kinds else text

    def _several(self, value: str) -> Any:
        text = value.strip()
        if (text.startswith("[") and "list" in self.kinds) or (text.startswith("{") and "table" in self.kinds):
            try:
                return json.loads(text)
            except (ValueError, RecursionError):
                return value
        if self.is_text:
            return value
        one = self.kinds & {"other", "path"}
        if "table" in self.kinds and (table := _table(text)) is not None and (table or "list" not in self.kinds):
            return table
        return _list(value) if "list" in self.kinds and ("," in text or not one) else value


def form_of(field: FieldInfo) -> Form:
    """Return the form of a field."""
    if any(map(_is_json, field.metadata)):
        return Form(frozenset({"json"}))
    return Form(frozenset(_kinds(field.annotation)))


def _kinds(annotation: Any) -> Iterator[Kind]:
    annotation = getattr(annotation, "__value__", annotation)  # `type X = ...`
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *marks = get_args(annotation)
        if any(map(_is_json, marks)):
            yield "json"
        else:
            yield from _kinds(inner)
    elif isinstance(annotation, type) and issubclass(annotation, RootModel):
        yield from _kinds(annotation.model_fields["root"].annotation)
    elif origin in (Union, UnionType):
        for part in get_args(annotation):
            yield from _kinds(part)
    else:
        yield _kind(annotation if origin is None else origin)


def _is_json(mark: Any) -> bool:
    return mark is Json or type(mark).__name__ == "Json"


def _kind(kind: Any) -> Kind:
    if kind in (NoneType, None):
        return "none"
    if _is_json(kind):
        return "json"
    if kind in (str, Any):
        return "text"
    if not isinstance(kind, type):
        return "other"
    if issubclass(kind, (*secrets.KINDS, bytes)):
        return "secret"
    if issubclass(kind, PurePath):
        return "path"
    if issubclass(kind, (Mapping, BaseModel)) or dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
        return "table"
    return "list" if issubclass(kind, _LISTS) and not issubclass(kind, str) else "other"


def _list(value: str) -> Any:
    text = value.strip()
    parts = [part.strip() for part in text.removesuffix(",").split(",")] if text else []
    return parts if all(parts) else value


def _table(text: str) -> dict[str, str] | None:
    pairs = [part.partition("=") for part in text.removesuffix(",").split(",")] if text else []
    if not all(name.strip() and sign for name, sign, _ in pairs):
        return None
    return {name.strip(): told.strip() for name, _, told in pairs}


def dropped(given: Any, taken: Any) -> Iterator[tuple[tuple[str, ...], Collection[str]]]:
    """Yield the path of each name in `given` that a nested model has not taken, with the names that it has.

    A model that says `extra="ignore"` itself has meant it.

    >>> class Limits(BaseModel):
    ...     daily: int = 0
    >>> list(dropped({"dialy": 5}, Limits()))
    [(('dialy',), {'daily'})]
    """
    if isinstance(taken, RootModel):
        yield from dropped(given, taken.root)
    elif isinstance(given, Mapping):
        fields = _fields(taken)
        names = {str(name) for name in fields}
        if not _ignores(taken):
            yield from (((str(key),), names) for key in given if str(key) not in names)
        for key in given:
            if key in fields:
                yield from _below(str(key), given[key], fields[key])
    elif isinstance(given, (list, tuple)) and isinstance(taken, (list, tuple)) and len(given) == len(taken):
        for number, (one, other) in enumerate(zip(given, taken, strict=True)):
            yield from _below(str(number), one, other)


def _fields(taken: Any) -> Mapping[Any, Any]:
    """Return what a value has taken, by the names that it may be given under."""
    if isinstance(taken, BaseModel):
        fields = type(taken).model_fields.items()
        return {name: getattr(taken, field) for field, info in fields for name in (field, *_names(info))}
    if dataclasses.is_dataclass(taken):
        return {field.name: getattr(taken, field.name) for field in dataclasses.fields(taken)}
    return taken if isinstance(taken, Mapping) else {}


def _names(field: FieldInfo) -> Iterator[str]:
    """Yield the other names under which a field of a nested model may be given."""
    for choice in choices_of(field):
        name = choice.path[0] if isinstance(choice, AliasPath) else choice
        if isinstance(name, str):
            yield name


def _ignores(taken: Any) -> bool:
    """Return whether names that were not taken are ignored.

    The model says so, or looks at what is given before its fields do. Of what is no model, pydantic refuses them.
    """
    if not isinstance(taken, BaseModel) or "extra" in taken.model_config:
        return True
    looking = type(taken).__pydantic_decorators__.model_validators.values()
    return any(each.info.mode != "after" for each in looking)


def _below(key: str, given: Any, taken: Any) -> Iterator[tuple[tuple[str, ...], Collection[str]]]:
    for path, names in dropped(given, taken):
        yield (key, *path), names
