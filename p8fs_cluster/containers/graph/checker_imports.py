"""The names that a module imports for type checkers alone, without importing anything for them."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["names_for_checkers"]


def names_for_checkers(names: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a module's `if TYPE_CHECKING:` imports, as far as it has been imported by anybody.

    `names` are the module's own; what has not been imported is left out.

    >>> from p8fs_cluster.providers import sql
    >>> import sqlalchemy
    >>> names_for_checkers(vars(sql))["Engine"]
    <class 'sqlalchemy.engine.base.Engine'>
    """
    found = {}
    for name, module, member in _imports(str(names.get("__name__"))):
        imported: Any = sys.modules.get(module)
        value = vars(imported).get(member) if imported is not None and member else imported
        if value is not None:
            found[name] = value
    return found


@functools.lru_cache(maxsize=256)
def _imports(module: str) -> tuple[tuple[str, str, str], ...]:
    """Return the names with the modules and the members that they stand for; "" for a whole module."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (KeyError, OSError, TypeError, SyntaxError):  # it has no source
        return ()
    package = sys.modules[module].__package__ or ""
    blocks = (each for each in ast.walk(tree) if isinstance(each, ast.If) and _is_for_checkers(each.test))
    return tuple(found for block in blocks for statement in block.body for found in _names(statement, package))


def _is_for_checkers(test: ast.expr) -> bool:
    return getattr(test, "id", getattr(test, "attr", "")) == "TYPE_CHECKING"


def _names(statement: ast.stmt, package: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(statement, ast.Import):
        for each in statement.names:
            whole = each.name if each.asname else each.name.partition(".")[0]
            yield each.asname or whole, whole, ""
    elif isinstance(statement, ast.ImportFrom):
        around = package.split(".")[: len(package.split(".")) + 1 - statement.level] if statement.level else []
        module = ".".join([*around, *filter(None, [statement.module])])
        for each in statement.names:
            yield each.asname or each.name, module, each.name
