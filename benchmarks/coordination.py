"""Leases against bare statements and tooz, failover, hand-over, nodes and watchers, in one run, on real servers.

    python -m benchmarks.coordination [--rounds N] [--short]

A use is: take a lock that is free, and give it back. Beside it: two bare UPDATEs of one row by key, on one connection
of the driver that commits each; and tooz's lock on PostgreSQL. Commits wait for the disk. Measure on an idle machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from timeit import Timer
from typing import Any

import psycopg
import pymysql
from tooz import coordination as tooz

from benchmarks.rounds import Loop, aim, measure, ratio
from p8fs_cluster import Container
from p8fs_cluster.coordination.lease_rows import LeaseRows
from p8fs_cluster.coordination.terms import Timing
from tests import servers

SECONDS = 0.3
TTL = 3.0
NODES = 1000
BEAT = 5.0
BEATERS = 8
TICK = os.sysconf("SC_CLK_TCK")


def bare(server: servers.Server) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return two UPDATEs of one row by its key, each committed, and what closes their connection."""
    settings = server.settings
    if server.kind == "postgresql":
        connection: Any = psycopg.connect(
            host=settings["pg_host"], port=settings["pg_port"], user=settings["pg_user"],
            password=settings["pg_password"], dbname=settings["pg_database"], autocommit=True,
        )  # fmt: skip
    else:
        connection = pymysql.connect(
            host=settings["tidb_host"], port=settings["tidb_port"], user=settings["tidb_user"],
            password=settings["tidb_password"], database=settings["tidb_database"], autocommit=True,
        )  # fmt: skip
    cursor = connection.cursor()
    cursor.execute("DROP TABLE IF EXISTS bare_row")
    cursor.execute("CREATE TABLE bare_row (name VARCHAR(100) PRIMARY KEY, holder VARCHAR(40), fence BIGINT)")
    cursor.execute("INSERT INTO bare_row VALUES ('one', NULL, 1)")
    sql = "UPDATE bare_row SET holder = %s, fence = fence + 1 WHERE name = %s"

    def two_updates() -> None:
        cursor.execute(sql, ("somebody", "one"))
        cursor.execute(sql, (None, "one"))

    return two_updates, connection.close


def of_tooz(server: servers.Server) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return one use of tooz's lock, and what ends it."""
    settings = server.settings
    url = (f"postgresql://{settings['pg_user']}:{settings['pg_password']}@{settings['pg_host']}:{settings['pg_port']}"
           f"/{settings['pg_database']}")  # fmt: skip
    coordinator = tooz.get_coordinator(url, b"node")
    coordinator.start()
    lock = coordinator.get_lock(b"one")

    def use() -> None:
        assert lock.acquire()
        lock.release()

    return use, coordinator.stop


def compare(server: servers.Server, container: Container, rounds: int) -> None:
    """Measure a lock beside bare statements, and beside tooz where it has the store."""
    cluster = container.cluster()
    lock = cluster.lock("one", ttl=15)

    def use() -> None:
        lock.acquire(timeout=0)
        lock.release()

    updates, close = bare(server)
    contenders: dict[str, Loop] = {"lock": Timer(use).timeit, "two UPDATEs": Timer(updates).timeit}
    with contextlib.ExitStack() as stack:
        stack.callback(close)
        if server.kind == "postgresql":
            with_tooz, stop = of_tooz(server)
            stack.callback(stop)
            contenders["tooz"] = Timer(with_tooz).timeit
        figures = measure(contenders, rounds, SECONDS)
    for name, seconds in figures.items():
        print(f"  {server.kind:10} {name:12} {statistics.median(seconds) * 1e6:8.0f} µs")
    aim(f"{server.kind}: acquire and release, of two bare UPDATEs", ratio(figures, "lock", "two UPDATEs"), 1.3)
    if "tooz" in figures:
        aim(f"{server.kind}: acquire and release, of tooz", ratio(figures, "lock", "tooz"), 0.15)


LEADER = """
import sys, time
from p8fs_cluster import Container
with Container(config={settings!r}) as container:
    leader = container.cluster().leader("benchmark", ttl={ttl})
    leader.wait()
    print(time.clock_gettime(time.CLOCK_BOOTTIME), flush=True)
    sys.stdin.read()
"""

NODE = """
import sys
from p8fs_cluster import Container
with Container(config={settings!r}) as container:
    print(container.cluster().join(ttl={ttl}), flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def process(code: str, settings: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    """Run code in a process, which is killed at the end."""
    command = [sys.executable, "-c", code.format(settings=settings, ttl=TTL)]
    running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def now() -> float:
    """Return the time by which processes of this machine compare."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def failover(server: servers.Server, container: Container, times: int) -> None:
    """Kill the leader, and measure until another process leads."""
    leader = container.cluster().leader("benchmark", ttl=TTL)
    taken = []
    for _ in range(times):
        leader.withdraw()
        with process(LEADER, {**server.settings, "cluster_create": True}) as running:
            assert running.stdout is not None
            running.stdout.readline()
            leader.wait(0)
            time.sleep(TTL / 2)
            killed = now()
            running.send_signal(signal.SIGKILL)
            assert leader.wait(60)
            taken.append(now() - killed)
    print(f"  {server.kind:10} failover after kill -9 {', '.join(f'{each:.2f}' for each in taken)} s")
    aim(f"{server.kind}: failover after kill -9, ttl {TTL:g} s", max(taken), TTL + 0.3, " s")


