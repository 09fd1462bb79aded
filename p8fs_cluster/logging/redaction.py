"""Keeps secrets out of text: the values that the settings hold, and passwords in connection strings of any kind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

from p8fs_cluster.config.secrets import MASK, without_passwords
from p8fs_cluster.logging.fields import as_text

__all__ = ["Redactor"]

_KEYWORD_PASSWORD = re.compile(
    r"((?:password|passwd|pwd)(?:\s*=\s*|[\"']\s*:\s*))('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\s,;)&}\"']+)",
    re.IGNORECASE,
)
_PASSWORD_NAME = re.compile(r"(?:.*_)?(?:password|passwd|pwd)", re.IGNORECASE | re.DOTALL)


class _Known(NamedTuple):
    """The secrets, the pattern that finds their forms, and texts of which one is in every line that holds a form."""

    secrets: frozenset[str]
    pattern: re.Pattern[str] | None
    hints: tuple[str, ...]


class Redactor:
    """Replaces every known secret by `***`, as it is and as URLs, JSON and `repr` write it.

    >>> redact = Redactor(lambda: frozenset(["s3cret!"]))
    >>> redact("sent s3cret! to postgresql://me:other@db/app")
    'sent *** to postgresql://me:***@db/app'
    """

    def __init__(self, known: Callable[[], frozenset[str]]) -> None:
        self._secrets = known
        self._known = _Known(frozenset(), None, ())

    def __call__(self, text: str) -> str:
        """Return `text` without secrets."""
        return self._cleaned(text) if self.concerns(text) else text

    def concerns(self, text: str) -> bool:
        """Return whether a text, or a line of JSON, may hold a secret. It is cheap, and errs on the safe side."""
        for hint in self._forms().hints:
            if hint in text:
                return True
        if ":/" in text and "@" in text:
            return True
        lower = text.lower()
        return "passw" in lower or "pwd" in lower

    def value(self, value: Any) -> Any:
        """Return a `plain` value without secrets in its texts and numbers; what is named a password is one."""
        if isinstance(value, dict):
            return {self(name): self._named(name, item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if value is None or isinstance(value, bool):
            return value
        text = as_text(value)
        clean = self(text)
        return value if clean == text else clean

    def _named(self, name: str, value: Any) -> Any:
        return MASK if value not in (None, "") and _PASSWORD_NAME.fullmatch(name) else self.value(value)

    def _cleaned(self, text: str) -> str:
        pattern = self._forms().pattern
        if pattern:
            text = pattern.sub(MASK, text)
        text = without_passwords(text)
        return _KEYWORD_PASSWORD.sub(rf"\1{MASK}", text)

    def _forms(self) -> _Known:
        known = self._known
        if known.secrets is not (secrets := self._secrets()):
            forms = sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True)
            pattern = re.compile("|".join(map(_pattern_of, forms))) if forms else None
            written = {json.dumps(form, ensure_ascii=False)[1:-1] for form in forms} | set(forms)
            hints = tuple(hint for hint in written if not any(other != hint and other in hint for other in written))
            self._known = known = _Known(secrets, pattern, hints)
        return known


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
