"""The table of the key-value store, by version."""

from __future__ import annotations

import contextlib

from p8fs_cluster.exceptions import StorageError
from p8fs_cluster.providers.storage.kv_rows import KeyRows
from p8fs_cluster.providers.storage.tables import Executing, Step, Tables

__all__ = ["PATIENCE", "create", "of"]

PATIENCE = 60.0
"""Seconds for a statement that makes a table."""


def of(rows: KeyRows) -> Tables:
    """Return the table that an engine keeps keys in, and how it is made."""
    made = (
        "CREATE TABLE IF NOT EXISTS $table (k $key NOT NULL PRIMARY KEY, v $value NOT NULL, version BIGINT NOT NULL, "
        "expires_at BIGINT $by_end)"
    )
    return Tables(
        "the key-value store",
        "run `p8fs-cluster kv init`, or set P8FS_KV_CREATE=true",
        "$versions",
        ("$table",),
        "k",
        (Step(1, (made, *rows.indexes)),),
    )


def create(store: Executing, rows: KeyRows) -> list[int]:
    """Make the table, and its schema if one is named and missing, and return the versions that were added.

    :raises StorageError: a statement failed; what was done stays, and the next call goes on from there.
    """
    tables = of(rows)
    if "." in rows.table and not tables.version_of(store, PATIENCE):
        with contextlib.suppress(StorageError):  # who may not make one may still use it: the table's fault tells more
            store.execute("CREATE SCHEMA IF NOT EXISTS $schema", (), PATIENCE)
    return tables.create(store, PATIENCE)
