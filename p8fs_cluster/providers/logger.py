"""Loggers of the shared set-up, as the container's settings say."""

from __future__ import annotations

from p8fs_cluster.di.settings import SettingsSource
from p8fs_cluster.di.teardown import Lasting
from p8fs_cluster.exceptions import ConfigurationError
from p8fs_cluster.logging.loggers import FieldLogger, made, taking_fields
from p8fs_cluster.logging.setup import LoggingSetup, usable

__all__ = ["Loggers"]


class Loggers(Lasting):
    """Sets logging up at the first logger that is asked for, and again whenever the settings change.

    Logging belongs to the process: with several containers, the one that changed last decides.
    """

    def __init__(self, settings: SettingsSource) -> None:
        self._settings = settings
        self._in_use = False
        settings.follow(self._follow)

    def get(self, name: str | None = None) -> FieldLogger:
        """Return `logging.getLogger(name)`, with logging set up; without a name, the logger of `service_name`.

        It takes keyword fields: `log.info("saved", note_id=7)`.

        :raises ConfigurationError: the settings of logging can't be used.
        """
        if not self._in_use or not LoggingSetup.in_place():
            self.set_up()
        return taking_fields(made(name or self._settings().service_name))

    def set_up(self) -> None:
        """Set logging up, whatever others have set up since.

        :raises ConfigurationError: the settings can't be used; logging is set up by what can be used of them.
        """
        try:
            settings = self._settings.everywhere()
        except ConfigurationError:
            LoggingSetup.configure_logging(usable())
            raise
        LoggingSetup.configure_logging(settings)
        self._in_use = True

    def _follow(self) -> None:
        if self._in_use:
            self.set_up()
