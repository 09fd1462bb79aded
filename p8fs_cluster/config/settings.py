"""Every setting of a P8FS process: the model `P8FSConfig`, and `config`, the live view of those in force.

Importing this module reads nothing. The first read of `config` loads the settings, or raises `ConfigurationError`.

    from p8fs_cluster.config.settings import config

    config.pg_connection_string   # follows override and reload of the process's default container
    config.current                # the frozen snapshot, for reads that must fit together
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import Field, PrivateAttr, SecretStr

from p8fs_cluster.config import section as sections
from p8fs_cluster.config.dsn import mysql_dsn, postgresql_dsn
from p8fs_cluster.config.engines import EngineName
from p8fs_cluster.config.fields import (
    Host,
    Hosts,
    KVTable,
    LogFormat,
    LogLevel,
    OptionalPath,
    OptionalSeconds,
    OptionalText,
    Port,
    RequiredPath,
    Seconds,
    Secret,
    Text,
)
from p8fs_cluster.config.live import LiveConfig
from p8fs_cluster.config.model import Settings
from p8fs_cluster.config.problems import variable_of
from p8fs_cluster.config.reading import Reading, read
from p8fs_cluster.config.sources.layers import DEVELOPMENT, PRODUCTION, spelt
from p8fs_cluster.config.sources.source import PREFIX
from p8fs_cluster.config.spelling import judged, warn
from p8fs_cluster.exceptions import ConfigurationError, Problem

if TYPE_CHECKING:
    from p8fs_cluster.config.explanation import Explanation

__all__ = ["PREFIX", "P8FSConfig", "config"]

S = TypeVar("S", bound=sections.Section)

DEFAULT_LOG_FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"


class P8FSConfig(Settings):
    """One frozen, validated snapshot of all settings, from arguments and every source; see `docs/configuration.md`.

    :raises ConfigurationError: with every fault at once.

    >>> P8FSConfig(pg_host="db", pg_password="s3cret").pg_connection_string
    'postgresql://postgres:s3cret@db:5438/app'
    """

    environment: Text = Field("development", description="Where the process runs: development, test, production, …")
    strict: bool = Field(False, description="Whether a misspelt name in a source is an error rather than a warning")
    reload: bool | None = Field(
        None, description="Whether `watch()` follows changed files; unset: only when the environment is development"
    )
    service_name: Text = Field("p8fs", description="The service's name, in log records and as application name")
    service_version: OptionalText = Field("", description="The service's version, in log records")
    node_name: OptionalText = Field("", description="The machine's name, in log records")
    pod_name: OptionalText = Field(
        "", description="The pod's name, in log records; in Kubernetes the host's name if it is empty"
    )

    storage_provider: Annotated[OptionalText, EngineName()] = Field(
        "postgresql", description="The engine behind `container.storage()`"
    )
    pool_max_size: Annotated[int, Field(ge=1, le=10_000)] = Field(10, description="Most connections a pool opens")
    pool_timeout: Seconds = Field(
        5.0, description="Seconds that a borrower waits for a connection, connecting included"
    )
    pool_max_lifetime: Seconds = Field(300.0, description="Seconds after which a connection is replaced")
    pool_drain_timeout: Seconds = Field(
        60.0, description="Seconds that borrowers of an engine no longer in force have before they are cut off"
    )
    pool_reset: Literal["auto", "always"] = Field(
        "auto", description="Whether a session is reset after each borrower, or where its statements call for it"
    )
    query_timeout: OptionalSeconds = Field(
        30.0, description="Seconds that any single wait for the store's answer may take; empty: for ever"
    )
    slow_query: OptionalSeconds = Field(None, description="Seconds from which on a statement is logged; empty: never")
    slow_borrow: OptionalSeconds = Field(
        60.0, description="Seconds after which a connection still borrowed is logged, and by whom; empty: never"
    )

    password_lifetime: Seconds = Field(
        600.0, description="Seconds for which a password is used that a command or a callable gave"
    )

    pg_host: Hosts = Field(
        "localhost", description="PostgreSQL host, several separated by commas, or the directory of its socket"
    )
    pg_port: Port = Field(5438, description="PostgreSQL port")
    pg_database: Text = Field("app", description="PostgreSQL database")
    pg_user: Text = Field("postgres", description="PostgreSQL user")
    pg_password: Secret = Field(SecretStr("postgres"), description="PostgreSQL password")
    pg_password_command: OptionalText = Field(
        "", description="Command whose output is the PostgreSQL password, run before a connection is made"
    )
    pg_sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = Field(
        "prefer", description="libpq's sslmode"
    )
    pg_sslrootcert: OptionalPath = Field(
        None, description="Certificates of the authorities to trust, for verify-ca/-full"
    )
    pg_sslcert: OptionalPath = Field(None, description="Our own certificate, for servers that ask for one")
    pg_sslkey: OptionalPath = Field(None, description="The private key of our own certificate")
    pg_target_session_attrs: Literal["any", "read-write", "read-only", "primary", "standby", "prefer-standby"] = Field(
        "any", description="Which of several hosts will do"
    )
    pg_statement_timeout: OptionalSeconds = Field(
        None, description="Seconds after which the server itself ends a statement; empty: never"
    )
    pg_pgbouncer: bool = Field(
        False, description="Whether a PgBouncer in transaction mode is in between: no prepared statements, no resets"
    )

    tidb_host: Host = Field("localhost", description="TiDB host, or the path of its socket")
    tidb_port: Port = Field(4000, description="TiDB port")
    tidb_database: Text = Field("test", description="TiDB database")
    tidb_user: Text = Field("root", description="TiDB user")
    tidb_password: Secret = Field(SecretStr(""), description="TiDB password")
    tidb_password_command: OptionalText = Field(
        "", description="Command whose output is the TiDB password, run before a connection is made"
    )
    tidb_ssl_ca: OptionalPath = Field(
        None, description="Certificates of the authorities to trust; when set, TLS is required and verified"
    )
    tidb_insecure: bool = Field(
        False, description="Whether production may reach a TiDB on another machine without verified TLS"
    )

    tidb_txn_mode: Literal["pessimistic", "optimistic"] = Field(
        "pessimistic", description="How transactions on TiDB begin: with locks, or with conflicts told at the commit"
    )

    rocksdb_path: RequiredPath = Field(
        Path("data/rocksdb"), description="The directory of the embedded RocksDB; one process at a time"
    )
    rocksdb_mode: Literal["primary", "read-only", "secondary"] = Field(
        "primary", description="Who opens it: the one that writes, or one that looks on, at a frozen or a moving view"
    )
    rocksdb_sync: bool = Field(False, description="Whether each write waits for the disk; else for the system only")

    cluster_create: bool | None = Field(
        None,
        description="Whether the tables of coordination are made at first use; unset: only when the environment is "
        "development",
    )

    kv_table: KVTable = Field(
        "p8fs_kv", description="Table of the key-value store on an SQL server, also as `schema.table`"
    )
    kv_create: bool | None = Field(
        None,
        description="Whether the table of the key-value store is made at first use; unset: only when the environment "
        "is development",
    )
    kv_max_value: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Most bytes of a value of the key-value store; unset: as many as the engine takes"
    )

    api_host: Host = Field("127.0.0.1", description="Address that the API listens on")
    api_port: Port = Field(8000, description="Port that the API listens on")

    log_level: LogLevel = Field("INFO", description="Least level that is logged")
    log_format: LogFormat = Field(DEFAULT_LOG_FORMAT, description="A %-style format of `logging`, or `json`")
    log_stream: Literal["stdout", "stderr"] | None = Field(
        None, description="Where records go; empty: to stdout, those of a command to stderr"
    )
    log_parameters: bool = Field(
        False, description="Whether errors of SQLAlchemy show the parameters of their statement"
    )
    log_file: OptionalPath = Field(None, description="File that records are appended to, besides the console")
    log_levels: dict[str, LogLevel] = Field(
        default_factory=dict, description="Levels by logger: `psycopg=WARNING,p8fs_api=DEBUG`, or a JSON object"
    )
    log_queue: bool = Field(False, description="Whether a thread of its own writes the records")
    log_file_max_bytes: Annotated[int, Field(ge=0)] = Field(
        0, description="Bytes from which on the log file is rotated, by any number of processes; 0: never"
    )
    log_file_backups: Annotated[int, Field(ge=1)] = Field(5, description="Rotated log files that are kept")

    auth_jwt_secret: Secret | None = Field(None, description="Key that signs tokens")
    auth_token_expiry: Annotated[int, Field(ge=1)] = Field(3600, description="Seconds that a token is valid")

    _sections: dict[type[sections.Section], sections.Section] = PrivateAttr(default_factory=dict)

    if TYPE_CHECKING:  # the fields' types are not those of what may be given

        def __init__(self, **values: Any) -> None: ...

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

    @property
    def pod(self) -> str:
        """The pod's name: as `pod_name` says, else in Kubernetes the host's name; empty elsewhere."""
        return self.pod_name or (os.environ.get("HOSTNAME", "") if "KUBERNETES_SERVICE_HOST" in os.environ else "")

    @property
    def reloads(self) -> bool:
        """Return whether `watch()` follows changed files: as `reload` says, else in development only."""
        return self.is_development if self.reload is None else self.reload

    @property
    def is_production(self) -> bool:
        """Return whether the process runs in production, however that is spelt.

        >>> [P8FSConfig(environment=name).is_production for name in ("Production", " prod", "staging")]
        [True, True, False]
        """
        return spelt(self.environment) == PRODUCTION[0]

    @property
    def is_development(self) -> bool:
        """Return whether the process runs in development, however that is spelt.

        >>> [P8FSConfig(environment=name).is_development for name in ("Development", "dev ", "test")]
        [True, True, False]
        """
        return spelt(self.environment) == DEVELOPMENT[0]

    def section(self, cls: type[S]) -> S:
        """Return a module's own settings, of this very snapshot.

        :raises ConfigurationError: the section was declared after the settings were read, and is not valid.
        """
        if not (isinstance(cls, type) and issubclass(cls, sections.Section)):
            raise ConfigurationError(f"{cls!r} is no section: declare a class of p8fs_cluster.Section")
        found = self._sections.get(cls)
        if not isinstance(found, cls):
            found = self._sections[cls] = cls.of(self._reading)
        return found

    def explain(self, name: str) -> Explanation:
        """Return the value of a setting, of the core or a section, where it comes from, and what lost against it.

        :raises ConfigurationError: there is no such setting.

        >>> print(P8FSConfig(pg_host="db").explain("pg_host"))
        P8FS_PG_HOST = 'db' from code
          over 'localhost' from the default
        """
        plain = sections.setting_of(name)
        owner = sections.owner(plain)
        if owner is None or not issubclass(owner, sections.Section):
            return super().explain(plain)
        return self.section(owner).explain(plain)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            owner = None if name.startswith("_") else sections.shown_on_config(name)
            if owner is None:
                return super().__getattr__(name)
            return getattr(self.section(owner), name.removeprefix(owner.prefix))

    def live_values(self) -> dict[str, Any]:
        """Return what the live view shows: the core's values, and those of sections declared with `on_config=True`."""
        parts = [(cls.prefix, part) for cls, part in self._sections.items() if cls._on_config]
        return {**vars(self), **{own + name: value for own, part in parts for name, value in vars(part).items()}}

    def values(self) -> Iterator[tuple[str, Any]]:
        """Yield every setting's name and value, those of the sections included."""
        yield from vars(self).items()
        for cls in sections.declared():
            yield from ((cls.prefix + name, value) for name, value in vars(self.section(cls)).items())

    def differing(self, other: P8FSConfig) -> frozenset[str]:
        """Return the names of the settings that have another value there.

        >>> sorted(P8FSConfig(pg_host="a").differing(P8FSConfig(pg_port=1)))
        ['pg_host', 'pg_port']
        """
        others = dict(other.values())
        return frozenset(name for name, value in self.values() if others.get(name) != value)

    @classmethod
    def _known(cls) -> Collection[str]:
        return {*cls.model_fields, *sections.names()}

    @classmethod
    def _alias_names(cls) -> Collection[str]:
        return sections.aliases().keys()

    @classmethod
    def _read(cls) -> Reading:
        return read(sections.NAMES)

    def _problems_in(self, reading: Reading) -> list[Problem]:
        problems = super()._problems_in(reading)
        made: dict[type[sections.Section], sections.Section] = {}
        for cls in sections.declared():
            try:
                made[cls] = cls.of(reading)
            except ConfigurationError as exc:
                problems.extend(exc.problems)
        unknown = judged(reading)
        if problems or (self.strict and unknown):
            return [*problems, *unknown]
        self._sections = made
        warn([*unknown, *self.notes()])
        return []

    def notes(self) -> list[Problem]:
        """Return what is no fault of the settings, and may be meant otherwise, such as a password in quotes."""
        parts = [self, *self._sections.values()]
        return [*self._reading.notes, *(note for part in parts for note in part._notes())]

    def changed_files(self) -> str:
        """Return which files are others now than when the settings were read, and why; empty if none is."""
        changed = ", ".join(map(str, self._reading.changed()))
        if not changed:
            return ""
        followed = "" if self.reloads else f", and changed files are not followed: {variable_of('reload')} says so"
        return f"{changed} changed since the settings were read{followed}"

    def _outdated(self, names: Collection[str]) -> str:
        told = super()._outdated(names)
        not_followed = f", and changed files are not followed ({variable_of('reload')})"
        return told + not_followed if told and not self.reloads else told


sections.claim(P8FSConfig)

if TYPE_CHECKING:

    class _Live(LiveConfig[P8FSConfig], P8FSConfig):
        """The live view has all that a snapshot has."""

    config: _Live
else:
    config = LiveConfig(P8FSConfig, "p8fs_cluster.config.settings:config", "p8fs_cluster:container.config.override")
