"""OpenTelemetry's SDK, set up by its own standard variables."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from p8fs_cluster.config.secrets import without_passwords
from p8fs_cluster.config.settings import P8FSConfig, config
from p8fs_cluster.exceptions import ConfigurationError

__all__ = ["configure_telemetry"]

_SIGNALS = ("TRACES", "METRICS")


def configure_telemetry(settings: P8FSConfig | None = None) -> bool:
    """Set OpenTelemetry's SDK up as `OTEL_*` say, and return whether its exporters are at work.

    Call it once, when the process starts, before what is to be traced. Where an `OTEL_EXPORTER_OTLP_*` is set and no
    exporter is named, traces and metrics go there. The service's name and version are those of the settings, by default
    of those in force, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` names others. Nothing is set up where no
    exporter is named, or `OTEL_SDK_DISABLED` is true.

    :raises ConfigurationError: an exporter is named, and the SDK or the exporter is not installed or can't be set up.

    >>> configure_telemetry()
    False
    """
    if any(name.startswith("OTEL_EXPORTER_OTLP_") for name in os.environ):
        for signal in _SIGNALS:
            os.environ.setdefault(f"OTEL_{signal}_EXPORTER", "otlp")
    named = [name for signal in _SIGNALS if (name := os.environ.get(f"OTEL_{signal}_EXPORTER", "none")) != "none"]
    if not named or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    try:
        _configurator()(resource_attributes=_resource(config.current if settings is None else settings))
    except Exception as exc:
        fault = without_passwords(f"{type(exc).__name__}: {exc}")
        told = f"OpenTelemetry can't be set up with the exporter {', '.join(named)}: {fault}"
        raise ConfigurationError(
            f"{told}: install opentelemetry-sdk and the exporter, or unset OTEL_*_EXPORTER"
        ) from exc
    return True


def _configurator() -> Callable[..., Any]:
    """Return what the SDK offers to distributions for this; it has no public name."""
    from opentelemetry.sdk._configuration import _OTelSDKConfigurator

    configure: Callable[..., Any] = _OTelSDKConfigurator().configure  # type: ignore[no-untyped-call]
    return configure


def _resource(settings: P8FSConfig) -> dict[str, str]:
    named = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    told = {
        "service.name": "" if "OTEL_SERVICE_NAME" in os.environ else settings.service_name,
        "service.version": settings.service_version,
        "deployment.environment.name": settings.environment,
    }
    return {name: value for name, value in told.items() if value and f"{name}=" not in named}
