"""The meaning of PostgreSQL's and libpq's errors when there is no connection."""

from __future__ import annotations

from typing import ClassVar

from p8fs_cluster.exceptions import StorageUnavailable
from p8fs_cluster.providers.storage.messages import Messages
from p8fs_cluster.providers.storage.postgresql.session import text_of

__all__ = ["PostgreSQLMessages"]

_FAULTS = (
    ("password authentication failed", ("pg_user", "pg_password"), "check user and password"),
    ("no password supplied", ("pg_password",), "set the password"),
    ('role "', ("pg_user",), "check the user, or create it"),
    ('database "', ("pg_database",), "check its name, or create it"),
    ("does not support SSL", ("pg_sslmode",), "start the server with TLS, or allow plain connections"),
    ("certificate", ("pg_sslmode", "pg_sslrootcert", "pg_sslcert"), "check the TLS settings"),
    ("private key", ("pg_sslcert", "pg_sslkey"), "check the TLS settings"),
    ("definition of service", ("pg_host",), "unset PGSERVICE, which is none of our settings"),
    ("unsupported startup parameter", ("pg_pgbouncer", "pg_statement_timeout"), "a PgBouncer is in between: say so"),
    ("server is ", ("pg_host", "pg_target_session_attrs"), "name a host that will do, or ask for less"),
    ("SSL connection", ("pg_sslmode", "pg_sslrootcert"), "check the TLS settings"),
)
"""Text of the server's or libpq's message → the settings at fault and the way out."""


class PostgreSQLMessages(Messages):
    """Messages about one server, or the hosts that are tried for it."""

    provider: ClassVar[str] = "postgresql"
    prefix: ClassVar[str] = "pg"

    def unavailable(self, exc: BaseException) -> StorageUnavailable:
        text = text_of(exc)
        for words, names, way_out in _FAULTS:
            if words in text:
                return StorageUnavailable(self.at_fault(text, way_out, *names))
        return StorageUnavailable(self.no_connection(text))
