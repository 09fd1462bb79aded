"""Every setting of a P8FS process: the model `P8FSConfig`, and `config`, the live view of those in force.

Importing this module reads nothing. The first read of `config` loads the settings, or raises `ConfigurationError`.

    from p8fs_cluster.config.settings import config

    config.pg_connection_string   # follows override and reload of the process's default container
    config.current                # the frozen snapshot, for reads that must fit together
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from p8fs_cluster.config import secrets
from p8fs_cluster.config.dsn import mysql_dsn, postgresql_dsn
from p8fs_cluster.config.live import LiveConfig
from p8fs_cluster.config.problems import configuration_error
from p8fs_cluster.config.sources import DotEnvSource, EnvironmentSource, Sourced, port_of_service_link
from p8fs_cluster.exceptions import ConfigurationError

__all__ = ["P8FSConfig", "config"]

PREFIX = "P8FS_"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
DEFAULT_LOG_FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"


def _log_level(value: str) -> str:
    level = value.strip().upper()
    if level not in LOG_LEVELS:
        raise ValueError(f"must be one of {', '.join(LOG_LEVELS)}")
    return level


def _log_format(value: str) -> str:
    if value.strip().lower() == "json":
        return "json"
    if not value:
        raise ValueError("must be 'json' or a %-style format of logging.Formatter")
    record = logging.LogRecord("p8fs", logging.INFO, __file__, 1, "message", None, None)
    try:
        logging.Formatter(value).format(record)
    except (ValueError, TypeError) as exc:
        raise ValueError(f"must be 'json' or a %-style format of logging.Formatter: {exc}") from None
    return value


def _plain_text(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not hold a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("must be UTF-8 text")
    return value


def _plain_secret(value: SecretStr) -> SecretStr:
    _plain_text(value.get_secret_value())
    return value


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


def _not_empty(value: object) -> object:
    if value == "":
        raise ValueError("must name a path")
    return value


def _holds_secret(annotation: object) -> bool:
    return annotation is SecretStr or any(map(_holds_secret, get_args(annotation)))


Port = Annotated[int, BeforeValidator(port_of_service_link), Field(ge=1, le=65535)]
Text = Annotated[str, Field(min_length=1), AfterValidator(_plain_text)]
Secret = Annotated[SecretStr, AfterValidator(_plain_secret)]
OptionalPath = Annotated[Path | None, BeforeValidator(_none_if_empty)]
Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]


class P8FSConfig(BaseSettings):
    """One frozen, validated snapshot of all settings, from arguments, the environment (`P8FS_…`) and `.env`.

    :raises ConfigurationError: with every fault at once.

    >>> P8FSConfig(pg_host="db", pg_password="s3cret").pg_connection_string
    'postgresql://postgres:s3cret@db:5438/app'
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        case_sensitive=False,
        frozen=True,
        extra="forbid",
        dotenv_filtering="match_prefix",
    )

    environment: Text = Field("development", description="Where the process runs: development, test, production, …")
    service_name: Text = Field("p8fs", description="The service's name, in log records and as application name")

    storage_provider: Literal["postgresql", "tidb", "rocksdb"] = Field(
        "postgresql", description="The engine behind `container.storage()`"
    )
    pool_max_size: Annotated[int, Field(ge=1, le=10_000)] = Field(10, description="Most connections a pool opens")
    pool_timeout: Seconds = Field(
        5.0, description="Seconds that a borrower waits for a connection, connecting included"
    )
    pool_max_lifetime: Seconds = Field(300.0, description="Seconds after which a connection is replaced")

    pg_host: Text = Field("localhost", description="PostgreSQL host, or the directory of its socket")
    pg_port: Port = Field(5438, description="PostgreSQL port")
    pg_database: Text = Field("app", description="PostgreSQL database")
    pg_user: Text = Field("postgres", description="PostgreSQL user")
    pg_password: Secret = Field(SecretStr("postgres"), description="PostgreSQL password")
    pg_sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = Field(
        "prefer", description="libpq's sslmode"
    )
    pg_sslrootcert: OptionalPath = Field(
        None, description="Certificates of the authorities to trust, for verify-ca/-full"
    )

    tidb_host: Text = Field("localhost", description="TiDB host, or the path of its socket")
    tidb_port: Port = Field(4000, description="TiDB port")
    tidb_database: Text = Field("test", description="TiDB database")
    tidb_user: Text = Field("root", description="TiDB user")
    tidb_password: Secret = Field(SecretStr(""), description="TiDB password")
    tidb_ssl_ca: OptionalPath = Field(
        None, description="Certificates of the authorities to trust; when set, TLS is required and verified"
    )

    rocksdb_path: Annotated[Path, BeforeValidator(_not_empty)] = Field(
        Path("data/rocksdb"), description="The directory of the embedded RocksDB; one process at a time"
    )

    api_host: Text = Field("127.0.0.1", description="Address that the API listens on")
    api_port: Port = Field(8000, description="Port that the API listens on")

    log_level: Annotated[str, AfterValidator(_log_level)] = Field("INFO", description="Least level that is logged")
    log_format: Annotated[str, AfterValidator(_log_format)] = Field(
        DEFAULT_LOG_FORMAT, description="A %-style format of `logging`, or `json`"
    )
    log_file: OptionalPath = Field(None, description="File that records are appended to, besides stdout")

    auth_jwt_secret: Secret | None = Field(None, description="Key that signs tokens")
    auth_token_expiry: Annotated[int, Field(ge=1)] = Field(3600, description="Seconds that a token is valid")

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    secret_names: ClassVar[frozenset[str]]

    def __init__(self, **values: Any) -> None:
        """Take any setting in any form that can be read, as the environment gives it."""
        for name in values:
            if name.startswith("_"):
                raise ConfigurationError(f"{name} is no setting; a file of settings is named by P8FS_ENV_FILE")
        super().__init__(**values)

    @property
    def pg_connection_string(self) -> str:
        """`postgresql://USER:PASSWORD@HOST:PORT/DATABASE`, percent-encoded where it must be. It holds the password."""
        return postgresql_dsn(
            self.pg_host, self.pg_port, self.pg_database, self.pg_user, self.pg_password.get_secret_value()
        )

    @property
    def tidb_connection_string(self) -> str:
        """`mysql://USER:PASSWORD@HOST:PORT/DATABASE`, percent-encoded where it must be. It holds the password."""
        return mysql_dsn(
            self.tidb_host, self.tidb_port, self.tidb_database, self.tidb_user, self.tidb_password.get_secret_value()
        )

    def origin(self, name: str) -> str:
        """Return in words where the value of the setting `name` comes from.

        >>> P8FSConfig(pg_host="db").origin("pg_host")
        'code'
        """
        return self._origins.get(name, "the default")

    def describe(self, *names: str) -> str:
        """Return variables and origins of settings for an error message.

        >>> P8FSConfig(pg_host="db").describe("pg_host")
        'P8FS_PG_HOST (from code)'
        """
        return ", ".join(f"{PREFIX}{name.upper()} (from {self.origin(name)})" for name in names)

    def with_changes(self, changes: Mapping[str, Any]) -> Self:
        """Return a new snapshot with some settings changed, validated as a whole. No source is read again.

        :raises ConfigurationError: a name or a value can't be used.
        """
        kept = {name: getattr(self, name) for name in self.model_fields_set}
        changed = type(self).__new__(type(self))
        BaseModel.__init__(changed, **{**kept, **changes})
        changed._origins = {**self._origins, **dict.fromkeys(changes, "code")}
        return changed

    def secrets(self) -> tuple[str, ...]:
        """Return the values of all secrets that were set, for redaction. A public default is no secret."""
        values = (getattr(self, name) for name in self.secret_names & self.model_fields_set)
        return tuple(value.get_secret_value() for value in values if value)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            raise AttributeError(f"settings are frozen: use container.config.override({{{name!r}: …}})")
        super().__setattr__(name, value)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, EnvironmentSource(settings_cls), DotEnvSource(settings_cls)

    @model_validator(mode="wrap")
    @classmethod
    def _all_problems_at_once(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        values = data if isinstance(data, Mapping) else {}
        origins = {name: value.origin if isinstance(value, Sourced) else "code" for name, value in values.items()}
        try:
            snapshot = handler(data)
        except ValidationError as exc:
            error = configuration_error(exc, PREFIX, cls.model_fields, cls.secret_names, origins)
        else:
            snapshot._origins = snapshot._origins or origins
            secrets.remember(snapshot.secrets())
            return snapshot
        raise error  # outside the handler, so that the ValidationError, which holds inputs, is not chained to it


P8FSConfig.secret_names = frozenset(
    name for name, field in P8FSConfig.model_fields.items() if _holds_secret(field.annotation)
)

config = LiveConfig(P8FSConfig)
