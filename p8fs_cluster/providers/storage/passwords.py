"""Passwords that last for a while only: asked of a callable or a command before a connection is made."""

from __future__ import annotations

import shlex
import subprocess
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from p8fs_cluster.config import secrets
from p8fs_cluster.config.problems import variable_of
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import ConfigurationError, StorageUnavailable
from p8fs_cluster.forking import Stage, after_fork

__all__ = ["PasswordSource", "is_asked_for", "password_of", "refused", "set_password_source"]

PasswordSource = Callable[[], str | tuple[str, float]]
"""Returns a password, or one with the seconds for which it can be used."""

clock = time.monotonic


class _Kept(NamedTuple):
    text: str
    until: float


_sources: dict[str, PasswordSource] = {}
_kept: dict[tuple[str, object], _Kept] = {}
_asking: dict[object, threading.RLock] = {}
"""A lock for each password: asking for one may open a store that has another."""


def set_password_source(setting: str, source: PasswordSource | None) -> None:
    """Ask `source` for the password before a connection is made, instead of reading the setting; None: no longer.

    What it returns is used for the seconds that it returns beside it, else for `P8FS_PASSWORD_LIFETIME`, or until the
    server refuses it. It may be called in any thread, by one at a time.

    :raises ConfigurationError: there is no such setting, or it is no password of a store.

    >>> set_password_source("pg_password", lambda: ("of-this-hour", 3600.0))
    >>> set_password_source("pg_password", None)
    """
    if not (setting.endswith("_password") and f"{setting}_command" in P8FSConfig.model_fields):
        raise ConfigurationError(f"{variable_of(setting)} is no password that can be asked for")
    _kept.clear()
    if source is None:
        _sources.pop(setting, None)
    else:
        _sources[setting] = source


def is_asked_for(settings: P8FSConfig, setting: str) -> bool:
    """Return whether a password is asked for, which may take a while."""
    return setting in _sources or bool(getattr(settings, f"{setting}_command"))


def password_of(settings: P8FSConfig, setting: str) -> str:
    """Return the password to connect with, asked for if it is not the setting's own and none is kept.

    :raises StorageUnavailable: the callable or the command failed.
    """
    if not is_asked_for(settings, setting):
        text: str = getattr(settings, setting).get_secret_value()
        return text
    key = _key(settings, setting)
    with _asking.setdefault(key, threading.RLock()):
        kept = _kept.get(key)
        if kept is None or clock() >= kept.until:
            begun = clock()
            text, seconds = _asked(settings, setting)
            secrets.remember([text])
            kept = _kept[key] = _Kept(text, begun + seconds)
        return kept.text


def refused(settings: P8FSConfig, setting: str) -> bool:
    """Return whether to connect once more after the server has refused a password: with one that is asked for anew."""
    return _kept.pop(_key(settings, setting), None) is not None


def _key(settings: P8FSConfig, setting: str) -> tuple[str, object]:
    return setting, _sources.get(setting) or getattr(settings, f"{setting}_command")


def _asked(settings: P8FSConfig, setting: str) -> tuple[str, float]:
    if source := _sources.get(setting):
        try:
            given = source()
        except Exception as exc:
            told = f"what was set for {variable_of(setting)} by set_password_source failed: {type(exc).__name__}"
            raise StorageUnavailable(told) from exc
    else:
        given = _of_command(settings, f"{setting}_command")
    text, seconds = (given, settings.password_lifetime) if isinstance(given, str) else given
    if not isinstance(text, str) or not text:
        raise StorageUnavailable(f"what was asked for {variable_of(setting)} gave no password")
    return text, seconds


def _of_command(settings: P8FSConfig, setting: str) -> str:
    """Run the command, without a shell; its stderr is that of this process."""
    where, seconds = settings.describe(setting), 0.8 * settings.pool_timeout  # the rest is for connecting
    try:
        words = shlex.split(getattr(settings, setting))
        done = subprocess.run(words, stdout=subprocess.PIPE, timeout=seconds, check=True)
        return done.stdout.decode().rstrip("\r\n")
    except subprocess.CalledProcessError as exc:
        fault = f"ended with exit code {exc.returncode}"
    except subprocess.TimeoutExpired:
        fault = f"did not end within {seconds:g} of the {variable_of('pool_timeout')}={settings.pool_timeout:g} seconds"
    except (OSError, ValueError) as exc:
        fault = f"can't be run: {getattr(exc, 'strerror', None) or type(exc).__name__}"
    raise StorageUnavailable(f"the command for a password {fault}: {where}")


def _after_fork() -> None:
    _asking.clear()


after_fork(Stage.LOCKS, _after_fork)
