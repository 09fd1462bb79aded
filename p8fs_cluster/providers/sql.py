"""SQLAlchemy over the storage handle: its engine borrows each connection from the pool that is in force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p8fs_cluster.config.problems import variable_of
from p8fs_cluster.di.teardown import Lasting
from p8fs_cluster.exceptions import StorageError
from p8fs_cluster.providers.storage.handle import Storage

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

__all__ = ["SqlEngines"]


class SqlEngines(Lasting):
    """Gives the SQLAlchemy engine for the provider in force. One engine object a provider, valid across swaps."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._engines: dict[str, Engine] = {}

    def current(self) -> Engine:
        """Return the engine; it opens nothing until it is used. If the store has no SQL, its use is a StorageError."""
        url = self._storage.sqlalchemy_url or f"sqlite:///{self._storage.provider} has no SQL"
        engine = self._engines.get(url) or self._engines.setdefault(url, self.made(url))
        engine.hide_parameters = not self._storage._settings().log_parameters
        return engine

    def session(self) -> Session:
        """Return a new session of SQLAlchemy's ORM over the engine in force: use it with `with`, and commit."""
        from sqlalchemy.orm import Session

        return Session(self.current())

    def made(self, url: str, **options: Any) -> Engine:
        """Return a new engine over the handle, with further options of `sqlalchemy.create_engine`.

        Its errors show no parameters of statements, unless `log_parameters` says so, as slow statements don't.
        """
        from sqlalchemy import create_engine, event
        from sqlalchemy.pool import NullPool

        ours = self._storage.sqlalchemy_url
        options = {"hide_parameters": not self._storage._settings().log_parameters, **options}
        engine: Engine = create_engine(url, creator=lambda: self._borrowed(engine, ours), poolclass=NullPool, **options)
        event.listen(engine, "invalidate", _end)
        return engine

    def _borrowed(self, engine: Engine, ours: str | None) -> Any:
        if self._storage.sqlalchemy_url is None:
            raise StorageError(
                f"{self._storage.provider} has no SQL, so no SQLAlchemy engine can use it: "
                f"set {variable_of('storage_provider')} to an engine that has, or use container.storage()"
            )
        if self._storage.sqlalchemy_url != ours:
            raise StorageError(
                f"this SQLAlchemy engine speaks {engine.url.drivername}, but the settings now name "
                f"{self._storage.provider}: call container.engine() again"
            )
        _, given = engine.dialect.create_connect_args(engine.url)  # a creator has to give what the dialect wants
        checkout = self._storage.connection()
        connection = checkout.__enter__()
        if "context" in given:
            connection.adapt(given["context"])
        connection.give_back = lambda: checkout.__exit__(RollBack, _ROLL_BACK, None)
        return connection


def _end(connection: Any, *_: object) -> None:
    """End a connection that SQLAlchemy has invalidated: its `close` would give it back, to be lent again."""
    if connection is not None:
        connection.end()


class RollBack(Exception):
    """Told to the checkout when SQLAlchemy gives a connection back: what it had to commit, it has committed."""


_ROLL_BACK = RollBack()
