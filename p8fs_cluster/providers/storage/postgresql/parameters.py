"""The parameters that psycopg connects with."""

from __future__ import annotations

import logging
import os
from functools import cache
from typing import Any

import psycopg

from p8fs_cluster.config.dsn import unbracketed
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.providers.storage.passwords import password_of
from p8fs_cluster.providers.storage.sockets import addresses

__all__ = ["is_refusal", "parameters"]

log = logging.getLogger("p8fs_cluster.storage")


def parameters(settings: P8FSConfig) -> dict[str, Any]:
    """Return what psycopg connects with. `connect_timeout` is for each address, and 2 is libpq's least."""
    hosts = [unbracketed(host) for host in settings.pg_host.split(",")]
    unanswered = 1000 * (settings.query_timeout or 0)
    parameters: dict[str, Any] = {
        "host": ",".join(hosts),
        "port": settings.pg_port,
        "dbname": settings.pg_database,
        "user": settings.pg_user,
        "password": password_of(settings, "pg_password"),
        "sslmode": settings.pg_sslmode,
        "target_session_attrs": settings.pg_target_session_attrs,
        "connect_timeout": max(2, int(settings.pool_timeout / sum(len(addresses(host)) for host in hosts))),
        "application_name": "@".join(filter(None, (settings.service_name, settings.pod_name))),
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": round(unanswered),
    }
    for name in ("sslrootcert", "sslcert", "sslkey"):
        if path := getattr(settings, f"pg_{name}"):
            parameters[name] = str(path)
    if settings.pg_pgbouncer:
        parameters["prepare_threshold"] = None
    elif settings.pg_statement_timeout:
        parameters["options"] = f"-c statement_timeout={1000 * settings.pg_statement_timeout:.0f}"
    return {**_not_from_the_environment(), **parameters}


def is_refusal(exc: psycopg.Error) -> bool:
    """Return whether the server has refused the password."""
    return "authentication failed" in str(exc)


@cache
def _tell_once(names: tuple[str, ...]) -> None:
    """Log which variables steer sessions, once: the settings are asked for at each connect."""
    log.warning("libpq gives every session what %s says, and no setting overrules that: unset it", ", ".join(names))


_UNSET = ("hostaddr", "options", "requirepeer", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslcrldir")
"""Options of libpq that have no default, and for which an empty text stands for none."""


def _not_from_the_environment() -> dict[str, Any]:
    """Return libpq's own defaults for what variables such as PGOPTIONS or PGHOSTADDR would set beside our settings.

    What a service of PGSERVICE sets is overruled as well. Three variables make settings of the session and can't be.
    """
    if steering := tuple(name for name in ("PGTZ", "PGDATESTYLE", "PGGEQO") if name in os.environ):
        _tell_once(steering)
    named = {}
    for option in psycopg.pq.Conninfo.get_defaults():
        keyword, variable = option.keyword.decode(), (option.envvar or b"").decode()
        by_service = "PGSERVICE" in os.environ and (option.compiled is not None or keyword in _UNSET)
        if keyword not in ("service", "servicefile") and (variable in os.environ or by_service):
            named[keyword] = (option.compiled or b"").decode()
    return named
