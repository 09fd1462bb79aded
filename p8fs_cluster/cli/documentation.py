"""The table of the settings, written from the model."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from p8fs_cluster.config.settings import PREFIX, P8FSConfig

__all__ = ["settings_table"]


def settings_table() -> str:
    """Return a Markdown table: variable, default, meaning.

    >>> print(settings_table().splitlines()[2])
    | `P8FS_ENVIRONMENT` | `development` | Where the process runs: development, test, production, … |
    """
    rows = [_row(name, field) for name, field in P8FSConfig.model_fields.items()]
    return "\n".join(["| variable | default | meaning |", "| --- | --- | --- |", *rows])


def _row(name: str, field: FieldInfo) -> str:
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    meaning = (field.description or "") + (f" ({', '.join(choices)})" if choices else "")
    return f"| `{PREFIX}{name.upper()}` | {_default(field.default)} | {meaning} |"


def _default(value: Any) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return "" if value in (None, PydanticUndefined, "") else f"`{value}`"
