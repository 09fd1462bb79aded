"""Give texts to fields of many types, and names to nested models that have none such."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    RootModel,
    SecretStr,
    TypeAdapter,
    model_validator,
)
from typing_extensions import TypedDict

from p8fs_cluster import Section
from p8fs_cluster.cli.rendering import same, text_of
from p8fs_cluster.config.forms import form_of
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import ConfigurationError


class Limits(BaseModel):
    daily: int = 0
    per_user: dict[str, int] = {}
    named: str = Field("", alias="name")


@dataclass
class Window:
    start: int = 0


class Place(TypedDict, total=False):
    host: str


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (Json[dict[str, str]], '{"a": "b"}', {"a": "b"}),
        (Json[list[str]] | None, '["a"]', ["a"]),
        (Json | None, "[1]", [1]),
        (Json[list[int]] | None, "", None),
        (list[str] | str, "a,b", "a,b"),
        (list[str] | str, '["a"]', ["a"]),
        (list[int] | int, "1", 1),
        (list[int] | int, "1,2", [1, 2]),
        (dict[str, int] | list[int], "a=1", {"a": 1}),
        (dict[str, int] | list[int], "1,2,", [1, 2]),
        (dict[str, int] | list[int], '{"a": 1}', {"a": 1}),
        (dict[str, int] | None, "", None),
        (dict[str, int], "", {}),
        (list[str], "", []),
        (Mapping[str, list[int]], '{"a": [1]}', {"a": [1]}),
        (Limits | None, '{"daily": 5}', Limits(daily=5)),
        (list[Limits], '[{"daily": 5}]', [Limits(daily=5)]),
        (Window, "start=5", Window(5)),
        (Place, "host=db", {"host": "db"}),
        (Path | None, "~/x", Path.home() / "x"),
        (int | None, " 5\n", 5),
        (SecretStr | None, "", None),
        (RootModel[list[int]], "1,2", RootModel[list[int]]([1, 2])),
        (RootModel[dict[str, int]] | None, "a=1", RootModel[dict[str, int]]({"a": 1})),
    ],
)
def test_what_a_text_becomes(annotation: Any, text: str, value: object) -> None:
    class Holder(BaseModel):
        field: annotation

    info = Holder.model_fields["field"]
    found = Holder(field=form_of(info).value_of(text)).field
    assert found == value
    assert same(Holder(field=form_of(info).value_of(text_of(found))).field, found), "as a ConfigMap gives it back"


@pytest.mark.parametrize("text", ["a,,b", "[1", '{"a": 1}', "a=1"])
def test_what_a_list_of_numbers_is_not(text: str) -> None:
    adapter = TypeAdapter(list[int])
    with pytest.raises(ValueError, match=r"list|integer"):
        adapter.validate_python(form_of(Limits.model_fields["daily"].from_annotation(list[int])).value_of(text))


class Renaming(BaseModel):
    """Takes a name that no field has."""

    daily: int = 0

    @model_validator(mode="before")
    @classmethod
    def renamed(cls, data: Any) -> Any:
        return {"daily": data["per_day"]} if "per_day" in data else data


class Aliased(BaseModel):
    daily: int = Field(0, validation_alias=AliasChoices("daily", "per_day"))


class Table(RootModel[dict[str, Limits]]):
    """A table that is a model."""


class Nested(Section, prefix="nested_"):
    limits: Limits = Limits()
    window: Window = Window()
    places: list[Place] = []
    headers: Json[dict[str, str]] | None = None
    secret: Limits | None = None
    renaming: Renaming = Renaming()
    aliased: Aliased = Aliased()
    table: Table = Table({})


class Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")
    daily: int = 0


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"nested_limits": {"dialy": 5}}, "there is no name 'dialy'; did you mean 'daily'?"),
        ({"nested_limits": "dialy=5"}, "there is no name 'dialy'"),
        ({"nested_limits": {"name": "x", "per_user": {"any": 1}}}, None),
        ({"nested_window": {"strat": 5}}, "at strat: unexpected keyword argument"),
        ({"nested_places": [{"host": "a"}, {"hots": "b"}]}, "at 1: at hots: extra inputs are not permitted"),
        ({"nested_headers": {"a": "b"}}, None),
        ({"nested_renaming": {"per_day": 5}}, None),
        ({"nested_aliased": {"per_day": 5}}, None),
        ({"nested_table": {"any": {"daily": 5}}}, None),
        ({"nested_table": {"any": {"dialy": 5}}}, "at any: there is no name 'dialy'"),
        ({"nested_headers": "{"}, "EOF while parsing"),
    ],
)
def test_names_that_a_nested_model_does_not_have(values: dict[str, Any], told: str | None) -> None:
    if told is None:
        P8FSConfig(**values)
        return
    with pytest.raises(ConfigurationError) as caught:
        P8FSConfig(**values)
    assert told in str(caught.value)


def test_a_model_may_say_that_it_ignores_them() -> None:
    class Relaxed(Section, prefix="relaxed_"):
        limits: Lenient = Lenient()

    assert P8FSConfig(relaxed_limits={"daily": 1, "other": 2}).section(Relaxed).limits.daily == 1


def test_json_in_a_file_need_not_be_text(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("s.yaml").write_text("nested:\n  headers: {a: b}\n")
    monkeypatch.setenv("P8FS_CONFIG_FILE", "s.yaml")
    settings = P8FSConfig()
    assert settings.section(Nested).headers == {"a": "b"}
    assert json.loads(text_of(settings.section(Nested).headers)) == {"a": "b"}
