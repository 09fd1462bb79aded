"""Documents about the settings, written from their models: a table in Markdown, and an example of a `.env`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import SecretStr, TypeAdapter, ValidationError

from p8fs_cluster.cli.catalogue import Models, Setting, settings_of
from p8fs_cluster.cli.rendering import quoted, text_of
from p8fs_cluster.config.forms import Form, form_of
from p8fs_cluster.config.problems import variable_of
from p8fs_cluster.config.reading import LOCATORS

__all__ = ["env_example", "settings_table"]

_INSTEAD = ("", "false", "0", "1", "[]", "{}")
"""Values to show where there is no default, the first that is valid."""


def settings_table(models: Models) -> str:
    """Return a Markdown table of variable, default and meaning; at its end, the variables that say where sources are.

    >>> from p8fs_cluster.config.settings import P8FSConfig
    >>> print(settings_table((P8FSConfig,)).splitlines()[2])
    | `P8FS_ENVIRONMENT` | `development` | Where the process runs: development, test, production, … |
    """
    rows = [_row(setting.variable, _default(setting.default), _meaning(setting)) for setting in settings_of(models)]
    rows += [_row(variable_of(name), "", f"{meaning} (in the environment only)") for name, meaning in LOCATORS.items()]
    return "\n".join(["| variable | default | meaning |", "| --- | --- | --- |", *rows])


def env_example(models: Models) -> str:
    """Return a `.env` in which every setting is commented out, with its meaning and default; secrets are empty.

    >>> from p8fs_cluster.config.settings import P8FSConfig
    >>> print(env_example((P8FSConfig,)).splitlines()[-2:])
    ['# Seconds that a token is valid', '#P8FS_AUTH_TOKEN_EXPIRY=3600']
    """
    return "\n\n".join("\n".join(_example(setting)) for setting in settings_of(models))


def _row(variable: str, default: str, meaning: str) -> str:
    return f"| `{variable}` | {default} | {_in_cell(meaning)} |"


def _meaning(setting: Setting) -> str:
    choices = f" ({', '.join(map(str, setting.choices))})" if setting.choices else ""
    others = f"; also read from {', '.join(setting.aliases)}" if setting.aliases else ""
    return (setting.info.description or "") + choices + others


def _default(value: Any) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return "" if value in (None, "") else f"`{_in_cell(str(value))}`"


def _in_cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _example(setting: Setting) -> Iterator[str]:
    told = _meaning(setting) + ("; it has to be given" if setting.info.is_required() else "")
    yield from (f"# {line}".rstrip() for line in told.splitlines())
    yield f"#{setting.variable}={'' if setting.secret else quoted(_shown(setting))}"


def _shown(setting: Setting) -> str:
    default = text_of(setting.default)
    if default:
        return default
    field: Any = setting.info
    form = form_of(field)
    adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
    return next((text for text in (*map(str, setting.choices), *_INSTEAD) if _takes(adapter, form, text)), "")


def _takes(adapter: TypeAdapter[Any], form: Form, text: str) -> bool:
    try:
        adapter.validate_python(form.value_of(text))
    except ValidationError:
        return False
    return True
