"""The other names that pydantic lets a field have in what it is made of."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import AliasChoices, AliasPath
from pydantic.fields import FieldInfo

__all__ = ["aliases_of", "choices_of"]


def choices_of(field: FieldInfo) -> Sequence[str | AliasPath]:
    """Return the validation aliases of a field, paths included.

    >>> from pydantic import Field
    >>> choices_of(Field(validation_alias="OPENAI_API_KEY"))
    ['OPENAI_API_KEY']
    """
    given = field.validation_alias
    if given is None:
        return []
    return given.choices if isinstance(given, AliasChoices) else [given]


def aliases_of(field: FieldInfo) -> tuple[str, ...]:
    """Return the aliases of a field that are names, as the environment has them."""
    return tuple(choice for choice in choices_of(field) if isinstance(choice, str))
