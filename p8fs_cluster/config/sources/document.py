"""The file that P8FS_CONFIG_FILE names: TOML or YAML, as its ending says. Tables may stand for prefixes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from p8fs_cluster.config.sources.environment import ORIGIN
from p8fs_cluster.config.sources.files import UnusableError, read_text, shown
from p8fs_cluster.config.sources.source import Entry, Names, Source, entry_of, stamp_of, unprefixed
from p8fs_cluster.exceptions import Problem

__all__ = ["parse_document", "read_document", "yaml_documents", "yaml_items"]

MOST = 10_000
"""Values that a file may hold, anchors followed. More is taken for an attack or a mistake."""

_YAML = "tag:yaml.org,2002:"
_MERGE = f"{_YAML}merge"
_TAGS = frozenset(_YAML + kind for kind in ("str", "null", "bool", "int", "float", "timestamp", "map", "seq", "merge"))
_ANCHORS = ("x-", ".")
"""The beginning of names that only hold parts to merge elsewhere, as in Compose files and GitLab's."""
_COMMON = ("!secret", "!vault", "!env", "!include", "!ref", "!sub", "!file")

Item = tuple[tuple[str, ...], Any, int | None]
"""The path of a value, the value, and its line."""
IsSetting = Callable[[str], bool]


def read_document(path: Path, variable: str, names: Names) -> Source:
    """Return the settings in a TOML or YAML file, which `variable` has named.

    `pg_host`, `P8FS_PG_HOST`, and `host` in a table `pg` all mean the same. A table is the value itself when
    its name is that of a setting. YAML's plain values stay text, as in the environment: `no` is "no".
    """
    stamp = stamp_of(path)
    try:
        source = parse_document(
            read_text(path), _ending(path), shown(path), lambda name: names.is_setting(name) or names.is_alias(name)
        )
        return dataclasses.replace(source, stamps={path: stamp})
    except UnusableError as exc:
        fault = str(exc)
    except RecursionError:
        fault = "is nested too deeply"
    return Source(problems=(Problem(variable, ORIGIN, f"the settings file {path} {fault}"),))


def parse_document(text: str, ending: str, place: str, is_setting: IsSetting) -> Source:
    """Return the settings in a text of the kind that `ending` says; `place` is how messages call it.

    :raises UnusableError: it can't be understood.

    >>> parse_document("pg: {host: db}", ".yaml", "a.yaml", lambda name: name == "pg_host").entries
    {'pg_host': Entry(value='db', origin='a.yaml, line 1')}
    """
    return _source(_READERS[ending](text, is_setting), place)


def yaml_documents(text: str) -> Iterator[Any]:
    """Yield the root node of each document in a YAML text.

    :raises UnusableError: it is no YAML.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Resolves nothing but null and merge keys, so that text stays as it was written."""

        yaml_implicit_resolvers = {  # noqa: RUF012
            first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    try:
        yield from yaml.compose_all(text, Loader=Loader)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        fault = _without_names(getattr(exc, "problem", None) or "there is a character that YAML does not allow")
        where = f" (line {mark.line + 1})" if mark else ""
    else:
        return
    raise UnusableError(f"can't be understood as YAML{where}: {fault}")


def _without_names(fault: str) -> str:
    """Return PyYAML's words without names of anchors, aliases and tags: they may be a password without quotes."""
    return re.sub(r"(?<=\s)'[^'<][^']+'", "(a value that begins with * & ! or % needs quotes)", fault)


def yaml_items(root: Any, is_setting: IsSetting) -> Iterator[Item]:
    """Yield each value below a node, with its path and line."""
    count = 0
    waiting: list[tuple[tuple[str, ...], Any]] = [((), root)]
    while waiting:
        path, node = waiting.pop()
        count += 1
        if count > MOST or len(path) > 20:
            raise UnusableError(f"holds more than {MOST:,} values or is nested too deeply")
        if node.id == "mapping" and (node.value or not path) and not is_setting(_joined(path)):
            pairs = [(key, value) for key, value in _pairs(node) if path or not key.startswith(_ANCHORS)]
            waiting.extend(((*path, key), value) for key, value in reversed(pairs))
        else:
            yield path, _plain(node, [MOST]), node.start_mark.line + 1


def _ending(path: Path) -> str:
    ending = path.suffix.lower()
    if ending not in _READERS:
        raise UnusableError(f"has to end in one of {', '.join(_READERS)}")
    return ending


def _source(items: Iterable[Item], place: str) -> Source:
    entries: dict[str, Entry] = {}
    tables: dict[str, Entry] = {}
    problems: list[Problem] = []
    for path, value, line in items:
        joined = _joined(path)
        name = unprefixed(joined) or joined
        origin = place if line is None else f"{place}, line {line}"
        if name in entries:
            problems.append(Problem(name, origin, f"is given twice; before in {entries[name].origin}"))
        entries[name] = entry_of(value, origin)
        _into_tables(path, value, origin, tables)
    return Source(entries, tuple(problems), others={**tables, **entries}, tables=tables)


def _into_tables(path: tuple[str, ...], value: Any, origin: str, tables: dict[str, Entry]) -> None:
    """Put a value into the tables above it, of which a section that comes late may want one as a whole."""
    for length in range(1, len(path)):
        joined = _joined(path[:length])
        inner: Any = tables.setdefault(unprefixed(joined) or joined, Entry({}, origin)).value
        for part in path[length:-1]:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):  # given twice, which is told
                return
        inner[path[-1]] = value


