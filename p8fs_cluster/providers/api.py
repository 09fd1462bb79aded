"""The API's settings, as a handle that follows override and reload."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import SecretStr

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.di.teardown import Lasting

__all__ = ["ApiSettings"]


class ApiSettings(Lasting):
    """The settings of an API server; safe to keep, each read shows the settings in force.

    >>> api = ApiSettings(lambda: P8FSConfig(api_port=9000))
    >>> api.host, api.port, api.url
    ('127.0.0.1', 9000, 'http://127.0.0.1:9000')
    """

    def __init__(self, settings: Callable[[], P8FSConfig]) -> None:
        self._settings = settings

    @property
    def host(self) -> str:
        """Address to listen on."""
        return self._settings().api_host

    @property
    def port(self) -> int:
        """Port to listen on."""
        return self._settings().api_port

    @property
    def url(self) -> str:
        """`http://HOST:PORT`, IPv6 addresses in brackets."""
        host = self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def jwt_secret(self) -> SecretStr | None:
        """Key that signs tokens, None when it is not set."""
        return self._settings().auth_jwt_secret

    @property
    def token_expiry(self) -> int:
        """Seconds that a token is valid."""
        return self._settings().auth_token_expiry

    @property
    def environment(self) -> str:
        """Return where the process runs: development, test, production, …"""
        return self._settings().environment

    @property
    def service_name(self) -> str:
        """The service's name."""
        return self._settings().service_name

    def __repr__(self) -> str:
        return f"<ApiSettings {self.service_name} at {self.url}>"
