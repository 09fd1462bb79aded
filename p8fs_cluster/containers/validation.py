"""Validation at start: the settings, and a connection that really works."""

from __future__ import annotations

from typing import Any

from p8fs_cluster.config.spelling import judge
from p8fs_cluster.containers.default import active
from p8fs_cluster.exceptions import ConfigurationError, StorageError
from p8fs_cluster.health.checks import steps

__all__ = ["validate_configuration"]


def validate_configuration(container: Any | None = None) -> None:
    """Check settings, names, log file and one round trip to the storage of `container`, by default the active one.

    Call it when a service starts: what it opens is what the service then uses.

    :raises ConfigurationError: the settings can't be used, their last reload failed, or no connection works with them.

    >>> from p8fs_cluster import Container
    >>> with Container(config={"storage_provider": "rocksdb", "rocksdb_path": "data/validated"}) as container:
    ...     validate_configuration(container)
    """
    container = active() if container is None else container
    judge(container.config)
    for step in steps(container.config, container.storage()):
        if isinstance(step.fault, StorageError):
            raise ConfigurationError(
                f"the settings are valid, but the storage does not work: {step.fault}"
            ) from step.fault
        if step.fault is not None:
            raise step.fault
