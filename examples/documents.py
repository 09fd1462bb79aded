"""A service that takes in text files: it stores them, indexes their words, and answers which files hold a word.

    python -m examples.documents [FOLDER] [WORD ...]

The functions marked with `@inject` are the service. They receive the storage and a logger; none reads a setting. Which
store it is, `P8FS_STORAGE_PROVIDER` decides; their callers do not notice.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from logging import Logger
from pathlib import Path
from typing import Annotated, Any, Protocol

from p8fs_cluster import ClusterError, Container, Provide, Storage, inject

TEXT = ("*.md", "*.txt", "*.rst")
WORD = re.compile(r"[^\W\d_]{3,}")


class Documents(Protocol):
    """What the service needs of a store, in the course of one `with` block."""

    def put(self, name: str, text: str, words: set[str]) -> None: ...
    def names_with(self, word: str) -> list[str]: ...
    def count(self) -> int: ...


class SqlDocuments:
    """The same text of SQL on Postgres and on TiDB."""

    SCHEMA = (
        "CREATE TABLE IF NOT EXISTS documents (name VARCHAR(200) PRIMARY KEY, body TEXT NOT NULL)",
        "CREATE TABLE IF NOT EXISTS document_words (word VARCHAR(64), name VARCHAR(200), PRIMARY KEY (word, name))",
    )

    def __init__(self, connection: Any) -> None:
        self._cursor = connection.cursor()

    def put(self, name: str, text: str, words: set[str]) -> None:
        self._cursor.execute("DELETE FROM document_words WHERE name = %s", (name,))
        self._cursor.execute("DELETE FROM documents WHERE name = %s", (name,))
        self._cursor.execute("INSERT INTO documents VALUES (%s, %s)", (name, text))
        self._cursor.executemany("INSERT INTO document_words VALUES (%s, %s)", [(word[:64], name) for word in words])

    def names_with(self, word: str) -> list[str]:
        self._cursor.execute("SELECT name FROM document_words WHERE word = %s ORDER BY name", (word,))
        return [name for (name,) in self._cursor.fetchall()]

    def count(self) -> int:
        self._cursor.execute("SELECT count(*) FROM documents")
        count: int = self._cursor.fetchone()[0]
        return count


class KeyedDocuments:
    """Bytes by key, on RocksDB and on the in-memory store of the tests."""

    def __init__(self, connection: Any) -> None:
        self._database = connection

    def put(self, name: str, text: str, words: set[str]) -> None:
        known = self._list(b"documents")
        for word in set(self._list(f"words of {name}".encode())) - words:
            self._save(f"word {word}".encode(), set(self._list(f"word {word}".encode())) - {name})
        for word in words:
            self._save(f"word {word}".encode(), {*self._list(f"word {word}".encode()), name})
        self._save(f"words of {name}".encode(), words)
        self._save(b"documents", {*known, name})
        self._database[f"document {name}".encode()] = text.encode()

    def names_with(self, word: str) -> list[str]:
        return sorted(self._list(f"word {word}".encode()))

    def count(self) -> int:
        return len(self._list(b"documents"))

    def _list(self, key: bytes) -> list[str]:
        found: list[str] = json.loads(self._database.get(key) or b"[]")
        return found

    def _save(self, key: bytes, names: Iterable[str]) -> None:
        self._database[key] = json.dumps(sorted(names)).encode()


@contextmanager
def documents(storage: Storage) -> Iterator[Documents]:
    """Borrow a connection and give the documents in it; the block's end commits."""
    with storage.connection() as connection:
        yield SqlDocuments(connection) if storage.sqlalchemy_url else KeyedDocuments(connection)


@inject
def prepare(storage: Storage = Provide[Container.storage]) -> None:
    """Make the tables, where there are tables."""
    for statement in SqlDocuments.SCHEMA if storage.sqlalchemy_url else ():
        storage.execute(statement)


@inject
def take_in(
    paths: Iterable[Path],
    storage: Annotated[Storage, Provide[Container.storage]],
    log: Annotated[Logger, Provide[Container.logger]],
) -> int:
    """Store each text file with its words; return how many. A file that is no UTF-8 text is passed over."""
    taken = 0
    for path in paths:
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            log.warning("passed over %s: %s", path, exc)
            continue
        with documents(storage) as store:
            store.put(path.as_posix()[-200:], text.replace("\x00", ""), {word.lower() for word in WORD.findall(text)})
        log.info("took in %s (%d characters)", path, len(text))
        taken += 1
    return taken


@inject
def find(word: str, storage: Storage = Provide[Container.storage]) -> list[str]:
    """Return the names of the documents that hold `word`."""
    with documents(storage) as store:
        return store.names_with(word.lower()[:64])


@inject
def count(storage: Storage = Provide[Container.storage]) -> int:
    """Return how many documents are stored."""
    with documents(storage) as store:
        return store.count()


def text_files(folder: Path) -> list[Path]:
    """Return the text files below a folder, hidden folders left out."""
    found = {path for pattern in TEXT for path in folder.rglob(pattern) if path.is_file()}
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def main(arguments: list[str]) -> int:
    """Take in a folder, by default this one, and look words up."""
    folder, words = Path(arguments[0] if arguments else "."), arguments[1:] or ["storage", "settings", "container"]
    if not folder.is_dir():
        print(f"{folder} is not a folder", file=sys.stderr)
        return 2
    try:
        with Container() as container:
            prepare()
            taken = take_in(text_files(folder))  # type: ignore[call-arg]  # the rest is injected
            provider = container.storage().provider
            print(f"Took in {taken} text files of {folder}; {count()} are stored in {provider}.")
            for word in words:
                print(f"  {word!r} is in {', '.join(find(word)) or 'none'}")
    except ClusterError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
