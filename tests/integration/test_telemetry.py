"""What OpenTelemetry sees, through its real SDK, in a process of its own: providers can be set once only."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from opentelemetry.semconv._incubating.metrics import db_metrics

from tests.processes import variables
from tests.servers import Server

PROGRAM = """
import json, asyncio
from opentelemetry import metrics, trace
from opentelemetry.semconv._incubating.attributes.db_attributes import (
    DB_CLIENT_CONNECTION_POOL_NAME, DB_CLIENT_CONNECTION_STATE
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from p8fs_cluster import Container
from p8fs_cluster.exceptions import StorageError

spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
tracing = TracerProvider()
tracing.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(tracing)
metrics.set_meter_provider(MeterProvider([reader]))
with Container() as container:
    storage = container.storage()
    storage.execute("SELECT %s", ("hunter2",))
    try:
        storage.execute("SELEKT")
    except StorageError:
        pass
    asyncio.run(container.async_storage().execute("SELECT 3"))
    with storage:
        told = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
counted = {}
for metric in told:
    for point in metric.data.data_points:
        name = f"{metric.name} {point.attributes.get(DB_CLIENT_CONNECTION_STATE, '')}".strip()
        counted[name] = counted.get(name, 0) + point.value
print(json.dumps({
    "kinds": [type(metric.data).__name__ for metric in told],
    "pools": sorted({
        point.attributes[DB_CLIENT_CONNECTION_POOL_NAME] for metric in told for point in metric.data.data_points
    }),
    "spans": [(span.name, span.status.status_code.name, dict(span.attributes)) for span in spans.get_finished_spans()],
    "metrics": counted,
}))
"""


def test_spans_and_metrics(sql_server: Server) -> None:
    environment = {**os.environ, **variables(sql_server.settings)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "hunter2" not in done.stdout
    told = json.loads(done.stdout)
    provider = sql_server.settings["storage_provider"]
    assert [(name, status) for name, status, _ in told["spans"]] == [
        (f"SELECT {provider}", "UNSET"),
        (f"SELEKT {provider}", "ERROR"),
        (f"SELECT {provider}", "UNSET"),
    ]
    attributes = {"db.system.name": "mysql" if provider == "tidb" else provider, "db.query.text": "SELECT %s"}
    assert told["spans"][0][2] == attributes
    assert told["metrics"][f"{db_metrics.DB_CLIENT_CONNECTION_COUNT} used"] == 1
    assert told["metrics"][db_metrics.DB_CLIENT_CONNECTION_MAX] == 20, "of both handles"
    assert set(told["kinds"]) == {"Sum"}, "up-down counters, as the conventions have it"
    assert len(told["pools"]) == len(set(told["pools"])) == 2, "each handle's pool has a name of its own"
    assert told["metrics"]["p8fs.storage.swaps"] == 0
