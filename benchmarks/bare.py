"""The bare drivers that the handles are compared with."""

from __future__ import annotations

from typing import Any

import pymysql
from sqlalchemy.pool import QueuePool

from p8fs_cluster.config.settings import P8FSConfig

__all__ = ["pymysql_pool"]


def pymysql_pool(settings: P8FSConfig, *, autocommit: bool = False, **options: Any) -> QueuePool:
    """Return SQLAlchemy's pool, with its defaults or other options, of PyMySQL's connections."""
    return QueuePool(
        lambda: pymysql.connect(
            host=settings.tidb_host,
            port=settings.tidb_port,
            user=settings.tidb_user,
            password=settings.tidb_password.get_secret_value(),
            database=settings.tidb_database,
            autocommit=autocommit,
        ),
        **options,
    )
