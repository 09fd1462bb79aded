"""What SQLAlchemy's suite asks of a server: its own list, less what TiDB documents that it has not.

See https://docs.pingcap.com/tidb/stable/mysql-compatibility and, for indexes of temporary tables,
https://docs.pingcap.com/tidb/stable/temporary-tables.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.testing import exclusions
from sqlalchemy.testing.requirements import SuiteRequirements


class Requirements(SuiteRequirements):
    """The suite's own, by the server."""

    @property
    def temp_table_reflection(self) -> Any:
        """Return whether temporary tables have indexes that can be looked up."""
        return exclusions.skip_if(_is_tidb, "TiDB has no CREATE INDEX on temporary tables")


def _is_tidb(config: Any) -> bool:
    with config.db.connect() as connection:
        return "TiDB" in connection.exec_driver_sql("SELECT VERSION()").scalar()
