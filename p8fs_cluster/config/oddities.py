"""Text that can hardly be meant: blanks and quotes around it, and a URL or a port in the place of a host."""

from __future__ import annotations

__all__ = ["host", "hosts", "name", "oddity"]


def oddity(text: str) -> str | None:
    """Return what is odd about the ends of a text, None if nothing is.

    >>> oddity("'db'"), oddity(" db"), oddity("db")
    ('is in quotes, which an env file has kept', 'has a blank at its beginning or end', None)
    """
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return "is in quotes, which an env file has kept"
    return "has a blank at its beginning or end" if text != text.strip() else None


def name(text: str) -> str:
    """Return a text that is no secret without blanks around it.

    :raises ValueError: it is in quotes.

    >>> name(" db ")
    'db'
    """
    text = text.strip()
    told = oddity(text)
    if told:
        raise ValueError(f"{told}: take them off")
    return text


def host(text: str) -> str:
    """Return a host, or a path of a socket.

    :raises ValueError: it is a URL, has a port, is several, or has what no host has.

    >>> host(" db1 "), host("[::1]"), host("/run/mysqld.sock")
    ('db1', '[::1]', '/run/mysqld.sock')
    """
    text = name(text)
    if "," in text:
        raise ValueError("must be one host, not several")
    return hosts(text)


def hosts(text: str) -> str:
    """Return a host, a path of a socket, or several hosts separated by commas.

    :raises ValueError: one of them is a URL, has a port, or what no host has.

    >>> hosts("db1, db2"), hosts("/run/postgresql")
    ('db1,db2', '/run/postgresql')
    """
    text = name(text)
    if text.startswith("/"):
        return text
    if "://" in text:
        raise ValueError("must be a host, not a URL: port, user, password and database have settings of their own")
    return ",".join(_one(part.strip()) for part in text.split(","))


def _one(text: str) -> str:
    address = text.removeprefix("[").partition("]")
    if not text:
        raise ValueError("has a comma with no host before or behind it")
    if text.startswith("[") and address[1] and not address[2]:
        return text
    if text.startswith("[") or text.count(":") == 1:
        raise ValueError("must be a host without a port: the port has a setting of its own")
    if any(character in "/@?#\"'" or character.isspace() for character in text):
        raise ValueError("must be a host: a name or an address, without user, path or blanks")
    return text
