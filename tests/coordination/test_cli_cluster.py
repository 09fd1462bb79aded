"""`p8fs-cluster cluster`, beside processes that use the same database."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from p8fs_cluster import Container
from p8fs_cluster.cli.app import app
from p8fs_cluster.coordination import inspection
from p8fs_cluster.coordination.coordinator import Connected
from p8fs_cluster.exceptions import LeaseLost
from p8fs_cluster.providers.storage.leases import Busy
from tests.command import p8fs_cluster
from tests.coordination.conftest import TABLES
from tests.processes import running, until, variables
from tests.servers import SQL, Server, free_port
from tests.terminals import terminal
from tests.unit.test_cli_contract import row, shape


@dataclass
class Service:
    """A process that uses the database, which is this one, and the command beside it."""

    container: Container
    settings: dict[str, Any]
    shortest: float
    """Seconds that a node's lease may have."""

    @property
    def cluster(self) -> Any:
        return self.container.cluster()

    @property
    def connected(self) -> Connected:
        return self.container.coordination().coordinator().connected("calls")

    def run(self, *arguments: str, code: int = 0) -> Result:
        """Run the command in this process, with settings that let tables be made at first use."""
        settings = {**self.settings, "cluster_create": True}
        done = CliRunner().invoke(app, ["cluster", *arguments], env=variables(settings))
        assert done.exit_code == code, done.output
        password = next(str(value) for name, value in self.settings.items() if name.endswith("_password"))
        assert password not in done.output
        return done

    def answer(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)


@pytest.fixture(params=SQL)
def bare(request: pytest.FixtureRequest) -> Iterator[Service]:
    """A database without tables."""
    server: Server = request.getfixturevalue(f"{request.param}_server")
    with Container(config={**server.settings, "cluster_create": False}) as container:
        for table in TABLES:
            container.storage().execute(f"DROP TABLE IF EXISTS {table}")
        yield Service(container, server.settings, 15.0 if request.param == "tidb" else 1.0)


@pytest.fixture
def service(bare: Service) -> Service:
    """A database with tables."""
    assert bare.answer("init")["added"]
    return bare


class TestInit:
    def test_it_makes_what_is_missing_and_says_so(self, bare: Service) -> None:
        assert bare.answer("init") == {"version": 1, "added": [1]}
        with bare.cluster.lock("invoices", ttl=15) as lock:
            assert bare.answer("init") == {"version": 1, "added": []}
            assert "nothing to do" in bare.run("init").stdout
            lock.extend()

    def test_it_makes_a_table_again_that_was_deleted(self, service: Service) -> None:
        for table in TABLES:
            service.container.storage().execute(f"DROP TABLE {table}")
            assert service.answer("init")["version"] == 1
            service.container.storage().execute(f"SELECT * FROM {table}")

    def test_nothing_else_makes_them(self, bare: Service) -> None:
        for command in ("nodes", "leaders", "locks", "history", "watch"):
            assert "`p8fs-cluster cluster init`" in bare.run(command, code=1).stderr
        done = bare.run("release", "invoices", "--yes", "--json", code=1)
        assert json.loads(done.stdout) == {"fault": done.stderr.strip(), "problems": []}
        assert "cluster init" in bare.run("resign", "scheduler", code=1).stderr
        assert bare.answer("init")["added"] == [1]


class TestNodes:
    def test_what_is_known_of_them(self, service: Service) -> None:
        me = service.cluster.join(labels={"zone": "[a]"}, address="10.0.0.1:8000", ttl=15)
        answer = service.answer("nodes")
        [node] = answer["nodes"]
        assert (node["id"], node["address"], node["labels"]) == (me, "10.0.0.1:8000", {"zone": "[a]"})
        assert (answer["view"], answer["stale"]) == (service.cluster.nodes().number, False)
        assert 0 <= node["beat_age"] < 15
        answer["nodes"][0]["labels"] = None
        assert f"`{shape(answer)}`" == row(("cluster", "nodes"))[2]
        shown = service.run("nodes").stdout
        assert me in shown
        assert "zone=[a]" in shown
        assert f"view {answer['view']}\n" in shown

    def test_a_view_that_nobody_could_check_is_stale(self, service: Service) -> None:
        me = service.cluster.join(ttl=600)
        service.cluster.nodes()
        service.container.storage().execute(
            "UPDATE p8fs_leases SET expires_at = 0 WHERE name = %s", (f"node:{me}",)
        )  # as after an outage
        assert service.answer("nodes")["stale"] is True
        assert "stale" in service.run("nodes").stdout


