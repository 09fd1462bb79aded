"""The table: made where that is allowed, asked for where it is not, upgraded step by step, read over releases."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from typer.testing import CliRunner

from p8fs_cluster import Container
from p8fs_cluster.cli.app import app
from p8fs_cluster.exceptions import ConfigurationError, StorageError, TablesMissing
from p8fs_cluster.kv import tables
from p8fs_cluster.kv.stores import Executing, Stores
from p8fs_cluster.providers.storage.tables import Step
from tests.kv.conftest import TABLE, Case, drop
from tests.processes import running, variables
from tests.servers import SQL, Server


@pytest.fixture(params=SQL)
def bare(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """A database without the table."""
    server: Server = request.getfixturevalue(f"{request.param}_server")
    drop(server.settings)
    yield server.settings
    drop(server.settings)


def test_without_leave_the_table_is_asked_for(bare: dict[str, Any]) -> None:
    with Container(config={**bare, "kv_create": False}) as container:
        kv = container.kv()
        for call in (lambda: kv.get("a"), lambda: kv.put("a", b""), lambda: kv.atomic().check("a", 1).commit()):
            with pytest.raises(TablesMissing, match=r"p8fs-cluster kv init.*P8FS_KV_CREATE=true"):
                call()
        with Container(config={**bare, "kv_create": True}) as other:
            other.kv().put("a", b"1")
        assert kv.get("a") == b"1", "now it is there"


@pytest.mark.parametrize(
    ("environment", "create", "may"),
    [("development", None, True), ("production", None, False), ("production", True, True), ("dev", False, False)],
)
def test_development_may_make_it(postgresql_server: Server, environment: str, create: bool | None, may: bool) -> None:
    drop(postgresql_server.settings)
    settings = {**postgresql_server.settings, "environment": environment, "kv_create": create}
    with Container(config=settings) as container:
        if may:
            assert container.kv().increment("n") == 1
        else:
            with pytest.raises(TablesMissing):
                container.kv().increment("n")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_table_that_was_dropped_is_made_again(bare: dict[str, Any], asynchronous: bool) -> None:
    from tests.kv.conftest import opened

    with opened("sql", asynchronous, {**bare, "kv_create": True}) as case:
        for _ in range(2):
            assert case.kv.put_if_absent("a", b"")
            assert case.kv.run_in_transaction(lambda tx: tx.put("b", tx.get("a") or b"none")) is not None
            drop(bare)


def test_many_make_it_at_once(bare: dict[str, Any]) -> None:
    def put(number: int) -> int:
        with Container(config={**bare, "kv_create": True}) as container:
            return container.kv().put(f"{number}", b"")

    with ThreadPoolExecutor(5) as pool:
        assert len(set(pool.map(put, range(5)))) == 5


def test_the_command_makes_it(bare: dict[str, Any]) -> None:
    def init(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["kv", "init", *arguments], env=variables({**bare, "kv_create": False}))

    assert json.loads(init("--json").stdout) == {"version": 1, "added": [1]}
    with Container(config={**bare, "kv_create": False}) as container:
        container.kv().put("a", b"1")
        assert init().stdout == "the key-value store has version 1; there was nothing to do\n"
        assert container.kv().get("a") == b"1"
    wrong = {**bare, **{name: 1 for name in bare if name.endswith("_port")}}
    assert CliRunner().invoke(app, ["kv", "init"], env=variables(wrong)).exit_code == 1


def test_its_index_has_a_name(bare: dict[str, Any]) -> None:
    with Container(config={**bare, "kv_create": True}) as container:
        container.kv().get("a")
        postgresql = bare["storage_provider"] == "postgresql"
        asked = (
            "SELECT indexname FROM pg_indexes WHERE tablename = 'p8fs_kv'" if postgresql else "SHOW INDEX FROM p8fs_kv"
        )
        names = {row[0] if postgresql else row[2] for row in container.storage().execute(asked)}
        assert names == {"p8fs_kv_pkey" if postgresql else "PRIMARY", "p8fs_kv_expires_at"}


def test_the_command_has_nothing_to_do_on_an_embedded_store(rocksdb_settings: dict[str, Any]) -> None:
    done = CliRunner().invoke(app, ["kv", "init"], env=variables(rocksdb_settings))
    assert (done.exit_code, done.stdout) == (0, "the key-value store has version 1; there was nothing to do\n")


class Stopped(Exception):
    """In place of a kill."""


@pytest.mark.parametrize("kept", range(5))
def test_a_making_that_is_killed_after_any_statement_goes_on_from_there(bare: dict[str, Any], kept: int) -> None:
    with Container(config={**bare, "kv_create": True}) as container:
        stores = Stores(container.config, container.storage)
        rows = stores.rows()
        store, count = Executing(container.storage(), rows), itertools.count()

        class Killed:
            def execute(self, *args: Any) -> Any:
                if next(count) >= kept:
                    raise Stopped
                return store.execute(*args)

        added = [1]
        with contextlib.suppress(Stopped):  # PostgreSQL makes its index by a statement more
            tables.create(Killed(), rows)
            added = []
        assert added or kept > 3
        assert tables.create(store, rows) == added
        assert tables.create(store, rows) == [] and tables.of(rows).version_of(store, 5) == 1
        assert container.kv().put_if_absent("a", b"") and container.kv().sweep() == 0


def test_an_upgrade_keeps_keys_and_older_nodes_go_on(sql_case: Case) -> None:
    kv = sql_case.container.kv()
    kv.put("a", b"1", ttl=1000)
    rows = Stores(sql_case.container.config, sql_case.container.storage).rows()
    store, later = Executing(sql_case.container.storage(), rows), tables.of(rows)
    steps = (*later.steps, Step(2, ("ALTER TABLE $table ADD COLUMN note INT",)))
    try:
        assert later.create(store, 5, steps) == [2]
        assert kv.get("a") == b"1" and kv.put("b", b"2") and kv.increment("n") == 1
        assert tables.create(store, rows) == [], "an older node makes nothing, and takes nothing away"
        with Container(config={**sql_case.settings, "kv_create": False}) as container:
            assert container.kv().get("b") == b"2"
    finally:
        drop(sql_case.settings)


def test_a_table_of_version_1_that_was_written_by_hand(bare: dict[str, Any]) -> None:
    """It is what the first release made: whoever changes it writes an upgrade, and this test stays."""
    postgresql = bare["storage_provider"] == "postgresql"
    key, value = ("bytea", "bytea") if postgresql else ("VARBINARY(2049)", "LONGBLOB")
    index = "" if postgresql else ", KEY p8fs_kv_expires_at (expires_at)"
    with Container(config={**bare, "kv_create": False}) as container:
        storage = container.storage()
        storage.execute(
            f"CREATE TABLE p8fs_kv (k {key} NOT NULL PRIMARY KEY, v {value} NOT NULL, version BIGINT NOT NULL, "
            f"expires_at BIGINT{index})"
        )
        storage.execute("CREATE TABLE p8fs_kv_versions (version INT NOT NULL PRIMARY KEY)")
        storage.execute("INSERT INTO p8fs_kv_versions VALUES (1)")
        far = 4_000_000_000_000_000
        for physical, end in ((b"auth\0token", None), (b"auth\0late", far), (b"auth\0old", 1), (b"\0root", None)):
            storage.execute("INSERT INTO p8fs_kv VALUES (%s, %s, %s, %s)", (physical, b"5", 7, end))
        kv = container.kv().namespace("auth")
        assert list(kv.scan()) == [(b"late", b"5"), (b"token", b"5")] and kv.entry("token").version == 7
        assert 1e9 < kv.ttl("late") < 4e9 and container.kv().get("root") == b"5"
        assert kv.compare_and_set("token", 7, b"6") and kv.increment("late") == 6 and kv.sweep() == 1
        rows = storage.execute("SELECT k, v, expires_at FROM p8fs_kv ORDER BY k")
        assert [tuple(row) for row in rows] == [
            (b"\0root", b"5", None), (b"auth\0late", b"6", far), (b"auth\0token", b"6", None),
        ]  # fmt: skip


def test_the_table_and_its_schema_have_the_names_that_the_settings_give(bare: dict[str, Any]) -> None:
    settings = {**bare, "kv_create": True, "kv_table": "p8fs_Keys.select"}
    with Container(config=settings) as container:
        storage = container.storage()
        try:
            assert container.kv().put("a", b"1") and container.kv().increment("n") == 1 and container.kv().sweep() == 0
            quoted = '"p8fs_Keys"."select"' if bare["storage_provider"] == "postgresql" else "`p8fs_Keys`.`select`"
            assert storage.execute(f"SELECT count(*) FROM {quoted}") == [(2,)]
            with container.config.override({"kv_table": TABLE}):
                assert container.kv().get("a") is None, "another table"
        finally:
            cascade = " CASCADE" if bare["storage_provider"] == "postgresql" else ""
            storage.execute(f"DROP SCHEMA {quoted.partition('.')[0]}{cascade}")


@pytest.mark.parametrize("name", ["", "a b", 'a"b', "a;b", "a.b.c", ".a", "a.", "1a", "é", "a" * 49, "a-b", "a`"])
def test_what_is_no_name_of_a_table_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="P8FS_KV_TABLE"):
        Container(config={"kv_table": name}).config()


def test_a_role_that_may_not_make_it_says_so(postgresql_server: Server) -> None:
    drop(postgresql_server.settings)
    with Container(config=postgresql_server.settings) as container:
        storage = container.storage()
        storage.execute("DROP ROLE IF EXISTS reader")
        storage.execute("CREATE ROLE reader LOGIN PASSWORD 'r34der'")
        storage.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        settings = {**postgresql_server.settings, "pg_user": "reader", "pg_password": "r34der", "kv_create": True}
        try:
            with Container(config=settings) as reader, pytest.raises(StorageError, match="permission denied") as caught:
                reader.kv().get("a")
            assert "r34der" not in str(caught.value)
        finally:
            storage.execute("DROP ROLE reader")


def test_a_process_that_is_killed_while_it_writes_leaves_whole_calls(sql_case: Case, tmp_path: Any) -> None:
    sql_case.container.kv().get("a")
    code = f"""
from p8fs_cluster import Container
with Container(config={sql_case.settings!r}) as container:
    kv = container.kv()
    for number in range(10**6):
        kv.put_many({{f"k{{n}}": b"%d" % number for n in range(20)}})
        kv.atomic().check("other", None).put("x", b"%d" % number).put("y", b"%d" % number).commit()
        print(number, flush=True)
"""
    with running(tmp_path / "log", "-c", code) as process:
        process.until(lambda: process.output.count("\n") > 5, "it writes")
    kv = sql_case.container.kv()
    assert len(set(kv.get_many([f"k{n}" for n in range(20)]).values())) == 1
    assert kv.get("x") == kv.get("y") and kv.sweep() == 0
