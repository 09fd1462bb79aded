"""Where values come from: the environment and `.env`, read so that nothing is lost, guessed or misread in silence."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from dotenv.parser import Binding, parse_stream
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource

from p8fs_cluster.exceptions import ConfigurationError, Problem

__all__ = ["DotEnvSource", "EnvironmentSource", "Sourced", "port_of_service_link"]

DOTENV_LIMIT = 1024 * 1024
"""Bytes. A larger `.env` is taken for a mistake: a log, a dump, a disk image."""

_SERVICE_LINK = re.compile(r"(?:tcp|udp|sctp)://[^/?#]*:(\d+)/?", re.IGNORECASE)


class Sourced(str):
    """The text of a setting that remembers where it was found.

    >>> Sourced("5432", "the environment").origin
    'the environment'
    """

    __slots__ = ("origin",)
    origin: str

    def __new__(cls, text: str, origin: str) -> Sourced:
        self = super().__new__(cls, text)
        self.origin = origin
        return self


class EnvironmentSource(EnvSettingsSource):
    """pydantic-settings' source of environment variables, with the origin of each value."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {
            name: None if value is None else Sourced(value, "the environment")
            for name, value in super()._load_env_vars().items()
        }


class DotEnvSource(DotEnvSettingsSource):
    """pydantic-settings' `.env` source, read by `_read_dotenv`: the file that P8FS_ENV_FILE names, else `./.env`."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        named = os.environ.get("P8FS_ENV_FILE")
        if named is None:
            return _read_dotenv(Path(".env"), self.env_prefix.lower())
        if named and not Path(named).exists():
            raise _unusable(Path(named), "does not exist, and P8FS_ENV_FILE (from the environment) names it")
        return _read_dotenv(Path(named), self.env_prefix.lower()) if named else {}


def port_of_service_link(value: object) -> object:
    """Return the port as text if `value` is what Kubernetes puts into `<SERVICE>_PORT`, else `value` itself.

    A Service called `p8fs-api` puts `P8FS_API_PORT=tcp://10.0.0.1:8000` into every pod of its namespace.

    >>> port_of_service_link("tcp://10.0.0.1:8000")
    '8000'
    >>> port_of_service_link("8000")
    '8000'
    """
    link = _SERVICE_LINK.fullmatch(value.strip()) if isinstance(value, str) else None
    return link.group(1) if link else value


def _read_dotenv(path: Path, prefix: str) -> dict[str, str | None]:
    """Nothing is interpolated: `${X}` stays as it stands, because a password may hold it. A missing file is empty."""
    text = _read_text(path)
    bindings = [binding for binding in parse_stream(StringIO(text)) if prefix in binding.original.string.lower()]
    faults = tuple(_problem(path, binding) for binding in bindings if binding.error or _lacks_value(binding))
    if faults:
        raise ConfigurationError(f"the settings file {path} can't be understood; nothing in it was used", faults)
    return {
        binding.key.lower(): Sourced(binding.value, f"{path}, line {_line_of(binding)}")
        for binding in bindings
        if binding.key and binding.value is not None
    }


def _read_text(path: Path) -> str:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISFIFO(status.st_mode):
            raise _unusable(path, "is not a file (a directory or a device): remove or rename it")
        if status.st_size > DOTENV_LIMIT:
            raise _unusable(path, f"has {status.st_size:,} bytes, more than {DOTENV_LIMIT:,}: is it the right file?")
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as exc:
        raise _unusable(path, f"can't be read: {exc.strerror}") from exc
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
    raise _unusable(path, f"is not UTF-8 text (line {line}): save it as UTF-8")


def _unusable(path: Path, fault: str) -> ConfigurationError:
    return ConfigurationError(f"the settings file {path} {fault}")


def _lacks_value(binding: Binding) -> bool:
    return binding.key is not None and binding.value is None


def _problem(path: Path, binding: Binding) -> Problem:
    name = re.match(r"\s*(?:export\s+)?['\"]?(\w+)", binding.original.string)
    fault = "an unfinished quote or a stray character" if binding.error else "has no value: write NAME=value"
    return Problem(name.group(1) if name else "a line", f"{path}, line {_line_of(binding)}", fault)


def _line_of(binding: Binding) -> int:
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
