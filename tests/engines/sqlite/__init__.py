"""SQLite as a fourth engine, which proves that one folder and one spec are all that it takes."""

from __future__ import annotations

from pathlib import Path

from p8fs_cluster import Section
from p8fs_cluster.providers.storage.engines import EngineSpec

__all__ = ["SPEC", "SQLiteSettings"]


class SQLiteSettings(Section, prefix="sqlite_"):
    """The engine's own settings."""

    path: Path = Path("data/app.db")


SPEC = EngineSpec(
    provider="sqlite",
    engine="tests.engines.sqlite.engine:SQLite",
    async_engine="tests.engines.sqlite.async_engine:AsyncSQLite",
    section=SQLiteSettings,
    shares=("pool_max_size", "pool_timeout", "pool_max_lifetime", "slow_query", "service_name"),
    sqlalchemy_url="sqlite+pysqlite://",
    embedded=True,
)
