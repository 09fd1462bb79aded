"""The types of the core's settings, each with what it strips, refuses and normalizes."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from p8fs_cluster.config import oddities

__all__ = [
    "LOG_LEVELS",
    "Host",
    "Hosts",
    "KVTable",
    "LogFormat",
    "LogLevel",
    "OptionalPath",
    "OptionalSeconds",
    "OptionalText",
    "Port",
    "RequiredPath",
    "Seconds",
    "Secret",
    "Text",
]

LOG_LEVELS = ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


_TABLE = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_]{0,62}\.)?[A-Za-z_][A-Za-z0-9_]{0,47}")


def _table(value: str) -> str:
    if not _TABLE.fullmatch(value):
        raise ValueError("must be a table, or schema.table: letters, digits and underscores, at most 48 of the table")
    return value


def _log_level(value: str) -> str:
    level = value.strip().upper()
    if level not in LOG_LEVELS:
        raise ValueError(f"must be one of {', '.join(LOG_LEVELS)}")
    return level


def _plain_text(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not hold a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("must be UTF-8 text")
    return value


def _log_format(value: str) -> str:
    if value.strip().lower() == "json":
        return "json"
    if not _plain_text(value):
        raise ValueError("must be 'json' or a %-style format of logging.Formatter")
    record = logging.LogRecord("p8fs", logging.INFO, __file__, 1, "message", None, None)
    try:
        logging.Formatter(value).format(record)
    except (ValueError, TypeError) as exc:
        raise ValueError(f"must be 'json' or a %-style format of logging.Formatter: {exc}") from None
    return value


def _plain_secret(value: SecretStr) -> SecretStr:
    _plain_text(value.get_secret_value())
    return value


def _path(value: object) -> object:
    if value == "":
        raise ValueError("must name a path")
    if isinstance(value, str) and "://" in value:
        raise ValueError("must be a path, not a URL")
    return value


def _path_or_none(value: object) -> object:
    return None if value in ("", None) else _path(value)


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


Port = Annotated[int, Field(ge=1, le=65535)]
OptionalText = Annotated[str, AfterValidator(_plain_text), AfterValidator(oddities.name)]
Text = Annotated[OptionalText, Field(min_length=1)]
Host = Annotated[Text, AfterValidator(oddities.host)]
Hosts = Annotated[Text, AfterValidator(oddities.hosts)]
KVTable = Annotated[str, AfterValidator(_table)]
Secret = Annotated[SecretStr, AfterValidator(_plain_secret)]
RequiredPath = Annotated[Path, BeforeValidator(_path)]
OptionalPath = Annotated[Path | None, BeforeValidator(_path_or_none)]
LogLevel = Annotated[str, AfterValidator(_log_level)]
LogFormat = Annotated[str, AfterValidator(_log_format)]
Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]
OptionalSeconds = Annotated[Seconds | None, BeforeValidator(_none_if_empty)]
