"""The explanation of a setting's value."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from p8fs_cluster.config.problems import variable_of

__all__ = ["Explanation", "Loser"]


@dataclass(frozen=True)
class Loser:
    """A value that did not win, masked when it is secret, and where it is."""

    value: Any
    source: str


@dataclass(frozen=True)
class Explanation:
    """The value of a setting, masked when it is secret; which source won, and which lost with what, strongest first.

    `service_links` are what Kubernetes put into the environment under this name for a Service: never used. `stale` is
    why the sources could not be loaded again, if the last reload failed: the value is the last good one.

    >>> print(Explanation("pg_host", "db", "the environment", (Loser("localhost", "the default"),)))
    P8FS_PG_HOST = 'db' from the environment
      over 'localhost' from the default
    """

    name: str
    value: Any
    source: str
    lost: tuple[Loser, ...] = ()
    service_links: tuple[Loser, ...] = ()
    description: str = ""
    stale: str = ""

    @property
    def variable(self) -> str:
        """The name of the setting's environment variable."""
        return variable_of(self.name)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"variable": self.variable, **asdict(self)}

    def __str__(self) -> str:
        lines = [f"{self.variable} = {self.value!r} from {self.source}"]
        lines += [f"over {loser.value!r} from {loser.source}" for loser in self.lost]
        lines += [f"not used: {link.value!r} from {link.source} (a Service's link)" for link in self.service_links]
        if self.stale:
            lines.append(f"the last good value: the last reload failed: {self.stale}")
        return "\n  ".join(lines)
