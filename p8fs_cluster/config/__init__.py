"""Settings from every source, typed and validated as a whole. Importing this reads nothing.

from p8fs_cluster.config import config
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from p8fs_cluster.config.application import add_source as add_source
    from p8fs_cluster.config.application import set_defaults as set_defaults
    from p8fs_cluster.config.secrets import NotSecret as NotSecret
    from p8fs_cluster.config.section import Section as Section
    from p8fs_cluster.config.settings import P8FSConfig as P8FSConfig
    from p8fs_cluster.config.settings import config as config
    from p8fs_cluster.config.sources.registered import remove_source as remove_source
    from p8fs_cluster.config.sources.source import set_prefix as set_prefix

_PLACES = {
    "P8FSConfig": "p8fs_cluster.config.settings",
    "NotSecret": "p8fs_cluster.config.secrets",
    "Section": "p8fs_cluster.config.section",
    "add_source": "p8fs_cluster.config.application",
    "config": "p8fs_cluster.config.settings",
    "remove_source": "p8fs_cluster.config.sources.registered",
    "set_defaults": "p8fs_cluster.config.application",
    "set_prefix": "p8fs_cluster.config.sources.source",
}

__all__ = [*_PLACES]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
