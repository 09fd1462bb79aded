"""A module's own container on top of ours: its services get the shared storage, and settings reach all of it.

python -m examples.own_container
"""

from __future__ import annotations

from logging import Logger

from dependency_injector import providers

from p8fs_cluster import Container, Provide, Storage, inject


class Counters:
    """A service that keeps numbers, built once, handed a storage handle that it may keep."""

    def __init__(self, storage: Storage, log: Logger) -> None:
        self._storage = storage
        self._log = log

    def add(self, name: str) -> int:
        """Count one more and return the number."""
        with self._storage as database:
            number = int(database.get(name.encode()) or b"0") + 1
            database[name.encode()] = str(number).encode()
        self._log.info("%s is now %d", name, number)
        return number


class Application(Container):
    """Ours, and what this module adds."""

    counters = providers.Singleton(Counters, Container.storage, providers.Callable(Container.logger, "p8fs_node"))


@inject
def visit(counters: Counters = Provide[Application.counters]) -> int:
    """Count a visit."""
    return counters.add("visits")


def main() -> None:
    """Count two visits, one elsewhere, and one more."""
    with Application(config={"storage_provider": "rocksdb", "rocksdb_path": "data/first"}) as application:
        first = visit()
        with application.config.override({"rocksdb_path": "data/second"}):
            elsewhere = visit()
        print(f"{visit() - first} visit after the first; the override counted {elsewhere} in a database of its own")


if __name__ == "__main__":
    main()
