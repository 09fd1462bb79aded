"""Times as the tables have them: microseconds of the database's clock."""

from __future__ import annotations

import datetime

__all__ = ["MICRO", "micro", "moment"]

MICRO = 1_000_000


def micro(seconds: float) -> int:
    """Return whole microseconds.

    >>> micro(1.5)
    1500000
    """
    return round(seconds * MICRO)


def moment(microseconds: int) -> datetime.datetime:
    """Return the time of so many microseconds since 1970, in UTC.

    >>> moment(1_500_000).isoformat()
    '1970-01-01T00:00:01.500000+00:00'
    """
    return datetime.datetime.fromtimestamp(microseconds / MICRO, datetime.UTC)
