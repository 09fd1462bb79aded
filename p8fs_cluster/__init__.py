"""Settings in; ready storage connections, loggers and API settings out. Importing this loads and reads nothing.

from p8fs_cluster import Container, Provide, container, inject
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` would be nearly all that this import costs
if TYPE_CHECKING:
    from p8fs_cluster.config.secrets import NotSecret as NotSecret
    from p8fs_cluster.config.section import Section as Section
    from p8fs_cluster.containers.container import Container as Container
    from p8fs_cluster.containers.injection import Closing as Closing
    from p8fs_cluster.containers.injection import Injected as Injected
    from p8fs_cluster.containers.injection import Joining as Joining
    from p8fs_cluster.containers.injection import Provide as Provide
    from p8fs_cluster.containers.injection import all_of as all_of
    from p8fs_cluster.containers.injection import inject as inject
    from p8fs_cluster.containers.validation import validate_configuration as validate_configuration
    from p8fs_cluster.di.scoped import Scoped as Scoped
    from p8fs_cluster.exceptions import ClusterError as ClusterError
    from p8fs_cluster.exceptions import ConfigurationError as ConfigurationError
    from p8fs_cluster.exceptions import InjectionError as InjectionError
    from p8fs_cluster.exceptions import StorageError as StorageError
    from p8fs_cluster.exceptions import StorageUnavailable as StorageUnavailable
    from p8fs_cluster.logging.context import log_context as log_context
    from p8fs_cluster.logging.loggers import FieldLogger as FieldLogger
    from p8fs_cluster.providers.storage.handle import Storage as Storage
    from p8fs_cluster.providers.storage.passwords import set_password_source as set_password_source
    from p8fs_cluster.providers.telemetry import configure_telemetry as configure_telemetry

    container: Container
    """The process's default container, made at first use."""

__version__ = "0.1.0"

_PLACES = {
    "Container": "p8fs_cluster.containers.container",
    "FieldLogger": "p8fs_cluster.logging.loggers",
    "NotSecret": "p8fs_cluster.config.secrets",
    "Section": "p8fs_cluster.config.section",
    "Closing": "p8fs_cluster.containers.injection",
    "Injected": "p8fs_cluster.containers.injection",
    "Joining": "p8fs_cluster.containers.injection",
    "Provide": "p8fs_cluster.containers.injection",
    "Scoped": "p8fs_cluster.di.scoped",
    "all_of": "p8fs_cluster.containers.injection",
    "inject": "p8fs_cluster.containers.injection",
    "ClusterError": "p8fs_cluster.exceptions",
    "ConfigurationError": "p8fs_cluster.exceptions",
    "InjectionError": "p8fs_cluster.exceptions",
    "StorageError": "p8fs_cluster.exceptions",
    "StorageUnavailable": "p8fs_cluster.exceptions",
    "configure_telemetry": "p8fs_cluster.providers.telemetry",
    "log_context": "p8fs_cluster.logging.context",
    "Storage": "p8fs_cluster.providers.storage.handle",
    "set_password_source": "p8fs_cluster.providers.storage.passwords",
    "validate_configuration": "p8fs_cluster.containers.validation",
}

__all__ = [*_PLACES, "__version__", "container"]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name == "container":
        value = import_module("p8fs_cluster.containers.default").default()
    elif name in _PLACES:
        value = getattr(import_module(_PLACES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
