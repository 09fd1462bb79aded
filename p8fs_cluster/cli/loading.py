"""Finds the container that an argument such as `service.app:Application` names."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from dependency_injector import containers

from p8fs_cluster.config.secrets import without_passwords
from p8fs_cluster.containers.graph.arguments import did_you_mean
from p8fs_cluster.exceptions import ClusterError

__all__ = ["LoadingError", "load"]


class LoadingError(ClusterError):
    """An argument names no container, or one that can't be loaded."""


def load(target: str) -> Any:
    """Return what `MODULE:NAME` names, a container or a class of such; a function that makes one is called.

    Modules of the current directory are found as well.

    :raises LoadingError: there is none of this name, or it can't be loaded.

    >>> load("p8fs_cluster:Container").__name__
    'Container'
    """
    module, _, path = target.partition(":")
    if not module or not path:
        raise LoadingError(f"{target!r} names no container: say MODULE:NAME, such as service.app:Application")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found = _member(_imported(module), module, path)
    if not containers.is_container(found) and callable(found):
        found = _run(found, f"calling {target}")
    if not containers.is_container(found):
        raise LoadingError(f"{target} is no container, but of type {type(found).__name__}")
    return found


def _imported(name: str) -> Any:
    try:
        return _run(lambda: import_module(name), f"importing {name}")
    except LoadingError as exc:
        missing = getattr(exc.__cause__, "name", None) if isinstance(exc.__cause__, ModuleNotFoundError) else None
        if missing is None or not f"{name}.".startswith(f"{missing}."):
            raise
    parent, _, last = missing.rpartition(".")
    if parent and not hasattr(sys.modules[parent], "__path__"):
        raise LoadingError(f"there is no module {missing!r}: {parent} is a module, and no package")
    beside = pkgutil.iter_modules(sys.modules[parent].__path__ if parent else None)
    written = {"before": missing.removesuffix(last), "after": name.removeprefix(missing)}
    hint = did_you_mean(last, (module.name for module in beside), **written)
    raise LoadingError(_hinted(f"there is no module {missing!r}", hint))


def _member(module: Any, name: str, path: str) -> Any:
    found, passed = module, ""
    for part in path.split("."):
        if not hasattr(found, part):
            place = ":".join(filter(None, (name, passed.removesuffix("."))))
            hint = did_you_mean(part, dir(found), before=f"{name}:{passed}")
            raise LoadingError(_hinted(f"{place} has no {part!r}", hint))
        found, passed = getattr(found, part), f"{passed}{part}."
    return found


def _run(action: Callable[[], Any], doing: str) -> Any:
    """Run what others wrote: whatever it raises is told in a line."""
    try:
        return action()
    except (Exception, SystemExit) as exc:
        raise LoadingError(f"{doing} failed: {type(exc).__name__}: {without_passwords(str(exc))}") from exc


def _hinted(what: str, hint: str) -> str:
    return f"{what}; {hint}" if hint else what
