"""Connection strings that every driver reads back to the very same parts."""

from __future__ import annotations

from urllib.parse import quote

__all__ = ["mysql_dsn", "postgresql_dsn", "unbracketed"]


def postgresql_dsn(host: str, port: int, database: str, user: str, password: str) -> str:
    """Return `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`; a socket directory as host goes into the query.

    Several hosts, separated by commas, are tried in turn.

    >>> postgresql_dsn("db", 5432, "app", "me", "p@ss")
    'postgresql://me:p%40ss@db:5432/app'
    >>> postgresql_dsn("/run/postgresql", 5432, "app", "me", "x")
    'postgresql://me:x@/app?host=%2Frun%2Fpostgresql&port=5432'
    """
    if host.startswith("/"):
        return f"postgresql://{_credentials(user, password)}@/{_quoted(database)}?host={_quoted(host)}&port={port}"
    hosts = ",".join(f"{_netloc(one)}:{port}" for one in host.split(","))
    return f"postgresql://{_credentials(user, password)}@{hosts}/{_quoted(database)}"


def mysql_dsn(host: str, port: int, database: str, user: str, password: str) -> str:
    """Return `mysql://USER:PASSWORD@HOST:PORT/DATABASE`; a socket file as host goes into the query.

    >>> mysql_dsn("::1", 4000, "test", "root", "")
    'mysql://root:@[::1]:4000/test'
    >>> mysql_dsn("/run/mysqld.sock", 4000, "test", "root", "")
    'mysql://root:@/test?unix_socket=%2Frun%2Fmysqld.sock'
    """
    if host.startswith("/"):
        return f"mysql://{_credentials(user, password)}@/{_quoted(database)}?unix_socket={_quoted(host)}"
    return f"mysql://{_credentials(user, password)}@{_netloc(host)}:{port}/{_quoted(database)}"


def unbracketed(host: str) -> str:
    """Return an IPv6 address without its brackets, any other host as it is.

    >>> unbracketed("[::1]"), unbracketed("db")
    ('::1', 'db')
    """
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def _credentials(user: str, password: str) -> str:
    return f"{_quoted(user)}:{_quoted(password)}"


def _netloc(host: str) -> str:
    address = unbracketed(host)
    return f"[{address.replace('%', '%25')}]" if ":" in address else _quoted(address)


def _quoted(text: str) -> str:
    return quote(text, safe="")
