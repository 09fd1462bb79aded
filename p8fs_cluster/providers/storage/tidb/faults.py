"""Judge what PyMySQL's errors mean for the server, apart from the statement that they ended."""

from __future__ import annotations

import pymysql
from pymysql.constants import CR

from p8fs_cluster.providers.storage.engines import Fault
from p8fs_cluster.providers.storage.tidb.session import number_of, tells_shutdown

__all__ = ["fault_of"]

_LATE = (1317, 1969, 3024)
"""A statement that was interrupted, by KILL QUERY or because it took too long: TiDB's, MariaDB's and MySQL's number."""

_LOST = (
    CR.CR_CONNECTION_ERROR,
    CR.CR_CONN_HOST_ERROR,
    CR.CR_SERVER_GONE_ERROR,
    CR.CR_SERVER_LOST,
    CR.CR_SERVER_LOST_EXTENDED,
)
_UNAVAILABLE = (*_LOST, 1040, 1053, 1927, 4031, 9001, 9002, 9003, 9005)
"""A session that is gone, a server that takes none, and a cluster whose parts don't answer (900x)."""


def fault_of(exc: BaseException) -> Fault | None:
    """Return what an error of PyMySQL tells of the server.

    >>> fault_of(pymysql.OperationalError(2013, "Lost connection")), fault_of(pymysql.IntegrityError(1062, "Duplicate"))
    (<Fault.UNAVAILABLE: 'no connection, or one that was lost'>, None)
    """
    if not isinstance(exc, pymysql.MySQLError):
        return None
    number = number_of(exc)
    if number in _LATE:
        return Fault.LATE
    closed = isinstance(exc, pymysql.InterfaceError) and not number  # the drivers' error of one that was closed before
    going = isinstance(exc, pymysql.OperationalError | pymysql.InternalError) and tells_shutdown(exc)
    return Fault.UNAVAILABLE if closed or going or number in _UNAVAILABLE else None
