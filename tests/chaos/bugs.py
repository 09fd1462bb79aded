"""Bugs that others have had, each as a change of our code: the checker has to find every one of them."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["SEEDED"]

SEEDED: dict[str, Callable[[], None]] = {}
"""Name → what seeds it in this process."""
