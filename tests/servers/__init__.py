"""Real servers for tests and benchmarks: those that the environment names, else private ones that end with the block.

`P8FS_TEST_POSTGRES_URL`, `P8FS_TEST_MARIADB_URL` and `P8FS_TEST_TIDB_URL` name servers to use (databases in which
tables may be made). Without them, throwaway servers are started on free ports of 127.0.0.1: PostgreSQL and MariaDB from
the binaries on the machine, or from Debian's packages, which are installed if we are root or may use sudo; else the
failure says what to install. TiDB is the one that `make tidb` built. A missing server is never a silent skip: the run's
header says which there are.
"""

from __future__ import annotations

from tests.servers.mysql import has_tidb, mariadb, tidb
from tests.servers.postgresql import pgbouncer, postgresql, replica
from tests.servers.server import GIVEN, Server, ServerMissing, free_port
from tests.tidb.binary import RELEASE

__all__ = [
    "MYSQL",
    "SQL",
    "STARTED",
    "Server",
    "ServerMissing",
    "described",
    "free_port",
    "mariadb",
    "pgbouncer",
    "postgresql",
    "replica",
    "tidb",
]

STARTED = {"postgresql": postgresql, "mariadb": mariadb, "tidb": tidb}
"""Kind of server → what gives one for a block."""

MYSQL = ("mariadb", "tidb") if has_tidb() else ("mariadb",)
"""The kinds there are of those that speak MySQL's protocol, the engine `tidb`."""

SQL = ("postgresql", *MYSQL)
"""The kinds there are of those that speak SQL."""


_NAMES = {
    "postgresql": ("PostgreSQL", "P8FS_TEST_POSTGRES_URL"),
    "mariadb": ("MariaDB", "P8FS_TEST_MARIADB_URL"),
    "tidb": (f"TiDB {RELEASE}", "P8FS_TEST_TIDB_URL"),
}


def described() -> str:
    """Return the servers that the tests have, for the header of a run."""
    names = [_NAMES[kind] for kind in SQL]
    told = [f"{name.split()[0]} that {url} names" if url in GIVEN else f"private {name}" for name, url in names]
    missing = "" if "tidb" in SQL else "; no TiDB: `make tidb` builds one, P8FS_TEST_TIDB_URL names one"
    return ", ".join(told) + missing
