"""What `check` and OpenTelemetry are told of the key-value store, and what loads it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from p8fs_cluster import Container
from p8fs_cluster.exceptions import StorageError
from p8fs_cluster.health.checks import steps
from tests.kv.conftest import Case, drop
from tests.servers import Server


def test_check_tells_of_the_table(sql_server: Server) -> None:
    def told(container: Container) -> str:
        [step] = [step for step in steps(container.config, container.storage()) if "key-value" in step.name]
        assert step.ok
        return step.detail

    drop(sql_server.settings)
    with Container(config={**sql_server.settings, "kv_create": True}) as container:
        assert "p8fs-cluster kv init" in told(container)
        container.kv().get("a")
        assert told(container) == "version 1"


def test_opentelemetry_is_told_the_numbers(rocksdb_settings: dict[str, Any]) -> None:
    code = f"""
from pathlib import PosixPath
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
from p8fs_cluster import Container
with Container(config={rocksdb_settings!r}) as container:
    container.kv().put("a", b"s3cret")
    container.kv().namespace("n").get("a")
    for metric in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.data.data_points:
            if metric.name.startswith("p8fs.kv"):
                print(metric.name, dict(point.attributes), point.value)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[0] == "p8fs.kv.calls {'p8fs.kv.name': 'rocksdb-1'} 2", done.stderr
    assert len(done.stdout.splitlines()) == 4 and "s3cret" not in done.stdout


def test_a_container_loads_nothing_of_it() -> None:
    code = """
import sys
from p8fs_cluster import Container
with Container(config={"storage_provider": "rocksdb"}) as container:
    container.storage()
print([name for name in sys.modules if name.startswith("p8fs_cluster.kv.") or name.endswith(("kv_rows", "kv_pairs"))])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_no_error_tells_a_value(sql_case: Case) -> None:
    """A statement that fails holds values, and its error does not."""
    kv = sql_case.container.kv()
    kv.put("a", b"s3cret")
    storage = sql_case.container.storage()
    narrow = "ADD CHECK (length(v) < 3)" if sql_case.kind == "postgresql" else "MODIFY v VARBINARY(3) NOT NULL"
    kv.clear()
    storage.execute(f"ALTER TABLE p8fs_kv {narrow}")
    writes: list[Any] = [
        lambda: kv.put("d", b"s3cret"),
        lambda: kv.put_if_absent("b", b"s3cret"),
        lambda: kv.atomic().check("c", None).put("d", b"s3cret").commit(),
    ]
    try:
        for write in writes:
            with pytest.raises(StorageError) as caught:
                write()
            assert "s3cret" not in str(caught.value) and "733363726574" not in str(caught.value)
        assert kv.count() == kv.sweep() == 0
    finally:
        drop(sql_case.settings)
