"""Plain texts whose names sound like secrets': masked everywhere, in the Secret, and not in the log."""

from __future__ import annotations

import json
import pickle
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, SecretStr

from p8fs_cluster import Container, NotSecret, Section
from p8fs_cluster.cli.catalogue import settings_of
from p8fs_cluster.cli.documentation import env_example
from p8fs_cluster.cli.kubernetes import manifests
from p8fs_cluster.cli.schema import json_schema
from p8fs_cluster.config.secrets import sounds_secret
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import ConfigurationError


class Relay(BaseModel):
    user: str = ""
    password: str = ""


class Plain(Section, prefix="plain_"):
    """As the real modules have theirs."""

    password: str = "of-the-tests"
    api_key: str | None = None
    tokens: list[str] = []
    relay: Relay = Relay()
    token_url: str = "http://auth"
    token_seconds: int = 5
    sort_key: str = "name"
    key: Annotated[str, NotSecret()] = "north"
    openai: str = Field("", validation_alias="OPENAI_API_KEY")
    typed_secret: SecretStr = SecretStr("")


SECRET = {
    "plain_password": "hunter2",
    "plain_api_key": "hunter3",
    "plain_tokens": "hunter4,hunter5",
    "plain_relay": '{"user": "me", "password": "hunter6"}',
    "plain_openai": "hunter8",
    "plain_typed_secret": "hunter7",
}


SOUNDING = """
password smtp_password db_passwd pwd client_secret auth_token tokens api_key openai_apikey secret_access_key private_key
credentials passphrase API_KEY password_old key_2
"""
OTHERS = """
monkey keyboard tokenizer passenger compass token_url secret_name key_file key_prefix public_key sort_key partition_key
token_expiry password_policy max_token_count pinned
"""


def test_names_that_sound_like_secrets() -> None:
    assert [name for name in (SOUNDING + OTHERS).split() if sounds_secret(name)] == SOUNDING.split()


def test_where_they_are_read_they_are_plain_texts() -> None:
    found = P8FSConfig(**SECRET).section(Plain)
    assert (found.password, found.api_key, found.tokens) == ("hunter2", "hunter3", ["hunter4", "hunter5"])
    assert found.relay.password == "hunter6"
    assert found.model_dump()["password"] == "hunter2", "as Client(**section.model_dump()) needs it"
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301


def test_whatever_shows_them_masks_them(capsys: pytest.CaptureFixture[str]) -> None:
    with Container(config={**SECRET, "log_format": "%(message)s"}) as container:
        settings = container.config()
        found = settings.section(Plain)
        shown = [repr(found), str(found), found.model_dump_json(), str(found.model_dump(mode="json"))]
        shown += [str(settings.explain(setting.name)) for setting in settings_of((Plain,))]
        shown += [env_example((Plain,)), json.dumps(json_schema((Plain,))), repr(container.config())]
        container.logger("notes").info("sent with hunter2 and hunter3 to hunter4, as hunter6")
        shown.append(capsys.readouterr().out)
    told = "\n".join(shown)
    assert "hunter" not in told
    assert "***" in told
    assert "of-the-tests" not in told, "a default is masked as well"
    for plain in ("http://auth", "north", "name"):
        assert plain in told
    assert "sent with *** and *** to ***, as ***" in told


def test_they_go_into_the_secret() -> None:
    made = manifests(P8FSConfig(**SECRET, plain_token_url="http://x"), (P8FSConfig, Plain), "volumes")
    assert {f"P8FS_{name.upper()}" for name in SECRET} == made.secrets.keys()
    assert made.config["P8FS_PLAIN_TOKEN_URL"] == "http://x"
    assert "hunter" not in str(made.config)


def test_a_fault_does_not_show_them() -> None:
    values: dict[str, Any] = {"plain_password": ["hunter2"], "plain_relay": {"pasword": "hunter3"}, "pg_port": 0}
    with pytest.raises(ConfigurationError) as caught:
        P8FSConfig(**values)
    assert "P8FS_PLAIN_PASSWORD" in str(caught.value)
    assert "hunter" not in repr(caught.value)
