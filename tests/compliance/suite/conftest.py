"""Lets the suite make its engines over our handle if COMPLIANCE is "handle"; the settings are in the environment."""

from __future__ import annotations

import os
from typing import Any

import pytest
import sqlalchemy

pytest.register_assert_rewrite("sqlalchemy.testing.assertions")

from sqlalchemy.testing.plugin.pytestplugin import *  # noqa: E402, F403

POOL_OPTIONS = ("poolclass", "pool_size", "max_overflow", "pool_recycle", "pool_pre_ping", "pool_use_lifo")

if os.environ["COMPLIANCE"] == "handle":
    from p8fs_cluster import container
    from p8fs_cluster.providers.sql import SqlEngines

    bare = sqlalchemy.create_engine
    engines = SqlEngines(container.storage())

    def create_engine(url: Any, **options: Any) -> Any:
        """Make an engine over the handle, whose pool is not to be chosen."""
        if "creator" in options or "module" in options or sqlalchemy.make_url(url).get_backend_name() == "sqlite":
            return bare(url, **options)
        return engines.made(url, **{name: value for name, value in options.items() if name not in POOL_OPTIONS})

    sqlalchemy.create_engine = create_engine