class TestLeadersAndLocks:
    def test_who_has_what(self, service: Service) -> None:
        leader = service.cluster.leader("scheduler", ttl=15)
        assert leader.wait(30)
        [lease] = service.answer("leaders")
        assert (lease["name"], lease["state"], lease["fence"]) == ("scheduler", "held", leader.token.fence)
        assert lease["owner"] == service.container.coordination().coordinator().owner()
        assert 0 < lease["seconds_left"] <= 15
        assert lease["age"] >= 0
        assert lease["resigning"] is False
        assert f"`{shape([lease])}`" == row(("cluster", "leaders"))[2] == row(("cluster", "locks"))[2]
        assert "scheduler" in service.run("leaders").stdout

    def test_what_is_free_keeps_who_had_it_last(self, service: Service) -> None:
        with service.cluster.lock("a[b]", ttl=15), service.cluster.lock("b", ttl=15):
            assert [lease["state"] for lease in service.answer("locks")] == ["held", "held"]
        leases = service.answer("locks")
        assert [(lease["name"], lease["state"]) for lease in leases] == [("a[b]", "free"), ("b", "free")]
        assert all(lease["owner"] and lease["seconds_left"] is lease["age"] is None for lease in leases)
        assert service.answer("locks", "--held") == service.answer("leaders") == []
        assert "a[b]" in service.run("locks").stdout

    def test_a_row_that_was_deleted_blocks_for_a_ttl(self, service: Service) -> None:
        lock = service.cluster.lock("invoices", ttl=60)
        assert lock.acquire()
        service.container.storage().execute("DELETE FROM p8fs_leases WHERE name = 'lock:invoices'")
        assert "was deleted" in service.run("release", "invoices", code=2).stderr
        with Container(config=service.settings) as other:
            assert not other.cluster().lock("invoices", ttl=60).acquire(timeout=0)
        [lease] = service.answer("locks", "--held")
        assert (lease["state"], lease["age"]) == ("blocked", None)
        assert service.answer("release", "invoices", "--yes")["released"] is True


