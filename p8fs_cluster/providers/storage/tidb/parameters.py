"""The parameters that PyMySQL connects with."""

from __future__ import annotations

import ssl
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from pymysql.constants import CLIENT

from p8fs_cluster.config.dsn import unbracketed
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import StorageUnavailable
from p8fs_cluster.providers.storage.messages import Messages
from p8fs_cluster.providers.storage.passwords import password_of

__all__ = ["opportunistic_tls", "parameters"]

_LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")


def parameters(settings: P8FSConfig, messages: Messages) -> dict[str, Any]:
    """Return what PyMySQL connects with."""
    parameters: dict[str, Any] = {
        "user": settings.tidb_user,
        "password": password_of(settings, "tidb_password").encode(),  # a str would be sent as Latin-1
        "database": settings.tidb_database,
        "program_name": settings.service_name,
        "autocommit": None,  # `begin_session` turns it off
        "client_flag": CLIENT.FOUND_ROWS,  # SQLAlchemy counts on it: an UPDATE's rows are those it has found
    }
    if settings.tidb_host.startswith("/"):
        parameters["unix_socket"] = settings.tidb_host
    else:
        parameters |= {"host": unbracketed(settings.tidb_host), "port": settings.tidb_port}
    elsewhere = not settings.tidb_host.startswith("/") and settings.tidb_host not in _LOOPBACK
    if settings.is_production and elsewhere and not (settings.tidb_ssl_ca or settings.tidb_insecure):
        names = ("tidb_ssl_ca", "tidb_insecure", "environment")
        raise StorageUnavailable(messages.at_fault("production needs verified TLS", "name a file of CAs", *names))
    if settings.tidb_ssl_ca:
        parameters["ssl"] = _verified_tls(settings.tidb_ssl_ca, messages)
    return parameters


def _verified_tls(authorities: Path, messages: Messages) -> ssl.SSLContext:
    try:
        changed = authorities.stat()
        return _trusting(authorities, (changed.st_mtime_ns, changed.st_size, changed.st_ino))
    except OSError as exc:
        fault = f"{authorities} holds no usable certificates ({exc})"
        raise StorageUnavailable(messages.at_fault(fault, "name another file", "tidb_ssl_ca")) from exc


@lru_cache(8)
def _trusting(authorities: Path, version: object) -> ssl.SSLContext:
    """Return a context that trusts a file's authorities, made anew when the file has changed: it takes 20 ms."""
    del version
    return ssl.create_default_context(cafile=authorities)


@cache
def opportunistic_tls() -> ssl.SSLContext:
    """TLS when the server offers it, unverified: what PyMySQL does when nothing is said. `tidb_ssl_ca` verifies."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
