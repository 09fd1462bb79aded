"""Each fault, once: it returns what it counted, and whether that is what the handle promises."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pymysql
from rocksdict import Options, Rdict

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import StorageError
from tests.faults.callers import Calls, calling, wait_for
from tests.faults.sides import THREADS, Ours, Side, side
from tests.faults.writer import TABLE
from tests.processes import variables
from tests.servers import STARTED, Server

DEADLINE = 1.0
GRACE = 0.5
"""Seconds that the promises allow after a deadline, and after a server is back."""
ROTATORS = 24
SLOW = {"postgresql": "SELECT pg_sleep(0.003)", "tidb": "SELECT SLEEP(0.003)"}


class Outcome(NamedTuple):
    """What was counted, in words, and whether the promise was kept."""

    told: str
    kept: bool


def rotations(ours: bool, kind: str, times: int) -> Outcome:
    """A password rotates while 24 threads query: no query fails."""
    with STARTED[kind]() as server, _administrator(server) as administrator:
        return _swapped(ours, server, times, [_rotated(server, administrator, number) for number in range(times)])


def moves(ours: bool, kind: str, times: int) -> Outcome:
    """The settings go to and fro between two servers while 24 threads query: no query fails."""
    with STARTED[kind]() as one, STARTED[kind]() as other:
        steps = [(lambda server=server: server.settings) for _ in range(times // 2) for server in (other, one)]
        return _swapped(ours, one, times, steps)


def _swapped(ours: bool, server: Server, times: int, steps: list[Any]) -> Outcome:
    with side(ours, server.settings) as used:
        sql = SLOW[server.settings["storage_provider"]]
        with calling(lambda: used.execute(sql), ROTATORS, pause=0) as calls:
            for step in steps:
                used.swap(step())
                reached = len(calls.made) + ROTATORS
                wait_for(lambda reached=reached: len(calls.made) >= reached, 20)
    failed = len(calls.failed())
    return Outcome(f"{failed} of {len(calls.made)} queries failed in {times} swaps", failed == 0)


def _rotated(server: Server, administrator: Any, number: int) -> Any:
    """Return what gives the user its next password, and returns the settings with it."""
    provider, password = server.settings["storage_provider"], f"rotated{number}"
    prefix = "pg" if provider == "postgresql" else "tidb"

    def rotate() -> dict[str, Any]:
        cursor = administrator.cursor()
        if provider == "postgresql":
            cursor.execute(f"{'ALTER' if number else 'CREATE'} ROLE rotating LOGIN PASSWORD '{password}'")
        else:
            cursor.execute("CREATE USER IF NOT EXISTS rotating@'%'")
            cursor.execute(f"ALTER USER rotating@'%' IDENTIFIED BY '{password}'")
            cursor.execute("GRANT ALL ON *.* TO rotating@'%'")
        return {**server.settings, f"{prefix}_user": "rotating", f"{prefix}_password": password}

    return rotate


def _administrator(server: Server) -> Any:
    settings = P8FSConfig(**server.settings)
    if settings.storage_provider == "postgresql":
        return psycopg.connect(settings.pg_connection_string, autocommit=True)
    return pymysql.connect(
        host=settings.tidb_host,
        port=settings.tidb_port,
        user=settings.tidb_user,
        password=settings.tidb_password.get_secret_value(),
        ssl_disabled=True,
    )


def restarts(ours: bool, kind: str, times: int) -> Outcome:
    """A server restarts while 8 threads query: who calls while it is up is served."""
    up_failures = calls_made = 0
    with STARTED[kind]() as server, side(ours, server.settings) as used:
        with calling(lambda: used.execute("SELECT 1"), THREADS) as calls:
            for _ in range(times):
                served = _successes(calls)
                wait_for(lambda served=served: _successes(calls) > served + THREADS, 5)
                server.stop()
                server.start()
                begin = time.monotonic()
                wait_for(lambda begin=begin: calls.first_success(begin) < 1e17, 40)
                up_failures += sum(call.fault is not None for call in calls.between(begin, time.monotonic()))
        calls_made = len(calls.made)
    told = f"{up_failures} calls failed that began while it was up, of {calls_made} in {times} restarts"
    return Outcome(told, up_failures == 0)


def _successes(calls: Calls) -> int:
    return sum(call.ok for call in tuple(calls.made))


def idle(ours: bool, kind: str, times: int) -> Outcome:
    """A server restarts while all connections are idle: who calls then is served."""
    failed = 0
    with STARTED[kind]() as server, side(ours, server.settings) as used:
        for _ in range(times):
            with calling(lambda: used.execute("SELECT 1"), THREADS, pause=0) as calls:
                wait_for(lambda calls=calls: _successes(calls) > 10 * THREADS, 20)
            server.stop()
            server.start()
            for _ in range(THREADS):
                try:
                    used.execute("SELECT 1")
                except Exception:
                    failed += 1
    return Outcome(f"{failed} of {times * THREADS} calls failed after {times} restarts between them", failed == 0)


def outage(ours: bool, kind: str, seconds: float) -> Outcome:
    """A server is away for long: callers fail in time, and the first succeeds as soon as it takes connections."""
    with (
        STARTED[kind]() as server,
        side(ours, server.settings, pool_timeout=DEADLINE) as used,
        calling(lambda: used.execute("SELECT 1"), THREADS, pause=0.01) as calls,
    ):
        server.stop()
        down = time.monotonic()
        time.sleep(seconds)
        accepting = _accepting_from(server)
        server.start()
        accepts = accepting()
        wait_for(lambda: calls.first_success(down) < 1e17, 60)
        longest = calls.longest(down, accepts)
    late = calls.first_success(down) - accepts
    told = f"first success {max(late, 0):.2f} s after it accepts, longest call {longest:.2f} s ({seconds:g} s away)"
    return Outcome(told, late <= GRACE and longest <= DEADLINE + GRACE)


def _accepting_from(server: Server) -> Any:
    """Return what gives the moment from which on the server took connections; it is looked for from now on."""
    found: list[float] = []

    def look() -> None:
        while not server.is_up():
            time.sleep(0.005)
        found.append(time.monotonic())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()

    def accepts() -> float:
        thread.join()
        return found[0]

    return accepts


def hang(ours: bool, kind: str, seconds: float) -> Outcome:
    """A server is stopped, and holds its sockets: every call is back by its deadline."""
    with STARTED[kind]() as server, side(ours, server.settings, pool_timeout=DEADLINE) as used:
        try:
            with _used_while_it_hangs(used, seconds, server.hang) as calls:
                pass
        finally:
            server.go_on()
        return _in_time(calls, used)


def network(ours: bool, kind: str, seconds: float) -> Outcome:
    """The network swallows all packets, in a network of our own: every call is back by its deadline."""
    with STARTED[kind]() as server, side(ours, server.settings, pool_timeout=DEADLINE) as used:
        try:
            with _used_while_it_hangs(used, seconds, lambda: _packets("replace", "tbf", "rate", "8bit", "burst", "1",
                                                                      "latency", "1us")) as calls:  # fmt: skip
                pass
        finally:
            _packets("del")
        return _in_time(calls, used)


def _packets(verb: str, *how: str) -> None:
    subprocess.run(["tc", "qdisc", verb, "dev", "lo", "root", *how], check=True)


@contextlib.contextmanager
def _used_while_it_hangs(used: Side, seconds: float, fault: Any) -> Iterator[Calls]:
    with calling(lambda: used.execute("SELECT 1", timeout=DEADLINE), THREADS) as calls:
        wait_for(lambda: _successes(calls) > THREADS, 20)
        fault()
        time.sleep(seconds)
        calls.over.set()
        now = time.monotonic()
        wait_for(lambda: time.monotonic() > now + DEADLINE + GRACE, 3)
        calls.seen = calls.longest(0, time.monotonic())  # type: ignore[attr-defined]
        yield calls


def _in_time(calls: Calls, used: Side) -> Outcome:
    longest: float = calls.seen  # type: ignore[attr-defined]
    late = sum(call.ended is None or call.ended - call.begun > DEADLINE + GRACE for call in calls.made)
    again = _answers(used)
    return Outcome(f"{late} of {len(calls.made)} calls late, longest {longest:.2f} s; then {again}",
                   late == 0 and again == "serves")  # fmt: skip


def _answers(used: Side) -> str:
    """Return whether it serves again, asked for a while in a thread that may get stuck."""
    answers: list[Any] = []

    def ask() -> None:
        for _ in range(50):
            with contextlib.suppress(Exception):
                answers.append(used.execute("SELECT 1"))
                return
            time.sleep(0.1)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(10)
    return "serves" if answers else "serves nobody"


def forks(ours: bool, kind: str, times: int) -> Outcome:
    """Children of a process that is querying query too: no answer is another's, and no query of the parent breaks."""
    wrong = stuck = 0
    with (
        STARTED[kind]() as server,
        side(ours, server.settings) as used,
        calling(lambda: _own_answer(used), 2) as calls,
    ):
        for number in range(times):
            code = _forked(used, number)
            wrong += code == 1
            stuck += code not in (0, 1)
    broken = len(calls.failed())
    told = (
        f"{wrong} wrong answers and {stuck} stuck or failed in {times} children, {broken} broken queries of the parent"
    )
    return Outcome(told, wrong + stuck + broken == 0)