class TestRelease:
    def test_its_holder_loses_it_and_another_has_a_later_fence(self, service: Service) -> None:
        lock = service.cluster.lock("invoices", ttl=600)
        assert lock.acquire()
        token = lock.token
        answer = service.answer("release", "invoices", "--yes")
        assert (answer["released"], answer["fence"]) == (True, token.fence)
        assert f"`{shape(answer)}`" == row(("cluster", "release"))[2]
        assert service.answer("locks")[0]["fence"] > token.fence
        with Container(config=service.settings) as container:
            other = container.cluster().lock("invoices", ttl=15)
            assert other.acquire(timeout=0)
            assert other.token > token
            with pytest.raises(LeaseLost), service.container.storage().connection() as connection:
                lock.guard(connection)
            assert lock.lost.is_set()
            assert other.held

    def test_a_renewal_tells_its_holder_that_nobody_has_it(self, service: Service) -> None:
        lock = service.cluster.lock("invoices", ttl=15)
        assert lock.acquire()
        told = service.run("release", "invoices", "--yes").stdout
        assert service.container.coordination().coordinator().owner() in told
        with pytest.raises(LeaseLost, match="taken away: nobody has it"):
            lock.extend()

    def test_what_is_free_already(self, service: Service) -> None:
        with service.cluster.lock("invoices", ttl=15):
            pass
        assert service.answer("release", "invoices")["released"] is False
        assert service.run("release", "invoices").stdout == "invoices was free already\n"

    def test_a_name_that_is_not_there(self, service: Service) -> None:
        with service.cluster.lock("invoices", ttl=15):
            done = service.run("release", "invoice", "--yes", "--json", code=2)
            assert json.loads(done.stdout)["fault"] == "invoice: there is no such lock; did you mean invoices?"
            assert "there is no such lock" in service.run("release", "xyz", code=2).stderr
            assert "there is no such leader" in service.run("resign", "invoices", code=2).stderr
        assert row(("cluster", "release"))[1]
        assert row(("cluster", "resign"))[1]

    def test_nothing_is_done_without_a_yes(self, service: Service) -> None:
        lock = service.cluster.lock("invoices", ttl=15)
        assert lock.acquire()
        assert "--yes" in service.run("release", "invoices", code=2).stderr
        lock.extend()
        for word, code, said in (("n", 1, "nothing was released"), ("y", 0, "invoices is free now")):
            with terminal("cluster", "release", "invoices", columns=200, **service.settings) as shown:
                shown.until_seen("Free the lock invoices? [y/N]")
                shown.type(f"{word}\n")
                assert shown.wait() == code, shown.seen
                assert said in shown.seen
        with pytest.raises(LeaseLost):
            lock.extend()

    def test_whoever_has_it_meanwhile_keeps_it(self, service: Service) -> None:
        lock = service.cluster.lock("invoices", ttl=15)
        assert lock.acquire()
        seen = inspection.lease_of(service.connected, "lock", "invoices", 5)
        lock.release()
        assert not inspection.release(service.connected, seen, 5)
        assert lock.acquire()
        assert not inspection.release(service.connected, seen, 5)
        lock.extend()
        lock.release()

    def test_a_guarded_transaction_is_waited_for(self, service: Service) -> None:
        lock = service.cluster.lock("invoices", ttl=15)
        assert lock.acquire()
        seen = inspection.lease_of(service.connected, "lock", "invoices", 5)
        with service.container.storage().connection() as connection:
            lock.guard(connection)
            with pytest.raises(Busy, match="a transaction of its holder"):
                inspection.release(service.connected, seen, 0.3)
        assert inspection.release(service.connected, seen, 5)


class TestResign:
    def test_another_leads_then(self, service: Service) -> None:
        leader = service.cluster.leader("scheduler", ttl=15)
        assert leader.wait(30)
        fence = leader.fence
        with Container(config=service.settings) as container:
            other = container.cluster().leader("scheduler", ttl=15)
            answer = service.answer("resign", "scheduler")
            assert (answer["asked"], answer["fence"]) == (True, fence)
            assert f"`{shape(answer)}`" == row(("cluster", "resign"))[2]
            assert other.wait(60)
            assert not leader.is_leader
            assert fence < other.fence
            assert service.answer("leaders")[0]["fence"] == other.fence

    def test_it_is_seen_until_it_has_happened(self, service: Service) -> None:
        assert service.cluster.leader("scheduler", ttl=600).wait(30)
        assert service.container.coordination().coordinator().owner() in service.run("resign", "scheduler").stdout
        assert service.answer("leaders")[0]["resigning"] is True
        assert "asked to resign" in service.run("leaders").stdout

    def test_when_nobody_leads(self, service: Service) -> None:
        leader = service.cluster.leader("scheduler", ttl=15)
        assert leader.wait(30)
        leader.withdraw()
        assert service.answer("resign", "scheduler")["asked"] is False
        assert "nobody leads scheduler" in service.run("resign", "scheduler").stdout