def hand_over(server: servers.Server, container: Container, times: int) -> None:
    """Release a lock that another container waits for, and measure until that one has it."""
    timing = Timing.of(15)
    lock = container.cluster().lock("handed over", ttl=15)
    taken = []
    with Container(config=server.settings) as other:
        for _ in range(times):
            waiting = other.cluster().lock("handed over", ttl=15)
            assert lock.acquire()
            begun = threading.Thread(target=waiting.acquire)
            begun.start()
            while not other.coordination().coordinator().wakeups._waiting:
                time.sleep(0.01)
            time.sleep(0.2)
            released = now()
            lock.release()
            begun.join()
            taken.append(now() - released)
            waiting.release()
    print(f"  {server.kind:10} hand-over after a release {statistics.median(taken) * 1000:.1f} ms (median)")
    limit = 0.05 if server.kind == "postgresql" else timing.interval + 0.1
    aim(f"{server.kind}: hand-over after a clean release, median", statistics.median(taken), limit, " s")


def cpu_of(server: servers.Server) -> float:
    """Return the seconds of processor that the server's processes have used."""
    assert server.process is not None
    total = 0
    for pid in server._family(server.process.pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
    return total / TICK


def beats(server: servers.Server, container: Container, seconds: float) -> None:
    """Let a thousand nodes beat each five seconds, by the statement of their renewals, and measure the server."""
    timing = Timing.of(3 * BEAT, interval=BEAT)
    coordinator = container.coordination().coordinator()
    coordinator.ask(lambda connected: None)
    stores = [coordinator.engine.store(time.time) for _ in range(BEATERS)]
    nodes = [[_joined(LeaseRows(store), f"node:{number}-{index}", timing) for index in range(NODES // BEATERS)]
             for number, store in enumerate(stores)]  # fmt: skip
    over = time.monotonic() + seconds
    used = cpu_of(server)
    began = time.monotonic()

    def beat(rows: LeaseRows, mine: list[tuple[str, int]]) -> None:
        pause = BEAT / len(mine)
        due = time.monotonic()
        while time.monotonic() < over:
            for key, fence in mine:
                assert rows.renew(key, key, fence, timing, 5.0)
                due += pause
                time.sleep(max(0.0, due - time.monotonic()))
                if time.monotonic() >= over:
                    break

    threads = [
        threading.Thread(target=beat, args=(LeaseRows(store), mine)) for store, mine in zip(stores, nodes, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    share = (cpu_of(server) - used) / (time.monotonic() - began)
    for store in stores:
        store.close()
    aim(f"{server.kind}: {NODES:,} nodes that beat each {BEAT:g} s, of one core", share * 100, 10, " %")


def _joined(rows: LeaseRows, key: str, timing: Timing) -> tuple[str, int]:
    rows.create(key, timing.ttl, 5.0)
    token = rows.acquire(key, key, timing, "{}", 5.0)
    assert token is not None
    return key, token.fence


def losses(server: servers.Server, container: Container, times: int) -> None:
    """Kill a node, and measure until a watcher sees it."""
    cluster = container.cluster()
    cluster.join(ttl=TTL)
    poll = Timing.of(TTL).interval
    time.sleep(TTL)  # then its own beats show that the database can be reached
    taken = []
    for _ in range(times):
        with process(NODE, {**server.settings, "cluster_create": True}) as running:
            assert running.stdout is not None
            id_ = running.stdout.readline().strip()
            changes = cluster.watch(cluster.nodes())
            killed = now()
            running.send_signal(signal.SIGKILL)
            seen = next(change for change in changes if change.node.id == id_)
            taken.append(now() - killed)
            assert seen.kind == "lost"
    cluster.leave()
    print(f"  {server.kind:10} a watcher sees a lost node after {', '.join(f'{each:.2f}' for each in taken)} s")
    aim(f"{server.kind}: a watcher sees a lost node, ttl {TTL:g} s", max(taken), TTL + poll, " s")


def durable(kind: str) -> contextlib.AbstractContextManager[servers.Server]:
    """Return a server whose commits wait for the disk, as they do in production; the tests' own don't."""
    if kind == "postgresql":
        return servers.postgresql({"private": b""}, fsync="on")
    if kind == "mariadb":
        return servers.mariadb({"private": b""}, innodb_flush_log_at_trx_commit="1")
    return servers.tidb()


def main() -> None:
    """Measure each server there is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coordination")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--short", action="store_true")
    arguments = parser.parse_args()
    times = 2 if arguments.short else 6
    for kind in servers.SQL:
        with durable(kind) as server, Container(config=server.settings) as container:
            compare(server, container, arguments.rounds)
            hand_over(server, container, 2 * times if kind == "postgresql" else times)
            if kind != "tidb":  # which takes no ttl under 15 s
                failover(server, container, times)
                losses(server, container, times)
            beats(server, container, 10 if arguments.short else 30)


if __name__ == "__main__":
    main()