def _of_yaml(text: str, is_setting: IsSetting) -> Iterable[Item]:
    roots = list(yaml_documents(text))
    if len(roots) > 1:
        raise UnusableError("holds more than one document")
    for root in roots:
        if root.id != "mapping":
            raise UnusableError("holds no names with values")
    return chain.from_iterable(yaml_items(root, is_setting) for root in roots)


def _plain(node: Any, left: list[int]) -> Any:
    left[0] -= 1
    if left[0] < 0:
        raise UnusableError(f"holds more than {MOST:,} values")
    _require_known_tag(node)
    if node.id == "scalar":
        return None if node.tag.endswith(":null") else node.value
    if node.id == "sequence":
        return [_plain(item, left) for item in node.value]
    return {key: _plain(value, left) for key, value in _pairs(node)}


def _require_known_tag(node: Any) -> None:
    """Refuse what another program would replace, such as `!vault`: its text is not the value."""
    if node.tag not in _TAGS:
        tag = node.tag.replace(_YAML, "!!")
        told = f"the tag {tag}" if tag.startswith("!!") or tag.lower() in _COMMON else "a tag"  # it may be a password
        raise UnusableError(
            f"has {told} in line {node.start_mark.line + 1}, which nothing resolves here: write the value itself, "
            "in quotes if it begins with !"
        )


def _pairs(node: Any, depth: int = 20) -> list[tuple[str, Any]]:
    """Return names and values of a mapping; what a merge key brings in is weaker than what stands beside it."""
    _require_known_tag(node)
    own = [(_key(key), value) for key, value in node.value if key.tag != _MERGE]
    taken = {name for name, _ in own}
    for key, value in node.value:
        for merged in _merged(value, depth) if key.tag == _MERGE else ():
            fresh = [(name, item) for name, item in _pairs(merged, depth - 1) if name not in taken]
            own, taken = [*own, *fresh], taken | {name for name, _ in fresh}
    return own


def _merged(node: Any, depth: int) -> Iterable[Any]:
    parts = node.value if node.id == "sequence" else [node]
    if not depth or any(part.id != "mapping" for part in parts):
        raise UnusableError(f"has a merge key << that names no mapping (line {node.start_mark.line + 1})")
    return tuple(parts)


def _joined(path: tuple[str, ...]) -> str:
    return "_".join(path).lower().replace("-", "_")


def _key(node: Any) -> str:
    if node.id != "scalar":
        raise UnusableError(f"has a name that is no text (line {node.start_mark.line + 1})")
    return str(node.value)


def _of_toml(text: str, is_setting: IsSetting) -> Iterable[Item]:
    import tomllib

    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        fault = str(exc)
    else:
        lines = _lines_of(text)
        return ((path, value, lines.get(path)) for path, value in _flat(table, (), is_setting))
    raise UnusableError(f"can't be understood as TOML: {fault}")


def _flat(table: Mapping[str, Any], path: tuple[str, ...], is_setting: IsSetting) -> Iterator[tuple[Any, Any]]:
    for key, value in table.items():
        inner = (*path, key)
        if isinstance(value, dict) and value and not is_setting(_joined(inner)):
            yield from _flat(value, inner, is_setting)
        else:
            yield inner, value


def _lines_of(text: str) -> dict[tuple[str, ...], int]:
    """Return the line of each key, without those that can't be told: tomllib does not say where it found what."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    unclear = set()
    for number, line in enumerate(text.splitlines(), 1):
        if '"""' in line or "'''" in line:
            return {}
        header = re.fullmatch(r"\s*\[([\w.\s-]+)\]\s*(?:#.*)?", line)
        key = re.match(r"\s*([\w.-]+)\s*=", line)
        if header:
            table = _parts(header[1])
        elif key:
            path = (*table, *_parts(key[1]))
            unclear |= {path} & found.keys()
            found[path] = number
    return {path: number for path, number in found.items() if path not in unclear}


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in dotted.split("."))


_READERS: dict[str, Callable[[str, IsSetting], Iterable[Item]]] = {
    ".toml": _of_toml,
    ".yaml": _of_yaml,
    ".yml": _of_yaml,
}
