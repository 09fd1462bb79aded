"""The names of the engines there are: the built-in ones, and those of which installed packages tell."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError, PydanticKnownError, core_schema

from p8fs_cluster.config.secrets import without_passwords

__all__ = ["ENTRY_POINTS", "EngineName", "installed", "known"]

ENTRY_POINTS = "p8fs_cluster.engines"
"""The group of entry points with which a package tells of its engine: the name, and where its `EngineSpec` is."""

_BUILT_IN = ("postgresql", "tidb", "rocksdb")


class EngineName:
    """Annotates a text that has to be the name of an engine; where it is, the settings of that engine are declared."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(_checked, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "enum": list(known())}


def known() -> tuple[str, ...]:
    """Return the names that `storage_provider` may have."""
    others = {point.name for point in entry_points(group=ENTRY_POINTS)}
    return (*_BUILT_IN, *sorted(others.difference(_BUILT_IN)))


@cache
def installed(name: str) -> Any:
    """Return what an installed package tells of an engine, with its module imported.

    :raises LookupError: no package tells of one of this name.
    """
    for point in entry_points(group=ENTRY_POINTS, name=name):
        return point.load()
    raise LookupError(name)


def _checked(value: str) -> str:
    if value in _BUILT_IN:
        return value
    try:
        installed(value)
    except LookupError:
        *others, last = map(repr, known())
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(others)} or {last}"}) from None
    except Exception as exc:  # somebody else's module
        fault = without_passwords(f"{type(exc).__name__}: {exc}")
        told = "the engine {name} is installed, and can't be loaded: {fault}"
        raise PydanticCustomError("engine_fault", told, {"name": value, "fault": fault}) from exc
    return value