def _own_answer(used: Side) -> None:
    number = threading.get_ident() % 1_000_000
    assert used.execute(f"SELECT {number}")[0][0] == number


def _forked(used: Side, number: int) -> int:
    child = os.fork()
    if child == 0:
        code = 2
        with contextlib.suppress(BaseException):
            code = 0 if used.execute(f"SELECT {number}")[0][0] == number else 1
        os._exit(code)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -1


def kills(ours: bool, kind: str, times: int) -> Outcome:
    """A process that writes is killed: nothing is lost of which it had said that it was written."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if kind == "rocksdb":
            settings: dict[str, Any] = {"storage_provider": "rocksdb", "rocksdb_path": str(folder / "db")}
        else:
            settings = stack.enter_context(STARTED[kind]()).settings
        said = [number for run in range(times) for number in _killed(settings, run, ours)]
        kept = _kept(settings)
    lost = len(set(said) - kept)
    return Outcome(f"{lost} of {len(said)} writes lost in {times} kills", lost == 0 and bool(said))


def _killed(settings: dict[str, Any], run: int, ours: bool) -> list[int]:
    """Start a writer, kill it when it has said some, and return these."""
    arguments = [sys.executable, "-m", "tests.faults.writer", str(run), "handle" if ours else "bare"]
    writer = subprocess.Popen(arguments, stdout=subprocess.PIPE, env={**os.environ, **variables(settings)})
    assert writer.stdout is not None
    said = [int(writer.stdout.readline()) for _ in range(20 + run % 7)]
    writer.kill()
    said += [int(line) for line in writer.stdout.read().split(b"\n")[:-1]]
    writer.wait()
    writer.stdout.close()
    return said


def _kept(settings: dict[str, Any]) -> set[int]:
    used = Ours(settings)
    try:
        if settings["storage_provider"] != "rocksdb":
            return {row[0] for row in used.execute(f"SELECT n FROM {TABLE}")}
        with used.storage as database:
            return {int(key) for key, _ in database.items()}
    finally:
        used.close()


def rocksdb_forks(ours: bool, kind: str, times: int) -> Outcome:
    """A child that writes to its parent's RocksDB gets an error; bare, the write is lost without one."""
    del kind
    silent = 0
    with tempfile.TemporaryDirectory() as folder:
        used = Ours({"storage_provider": "rocksdb", "rocksdb_path": f"{folder}/ours"})
        bare = Rdict(f"{folder}/bare", Options(raw_mode=True))

        def write(number: int) -> None:
            if not ours:
                bare[str(number).encode()] = b"x"
                return
            with used.storage as database:
                database[str(number).encode()] = b"x"

        with contextlib.suppress(StorageError):
            write(-1)
        for number in range(times):
            child = os.fork()
            if child == 0:
                code = 1
                with contextlib.suppress(BaseException):
                    write(number)
                    code = 0
                os._exit(code)
            silent += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        bare.close()
        used.close()
    return Outcome(f"{silent} of {times} children's writes vanished without an error", silent == 0)