class TestHistory:
    def test_what_was_done_the_latest_first(self, service: Service) -> None:
        assert service.cluster.once("migrate", lambda: None)
        leader = service.cluster.leader("scheduler", ttl=15)
        assert leader.wait(30)
        token = leader.token
        leader.withdraw()
        until(lambda: len(service.answer("history", "scheduler")) == 2, "both events of the term")
        ended, elected, done = service.answer("history")
        assert [event["event"] for event in (ended, elected, done)] == ["ended", "elected", "done"]
        assert (ended["detail"], elected["detail"]) == ("it was released", None)
        assert ended["fence"] == elected["fence"] == token.fence
        assert [event["name"] for event in service.answer("history", "--limit", "1")] == ["scheduler"]
        assert [event["kind"] for event in service.answer("history", "migrate")] == ["once"]
        assert f"`{shape([ended])}`" == row(("cluster", "history"))[2]
        assert "it was released" in service.run("history").stdout

    def test_runs_of_a_schedule(self, service: Service) -> None:
        schedule = service.cluster.schedule("nightly", "* * * * * *", lambda: None)
        until(lambda: any(run.outcome == "done" for run in schedule.runs()), "a run")
        schedule.stop()
        event = service.answer("history", "nightly", "--limit", "100")[-1]
        assert (event["kind"], event["event"], event["detail"]) == ("schedule", "run", "done")
        assert event["tick"] <= event["time"] <= event["ended"]

    def test_how_a_term_was_lost(self, service: Service) -> None:
        leader = service.cluster.leader("scheduler", ttl=15)
        assert leader.wait(30)
        service.run("resign", "scheduler")
        until(lambda: not leader.is_leader, "it gives up")
        until(lambda: len(service.answer("history", "scheduler")) == 2, "both events of the term")
        assert service.answer("history")[0]["detail"] == "an operator asks its holder to give it up"

    def test_the_end_of_a_container_ends_a_term(self, service: Service) -> None:
        with Container(config=service.settings) as container:
            assert container.cluster().leader("scheduler", ttl=15).wait(30)
        assert [event["event"] for event in service.answer("history")] == ["ended", "elected"]

    def test_the_last_hundred_are_kept(self, service: Service) -> None:
        values = ", ".join(f"('leader:scheduler', {number}, 'elected', {number}, '', '')" for number in range(250))
        columns = "(name, fence, event, happened_at, owner, why)"
        service.container.storage().execute(f"INSERT INTO p8fs_lease_events {columns} VALUES {values}")
        assert service.cluster.leader("scheduler", ttl=15).wait(30)
        until(lambda: len(service.answer("history", "--limit", "999")) == 100, "the oldest are deleted")

    def test_a_name_that_is_not_there(self, service: Service) -> None:
        assert service.cluster.leader("scheduler", ttl=15).wait(30)
        with service.cluster.lock("invoices", ttl=15):
            assert "did you mean scheduler?" in service.run("history", "schedule", code=2).stderr
            assert "invoices: there is no such" in service.run("history", "invoices", code=2).stderr
        assert row(("cluster", "history"))[1]

    def test_what_could_not_be_written_waits(self, service: Service) -> None:
        """The table is away while a term begins and ends."""
        leader = service.cluster.leader("scheduler", ttl=15)
        assert leader.wait(30)
        leader.withdraw()
        until(lambda: len(service.answer("history")) == 2, "both events of the first term")
        service.container.storage().execute("DROP TABLE p8fs_lease_events")
        assert leader.wait(30)
        fence = leader.fence
        leader.withdraw()
        service.run("init")
        with Container(config=service.settings) as container:
            other = container.cluster().leader("scheduler", ttl=15)
            assert other.wait(30)
            assert not leader.wait(0.1), "it stands again, and is not elected"
            until(lambda: len(service.answer("history")) == 3, "the events")
            assert [event["fence"] for event in service.answer("history")] == [other.fence, fence, fence]


NODE = """
import sys, time
from p8fs_cluster import Container
with Container() as container:
    print(container.cluster().join(ttl=float(sys.argv[1])), flush=True)
    time.sleep(600)
"""


