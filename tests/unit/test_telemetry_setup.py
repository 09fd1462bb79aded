"""OpenTelemetry's SDK by its standard variables, in processes of their own: it can be set up once in each."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

CODE = """
from p8fs_cluster import configure_telemetry
print(configure_telemetry())
from opentelemetry import trace
with trace.get_tracer("tests").start_as_current_span("work"):
    pass
"""


def run(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CODE], env={**os.environ, **variables}, capture_output=True, text=True, timeout=60
    )


def span(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Return what the resource of the span that was printed says."""
    said, _, printed = done.stdout.partition("\n")
    assert said == "True", done.stderr
    attributes: dict[str, str] = json.loads(printed)["resource"]["attributes"]
    return attributes


def test_an_exporter_that_is_named() -> None:
    found = span(run(OTEL_TRACES_EXPORTER="console", P8FS_SERVICE_NAME="notes", P8FS_SERVICE_VERSION="7"))
    assert (found["service.name"], found["service.version"]) == ("notes", "7")
    assert found["deployment.environment.name"] == "development"


@pytest.mark.parametrize(
    "given", [{"OTEL_SERVICE_NAME": "theirs"}, {"OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs"}]
)
def test_its_own_variables_are_stronger(given: dict[str, str]) -> None:
    assert span(run(OTEL_TRACES_EXPORTER="console", **given))["service.name"] == "theirs"


@pytest.mark.parametrize(
    "given", [{}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "True"}]
)
def test_nothing_where_nothing_is_asked_for(given: dict[str, str]) -> None:
    done = run(**given)
    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.mark.parametrize(
    "given", [{"OTEL_TRACES_EXPORTER": "nothing_such"}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}]
)
def test_an_exporter_that_is_not_installed_is_told(given: dict[str, str]) -> None:
    done = run(**given)
    assert done.returncode == 1
    assert "ConfigurationError: OpenTelemetry can't be set up with the exporter" in done.stderr
    assert "install opentelemetry-sdk and the exporter" in done.stderr
