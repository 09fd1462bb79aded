"""Keeps secrets out of text: the values that the settings hold, and passwords in connection strings of any kind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

from p8fs_cluster.config.secrets import MASK, without_passwords

__all__ = ["Redactor"]

_KEYWORD_PASSWORD = re.compile(r"\b((?:password|passwd|pwd)\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s,;)&]+)", re.IGNORECASE)


class Redactor:
    """Replaces every known secret by `***`, as it is and as URLs, JSON and `repr` write it.

    >>> redact = Redactor(lambda: frozenset(["s3cret!"]))
    >>> redact("sent s3cret! to postgresql://me:other@db/app")
    'sent *** to postgresql://me:***@db/app'
    """

    def __init__(self, known: Callable[[], frozenset[str]]) -> None:
        self._known = known
        self._compiled: tuple[frozenset[str], re.Pattern[str] | None] = (frozenset(), None)

    def __call__(self, text: str) -> str:
        """Return `text` without secrets."""
        pattern = self._pattern()
        if pattern:
            text = pattern.sub(MASK, text)
        text = without_passwords(text)
        return _KEYWORD_PASSWORD.sub(rf"\1{MASK}", text) if "=" in text else text

    def _pattern(self) -> re.Pattern[str] | None:
        known, pattern = self._compiled
        if known is not self._known():
            known = self._known()
            forms = sorted({form for secret in known for form in _forms(secret)}, key=len, reverse=True)
            pattern = re.compile("|".join(map(_pattern_of, forms))) if forms else None
            self._compiled = known, pattern
        return pattern

    def value(self, value: Any, depth: int = 8) -> Any:
        """Return `value` for JSON without secrets in its strings; what is nested deeper than `depth` becomes text."""
        if isinstance(value, dict) and depth:
            return {self(str(key)): self.value(item, depth - 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)) and depth:
            return [self.value(item, depth - 1) for item in value]
        return value if isinstance(value, (int, float, bool, type(None))) else self(str(value))


def _forms(secret: str) -> set[str]:
    quoted = {quote(secret, safe=""), quote(secret), quote_plus(secret)}
    return {
        secret,
        *quoted,
        *(re.sub("%[0-9A-F]{2}", lambda escape: escape[0].lower(), form) for form in quoted),
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
    }


def _pattern_of(form: str) -> str:
    """Very short secrets are masked only as a word of their own: "a" would leave no record readable."""
    return re.escape(form) if len(form) > 3 else rf"(?<!\w){re.escape(form)}(?!\w)"
