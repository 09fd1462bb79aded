"""Keeps secrets out of text: the values that the settings hold, and passwords in connection strings of any kind."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus

__all__ = ["Redactor"]

MASK = "***"
_DSN_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/?#@]*:)[^\s/]*(?=@)", re.IGNORECASE)
_KEYWORD_PASSWORD = re.compile(r"\b((?:password|passwd|pwd)\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s,;)&]+)", re.IGNORECASE)


class Redactor:
    """Replaces every known secret by `***`. It only ever learns: a secret stays one after its rotation.

    >>> redactor = Redactor()
    >>> redactor.learn(["s3cret!"])
    >>> redactor("sent s3cret! to postgresql://me:other@db/app")
    'sent *** to postgresql://me:***@db/app'
    """

    def __init__(self) -> None:
        self._known: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None

    def learn(self, secrets: Iterable[str]) -> None:
        """Mask these values from now on, as they are and as URLs, JSON and `repr` write them."""
        fresh = frozenset(secrets) - self._known - {""}
        if fresh:
            self._known |= fresh
            forms = {form for secret in self._known for form in _forms(secret)}
            self._pattern = re.compile("|".join(map(_pattern_of, sorted(forms, key=len, reverse=True))))

    def __call__(self, text: str) -> str:
        """Return `text` without secrets."""
        if self._pattern:
            text = self._pattern.sub(MASK, text)
        if "://" in text:
            text = _DSN_PASSWORD.sub(rf"\1{MASK}", text)
        if "=" in text:
            text = _KEYWORD_PASSWORD.sub(rf"\1{MASK}", text)
        return text

    def value(self, value: Any, depth: int = 8) -> Any:
        """Return `value` for JSON without secrets in its strings; what is nested deeper than `depth` becomes text."""
        if isinstance(value, dict) and depth:
            return {self(str(key)): self.value(item, depth - 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)) and depth:
            return [self.value(item, depth - 1) for item in value]
        return value if isinstance(value, (int, float, bool, type(None))) else self(str(value))


def _forms(secret: str) -> set[str]:
    return {
        secret,
        quote(secret, safe=""),
        quote_plus(secret),
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
    }


def _pattern_of(form: str) -> str:
    """Very short secrets are masked only as a word of their own: "a" would leave no record readable."""
    return re.escape(form) if len(form) > 3 else rf"(?<!\w){re.escape(form)}(?!\w)"