class TestWatch:
    @pytest.mark.parametrize("how", ["--json", "text"])
    def test_who_joins_leaves_and_is_lost(self, how: str, service: Service, tmp_path: Path) -> None:
        arguments = ["-m", "p8fs_cluster", "cluster", "watch", "--interval", "0.1", *([how] if how != "text" else [])]
        settings = {**service.settings, "service_name": "notes"}
        with running(tmp_path / "watch", *arguments, settings=service.settings) as process:
            process.until(lambda: "Ctrl-C" in process.output, "it watches")
            with running(tmp_path / "node", "-c", NODE, service.shortest, settings=settings) as node:
                process.until(lambda: "joined" in process.output, "the node")
                node.process.kill()
                process.until(lambda: "lost" in process.output, "its loss")
            with Container(config=settings) as container:
                me = container.cluster().join(ttl=15)
                process.until(lambda: me in process.output, "the second node")
            process.until(lambda: "left" in process.output, "its leaving")
            assert process.end(signal.SIGINT) == 130
            lines = [line for line in process.output.splitlines() if "notes" in line]
            assert "Traceback" not in process.output
        if how == "text":
            assert [line.split()[1] for line in lines] == ["joined", "lost", "joined", "left"]
            return
        changes = [json.loads(line) for line in lines]
        assert [change["kind"] for change in changes] == ["joined", "lost", "joined", "left"]
        assert [change["node"]["id"] for change in changes[2:]] == [me, me]
        assert [change["view"] for change in changes] == sorted({change["view"] for change in changes})
        changes[0]["node"]["labels"] = None
        assert shape(changes[0]) in row(("cluster", "watch"))[2]


LEFT = """
from p8fs_cluster import Container
with Container() as container:
    assert container.cluster().lock("invoices").acquire()
    assert container.cluster().leader("scheduler").wait(30)
    container.cluster().join()
"""


class TestFaults:
    COMMANDS = (("init",), ("nodes",), ("leaders",), ("history",), ("release", "a", "--yes"), ("watch",))

    def test_a_server_that_is_down(self) -> None:
        for command in self.COMMANDS:
            done = p8fs_cluster("cluster", *command, "--json", pg_host="127.0.0.1", pg_port=free_port())
            assert done.returncode == 1
            assert "P8FS_PG_PORT (from the environment)" in json.loads(done.stdout)["fault"]

    def test_a_store_that_another_process_has(self, rocksdb_settings: dict[str, Any]) -> None:
        with Container(config=rocksdb_settings) as container:
            assert container.cluster().lock("invoices").acquire()
            for command in self.COMMANDS:
                done = p8fs_cluster("cluster", *command, **rocksdb_settings)
                assert (done.returncode, done.stdout) == (1, "")
                assert "in use by another process: leases of an embedded store hold in one process" in done.stderr

    def test_a_store_that_is_looked_at(self, rocksdb_settings: dict[str, Any]) -> None:
        done = p8fs_cluster("cluster", "init", **rocksdb_settings, rocksdb_mode="read-only")
        assert done.returncode == 1
        assert "leases belong to the process that writes it" in done.stderr

    def test_a_store_of_one_process_is_not_watched(self, rocksdb_settings: dict[str, Any]) -> None:
        assert p8fs_cluster("cluster", "init", **rocksdb_settings).returncode == 0
        done = p8fs_cluster("cluster", "watch", **rocksdb_settings)
        assert done.returncode == 2
        assert "belongs to one process" in done.stderr

    def test_what_a_process_has_left(self, rocksdb_settings: dict[str, Any]) -> None:
        subprocess.run([sys.executable, "-c", LEFT], check=True, env={**os.environ, **variables(rocksdb_settings)})
        done = p8fs_cluster("cluster", "locks", "--json", **rocksdb_settings)
        assert [(lease["name"], lease["state"]) for lease in json.loads(done.stdout)] == [("invoices", "free")]
        done = p8fs_cluster("cluster", "history", "--json", **rocksdb_settings)
        assert [event["event"] for event in json.loads(done.stdout)] == ["ended", "elected"]
        assert json.loads(p8fs_cluster("cluster", "nodes", "--json", **rocksdb_settings).stdout)["nodes"] == []
