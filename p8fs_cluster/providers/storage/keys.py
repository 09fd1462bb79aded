"""A range of an embedded store's keys."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Span"]


@dataclass(frozen=True)
class Span:
    """The keys from `start` to before `stop`, in the order of bytes; None: to the end.

    >>> Span.of(b"note:", None, b"note:7"), b"note:6" in Span.of(b"note:", None, None)
    (Span(start=b'note:', stop=b'note:7'), True)
    """

    start: bytes
    stop: bytes | None

    @classmethod
    def of(cls, prefix: bytes, start: bytes | None, stop: bytes | None) -> Span:
        """Return the keys with a prefix, of these those between two others."""
        stem = prefix.rstrip(b"\xff")
        after = stem[:-1] + bytes([stem[-1] + 1]) if stem else None
        ends = [end for end in (after, stop) if end is not None]
        return cls(max(prefix, start or b""), min(ends, default=None))

    def after(self, last: bytes, reverse: bool = False) -> Span:
        """Return what is left of the range after a page that ended with a key.

        >>> Span(b"a", b"z").after(b"k"), Span(b"a", b"z").after(b"k", reverse=True)
        (Span(start=b'k\\x00', stop=b'z'), Span(start=b'a', stop=b'k'))
        """
        return Span(self.start, last) if reverse else Span(last + b"\0", self.stop)

    @property
    def is_empty(self) -> bool:
        """Return whether no key can be in it."""
        return self.stop is not None and self.start >= self.stop

    def __contains__(self, key: bytes) -> bool:
        return key >= self.start and (self.stop is None or key < self.stop)
