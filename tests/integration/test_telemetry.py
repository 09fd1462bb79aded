"""What OpenTelemetry sees, through its real SDK, in a process of its own: providers can be set once only."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.processes import variables
from tests.servers import Server

PROGRAM = """
import json, asyncio
from opentelemetry import metrics, trace
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
print(json.dumps({
    "spans": [(span.name, span.status.status_code.name, dict(span.attributes)) for span in spans.get_finished_spans()],
    "metrics": {
        f"{metric.name} {point.attributes.get('state', '')}".strip(): point.value
        for metric in told for point in metric.data.data_points
    },
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
    assert told["metrics"]["db.client.connection.count used"] == 1
    assert told["metrics"]["db.client.connection.max"] == 10
    assert told["metrics"]["p8fs.storage.swaps"] == 0
