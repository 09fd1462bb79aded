"""The settings as a JSON Schema, for editors and for checks of files before they are mounted."""

from __future__ import annotations

import math
from typing import Any

from pydantic import SecretStr
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema

from p8fs_cluster.cli.catalogue import Models, settings_of

__all__ = ["json_schema"]

Schema = dict[str, Any]

_MASK = str(SecretStr("x"))


def json_schema(models: Models) -> Schema:
    """Return the schema of a TOML or YAML file of settings, under their flat names in lower case.

    Nothing is required, because other sources may have it. Lists and tables may also be text, as in the environment.
    No default of a secret is in it.

    >>> from p8fs_cluster.config.settings import P8FSConfig
    >>> json_schema((P8FSConfig,))["properties"]["pg_port"]["maximum"]
    65535
    """
    places, generated = models_json_schema(
        [(model, "validation") for model in models], schema_generator=_Generator, ref_template="#/$defs/{model}"
    )
    definitions = generated.get("$defs", {})
    owned = {model: definitions.pop(_name(places[model, "validation"])) for model in models}
    found = {setting.name: setting for setting in settings_of(models)}
    properties = {
        model.prefix + field: _property(schema, definitions, found[model.prefix + field].secret)
        for model in models
        for field, schema in owned[model].get("properties", {}).items()
    }
    for definition in definitions.values():
        _clean(definition)
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "title": "P8FS settings",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"$defs": definitions} if definitions else {}),
    }


class _Generator(GenerateJsonSchema):
    """Takes types that JSON does not know for anything, instead of giving up on all settings."""

    ignored_warning_kinds = {"non-serializable-default", "skipped-choice"}  # noqa: RUF012

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}


def _name(place: JsonSchemaValue) -> str:
    return str(place["$ref"]).removeprefix("#/$defs/")


def _property(schema: Schema, definitions: Schema, secret: bool) -> Schema:
    schema.pop("title", None)
    if secret:
        schema.pop("default", None)
    _clean(schema)
    if not _holds_several(schema, definitions):
        return schema
    around: Schema = {
        key: schema.pop(key) for key in ("description", "default", "examples", "deprecated") if key in schema
    }
    return {**around, "anyOf": [*schema.get("anyOf", [schema]), {"type": "string"}]}


def _holds_several(schema: Schema, definitions: Schema) -> bool:
    if "$ref" in schema:
        schema = definitions.get(_name(schema), {})
    if schema.get("type") in ("array", "object"):
        return True
    return any(_holds_several(part, definitions) for part in schema.get("anyOf", ()))


def _clean(schema: Any) -> None:
    """Take out defaults that hold masked secrets, however deep, and those that JSON has no word for."""
    if isinstance(schema, list):
        for item in schema:
            _clean(item)
    elif isinstance(schema, dict):
        if "default" in schema and not _is_shown(schema["default"]):
            del schema["default"]
        for item in schema.values():
            _clean(item)


def _is_shown(default: Any) -> bool:
    if isinstance(default, dict):
        return all(map(_is_shown, default.values()))
    if isinstance(default, list):
        return all(map(_is_shown, default))
    return default != _MASK and (not isinstance(default, float) or math.isfinite(default))
