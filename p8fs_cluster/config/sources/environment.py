"""The environment, without what Kubernetes puts there for Services that happen to have names like ours."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping

from p8fs_cluster.config.sources.source import Entry, Source, entry_of, prefix, source_of

__all__ = ["ORIGIN", "read_environment"]

ORIGIN = "the environment"

_LINK = r"(?i:(?:tcp|udp|sctp)://(.+):(\d+)/?)"
_LINKED = r"(.+)_port(_\d+_(?:tcp|udp|sctp))?"
_DETAIL = r"(.+)_port_\d+_(?:tcp|udp|sctp)_(?:proto|port|addr)"

Services = dict[str, tuple[set[str], set[str]]]
"""Hosts and ports of each Service that left its mark, by its name."""


def read_environment(variables: Mapping[str, str] | None = None) -> Source:
    """Return the settings among the variables, by default those of this process.

    >>> read_environment({"P8FS_PG_HOST": "db", "HOME": "/root"}).entries
    {'pg_host': Entry(value='db', origin='the environment')}
    """
    given = os.environ if variables is None else variables
    source = source_of((variable, entry_of(text, ORIGIN)) for variable, text in given.items())
    links = _service_links(source.entries)
    entries = {name: entry for name, entry in source.entries.items() if name not in links}
    return dataclasses.replace(source, entries=entries, foreign={name: source.entries[name] for name in links})


def _service_links(entries: Mapping[str, Entry]) -> list[str]:
    """Return the names whose values are, to the letter, what Kubernetes writes for a Service of theirs.

    A Service `p8fs-api` puts `P8FS_API_PORT=tcp://10.0.0.1:8000`, `P8FS_API_SERVICE_HOST=10.0.0.1` and more into
    every pod of its namespace. What a pod's own spec sets under such a name looks otherwise, and is a setting.
    """
    services: Services = {}
    for name, entry in entries.items():
        link = re.fullmatch(_LINK, entry.value.strip()) if "://" in entry.value else None
        linked = re.fullmatch(_LINKED, prefix().lower() + name) if link else None
        if link and linked:
            hosts, ports = services.setdefault(linked[1], (set(), set()))
            hosts.add(link[1].strip("[]"))
            ports.add(link[2])
    return [name for name, entry in entries.items() if services and _is_link(name, entry.value.strip(), services)]


def _is_link(name: str, text: str, services: Services) -> bool:
    variable = prefix().lower() + name
    linked = re.fullmatch(_LINKED, variable)
    if linked and linked[1] in services:
        return re.fullmatch(_LINK, text) is not None
    detail = re.fullmatch(_DETAIL, variable)
    if detail:
        return detail[1] in services
    return any(
        (variable == f"{service}_service_host" and text in hosts)
        or (variable.startswith(f"{service}_service_port") and text in ports)
        for service, (hosts, ports) in services.items()
    )
