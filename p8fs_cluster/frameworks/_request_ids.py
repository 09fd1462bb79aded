"""Ids of requests: which ones are taken from a caller, and the header that answers with them."""

from __future__ import annotations

import re
import uuid

__all__ = ["HEADER", "KEY", "is_valid", "request_id_of"]

HEADER = "x-request-id"

KEY = "p8fs_cluster.request_id"
"""The key of the id in the ASGI scope or the WSGI environment: an instance further in leaves the request alone."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


def is_valid(given: object) -> bool:
    """Return whether an id may stand in a header and in every record as it is.

    >>> is_valid("req-77"), is_valid("two words")
    (True, False)
    """
    return isinstance(given, str) and _REQUEST_ID.fullmatch(given) is not None


def request_id_of(given: str) -> str:
    """Return the id that a caller gave, if it is valid, else a new one.

    >>> request_id_of("req-77"), len(request_id_of("two words"))
    ('req-77', 32)
    """
    return given if is_valid(given) else uuid.uuid4().hex
