"""The meaning of errors of MySQL's protocol when there is no connection."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import ClassVar

from p8fs_cluster.exceptions import StorageTimeout, StorageUnavailable
from p8fs_cluster.providers.storage.messages import Messages
from p8fs_cluster.providers.storage.tidb.session import number_of, text_of

__all__ = ["TiDBMessages"]

_FAULTS: Mapping[int, tuple[tuple[str, ...], str]] = {
    1044: (("tidb_user", "tidb_database"), "grant the user access to the database"),
    1045: (("tidb_user", "tidb_password"), "check user and password (caching_sha2_password needs TLS on TiDB)"),
    1049: (("tidb_database",), "check its name, or create it"),
    1698: (("tidb_user", "tidb_password"), "check user and password"),
    2059: (("tidb_user",), "let the user have mysql_native_password, or caching_sha2_password with TLS"),
    2026: (("tidb_ssl_ca", "tidb_host"), "check the TLS settings"),
}
"""The server's or the drivers' error number → the settings at fault and the way out."""


class TiDBMessages(Messages):
    """Messages about one server."""

    provider: ClassVar[str] = "tidb"
    prefix: ClassVar[str] = "tidb"

    def unavailable(self, exc: BaseException) -> StorageUnavailable:
        if isinstance(exc, StorageTimeout):
            return StorageUnavailable(self.no_answer())
        text, number = text_of(exc), number_of(exc)
        if refusal := _tls_refusal(exc):
            text, number = text_of(refusal), 2026
        names, way_out = _FAULTS.get(number, ((), ""))
        return StorageUnavailable(self.at_fault(text, way_out, *names) if names else self.no_connection(text))


def _tls_refusal(exc: BaseException | None) -> ssl.SSLError | None:
    """Return what was wrong with the server's certificate; the drivers tell of it as of a server that is not there."""
    while exc is not None and not isinstance(exc, ssl.SSLError):
        exc = exc.__cause__ or exc.__context__
    return exc
