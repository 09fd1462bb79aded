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


CLUSTER = """
import json
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from p8fs_cluster import Container

reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))

def told():
    data = reader.get_metrics_data()
    scopes = data.resource_metrics[0].scope_metrics if data else ()
    return {
        metric.name: [[point.value, {**point.attributes}] for point in metric.data.data_points]
        for scope in scopes for metric in scope.metrics if metric.data.data_points
    }

with Container() as container:
    cluster = container.cluster()
    leader, idle = cluster.leader("scheduler"), cluster.leader("idle")
    assert leader.wait(60) and idle.wait(60)
    idle.withdraw()
    cluster.join()
    cluster.nodes()
    locks = [cluster.lock(f"lock {number}") for number in range(20)]
    assert all(lock.acquire() for lock in locks)
    before = told()
    container.storage().execute("UPDATE p8fs_leases SET holder = NULL, fence = fence + 1 WHERE name = 'lock:lock 0'")
    container.storage().execute("UPDATE p8fs_leases SET resign = fence WHERE name = 'leader:scheduler'")
    lost = leader.lost
    assert lost.wait(60) and locks[0].lost.wait(60)
    print(json.dumps({"before": before, "after": told(), "stats": cluster.stats()}))
assert not any(name.startswith("p8fs.l") for name in told()), "the container is closed"
"""


def test_metrics_of_leases(sql_server: Server) -> None:
    environment = {**os.environ, **variables({**sql_server.settings, "cluster_create": True})}
    done = subprocess.run([sys.executable, "-c", CLUSTER], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    before, after, stats = told["before"], told["after"], told["stats"]
    cluster = {"p8fs.cluster.name": f"{sql_server.settings['storage_provider']}-1"}
    leader = {**cluster, "p8fs.lease.kind": "leader"}
    scheduler, idle = {**leader, "p8fs.lease.name": "scheduler"}, {**leader, "p8fs.lease.name": "idle"}
    lock, node = {**cluster, "p8fs.lease.kind": "lock"}, {**cluster, "p8fs.lease.kind": "node"}
    assert before["p8fs.leader.status"] == [[1, scheduler], [0, idle]]
    [[fence, attributes]] = before["p8fs.leader.term"]
    assert (fence > 0, attributes) == (True, scheduler)
    assert [attributes for _, attributes in before["p8fs.lease.renew_age"]] == [scheduler, node]
    assert all(0 <= age < 60 for age, _ in before["p8fs.lease.renew_age"])
    assert sorted(before["p8fs.lease.held"], key=str) == sorted([[1, leader], [1, node], [20, lock]], key=str)
    assert "p8fs.lease.losses" not in before
    assert before["p8fs.lease.missed_beats"] == [[0, cluster]]
    assert before["p8fs.node.count"] == [[1, cluster]]
    assert after["p8fs.leader.status"] == [[0, scheduler], [0, idle]]
    assert "p8fs.leader.term" not in after
    assert sorted(after["p8fs.lease.losses"], key=str) == sorted([[1, scheduler], [1, lock]], key=str)
    assert [19, lock] in after["p8fs.lease.held"]
    assert stats["leaders"] == {name: {"status": 0, "fence": None, "renew_age": None} for name in ("scheduler", "idle")}
    assert (stats["locks_held"], stats["losses"], stats["missed_beats"], stats["nodes"]) == (19, 2, 0, 1)
