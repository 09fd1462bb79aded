"""Reads ConfigMaps and Secrets from manifests: ours, other people's, and what `kubectl get -o yaml` prints."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from p8fs_cluster.config.problems import variable_of
from p8fs_cluster.config.sources.document import Item, yaml_documents, yaml_items
from p8fs_cluster.config.sources.files import UnusableError
from p8fs_cluster.config.sources.source import Entry, Source, entry_of, unprefixed
from p8fs_cluster.exceptions import Problem

__all__ = ["cluster_sources"]

KINDS = ("Secret", "ConfigMap")
"""The stronger one first, as where they are mounted."""


@dataclass(frozen=True)
class _Manifest:
    kind: str
    items: tuple[Item, ...]


def cluster_sources(text: str, place: str) -> tuple[tuple[Source, ...], tuple[str, ...]]:
    """Return the settings in manifests as a pod reads them from mounted files, Secrets first, and what was left out.

    :raises UnusableError: it is no YAML, or holds neither a ConfigMap nor a Secret.

    >>> text = "{apiVersion: v1, kind: Secret, data: {P8FS_PG_PASSWORD: c2VjcmV0}}"
    >>> cluster_sources(text, "a.yaml")[0][0].entries
    {'pg_password': Entry(value='secret', origin='a.yaml, line 1')}
    """
    manifests = [manifest for root in yaml_documents(text) for manifest in _manifests(list(yaml_items(root, _is_none)))]
    taken = [manifest for kind in KINDS for manifest in reversed(manifests) if manifest.kind == kind]
    if not taken:
        raise UnusableError("holds neither a ConfigMap nor a Secret")
    binary = any(path[0] == "binaryData" for manifest in taken for path, _, _ in manifest.items)
    notes = (f"{place}: binaryData is left out of account, for a setting is text",) if binary else ()
    return tuple(_source(manifest, place) for manifest in taken), notes


def _is_none(name: str) -> bool:
    return False


def _manifests(items: Iterable[Item]) -> Iterator[_Manifest]:
    top = {path[0]: value for path, value, _ in items if len(path) == 1}
    if isinstance(top.get("items"), list):
        for item in top["items"]:
            yield from _manifests(list(_flat(item)))
    elif top.get("kind") in KINDS:
        yield _Manifest(top["kind"], tuple(item for item in items if len(item[0]) > 1))


def _flat(value: Any, path: tuple[str, ...] = ()) -> Iterator[Item]:
    if not isinstance(value, dict):
        yield path, value, None
        return
    for key, item in value.items():
        yield from _flat(item, (*path, key))


def _source(manifest: _Manifest, place: str) -> Source:
    entries: dict[str, Entry] = {}
    problems: list[Problem] = []
    for part in ("data", "stringData"):
        for path, value, line in manifest.items:
            name = unprefixed(path[1])
            if path[0] != part or not name:
                continue
            origin = place if line is None else f"{place}, line {line}"
            try:
                encoded = manifest.kind == "Secret" and part == "data"
                entries[name] = entry_of(_text(value, len(path) == 2, encoded), origin)
            except UnusableError as exc:
                problems.append(Problem(variable_of(name), origin, str(exc)))
    return Source(entries, tuple(problems))


def _text(value: Any, is_flat: bool, encoded: bool) -> str:
    """Return what a pod finds in the file."""
    if not is_flat or not isinstance(value, (str, type(None))):
        raise UnusableError("is no text")
    text = value or ""
    try:
        data = base64.b64decode("".join(text.split()), validate=True) if encoded else text.encode()
        return data.decode("utf-8-sig")
    except binascii.Error:
        fault = "is not in base64, as the data of a Secret has to be"
    except UnicodeError:
        fault = "holds bytes that are no UTF-8 text"
    raise UnusableError(fault)
