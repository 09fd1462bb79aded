"""The key-value store with many keys, many expired ones and many writes of the same ones, on real stores.

    python -m benchmarks.kv_large [--keys N] [--expired N] [--writes N]

By default: ten million keys on RocksDB beside ten thousand, a million expired keys, a million writes of the same ones.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from timeit import Timer
from typing import Any

from rocksdict import Options, Rdict, WriteBatch

from benchmarks.rounds import aim, measure
from p8fs_cluster import Container
from p8fs_cluster.kv import KV
from tests import servers

VALUE = b"v" * 50
FEW = 10_000
BATCH = 10_000
ROUNDS, SECONDS = 9, 0.2
WATCHED = 8.0
"""Seconds in which single puts are timed."""
SAME = 1_000
"""Keys that are written again and again."""
Uses = dict[str, Callable[[], Any]]

SCANNED = """
import re, sys
from pathlib import Path
from p8fs_cluster import Container

def most():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

with Container(config={"storage_provider": "rocksdb", "rocksdb_path": sys.argv[1]}) as container:
    kv = container.kv().namespace("bench")
    list(kv.scan(limit=1))
    before = most()
    print(sum(1 for _ in kv.scan()), most() - before, most())
"""


def name_of(number: int) -> bytes:
    """Return the key with a number."""
    return b"key:%08d" % number


@contextmanager
def filled(folder: Path, keys: int) -> Iterator[Uses]:
    """Give uses of our store and of rocksdict alone, with so many keys each."""
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    settings = {"storage_provider": "rocksdb", "rocksdb_path": folder / "ours"}
    with Container(config=settings) as container, closing(Rdict(str(folder / "bare"), options)) as bare:
        kv = container.kv().namespace("bench")
        for begin in range(0, keys, BATCH):
            names = [name_of(number) for number in range(begin, min(begin + BATCH, keys))]
            kv.put_many(dict.fromkeys(names, VALUE))
            batch = WriteBatch(raw_mode=True)
            for name in names:
                batch.put(name, VALUE)
            bare.write(batch)
        draw = random.Random(0).randrange  # noqa: S311

        def some() -> bytes:
            return name_of(draw(keys - 100))

        yield {
            "get": lambda: kv.get(some()),
            "bare get": lambda: bare.get(some()),
            "scan of 100": lambda: list(kv.scan(start=some(), limit=100)),
            "bare scan of 100": lambda: list(itertools.islice(bare.items(from_key=some()), 100)),
        }


def many_keys(keys: int) -> None:
    """Compare what a store of many keys takes with what one of few does, for ours and for the bare driver."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("few", "many"):
            (folder / part).mkdir()
        with filled(folder / "few", FEW) as few, filled(folder / "many", keys) as many:
            uses = {f"{size} {use}": do for size, of in (("few", few), ("many", many)) for use, do in of.items()}
            figures = measure({use: Timer(do).timeit for use, do in uses.items()}, ROUNDS, SECONDS)
        took = {use: statistics.median(figure) for use, figure in figures.items()}
        for use in ("get", "scan of 100"):
            ours, bare = (took[f"many {each}"] / took[f"few {each}"] for each in (use, f"bare {use}"))
            one, other = (took[f"{size} {use}"] * 1e6 for size in ("few", "many"))
            print(f"{use}: {one:.2f} µs with {FEW:,} keys, {other:.2f} µs with {keys:,}")
            aim(f"{use}, slower by the factor {ours:.2f}, bare by {bare:.2f}: the difference", ours - bare, 0.2)
        command = [sys.executable, "-c", SCANNED, folder / "many" / "ours"]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        print(f"a scan of {int(told[0]):,} keys; the process has {float(told[2]):.0f} MB at most")
        aim("it takes", float(told[1]), 100, " MB")


def percentile(kv: KV[bytes], until: Callable[[], bool]) -> float:
    """Return the milliseconds that 99 of 100 puts take at most."""
    took, number = [], 0
    while not until() or number < SAME:
        began = time.perf_counter()
        kv.put(b"put:%d" % (number % SAME), VALUE)
        took.append(time.perf_counter() - began)
        number += 1
    return statistics.quantiles(took, n=100)[98] * 1e3


def sweeping(kind: str, container: Container, expired: int) -> None:
    """Compare puts while a sweeper works with those while it has nothing to do."""
    kv = container.kv().namespace("bench")
    for begin in range(0, expired, SAME):
        kv.put_many({name_of(begin + number): VALUE for number in range(SAME)}, ttl=0.001)
    end = time.monotonic() + WATCHED
    idle = percentile(kv, lambda: time.monotonic() > end)
    swept: list[int] = []

    def sweep() -> None:
        while some := kv.sweep():
            swept.append(some)
            time.sleep(0.05)

    thread = threading.Thread(target=sweep)
    thread.start()
    busy = percentile(kv, lambda: not thread.is_alive())
    thread.join()
    print(f"{kind}: {sum(swept):,} expired keys swept; 99 of 100 puts take {idle:.2f} ms, and {busy:.2f} ms meanwhile")
    aim(f"{kind}, puts while it is swept", busy / idle, 2)


def overwriting(kind: str, container: Container, writes: int, size: Callable[[], int]) -> None:
    """Print how large the store is in the course of many writes of few keys, which have a time to live."""
    kv = container.kv().namespace("again")
    sizes = []
    for _ in range(10):
        for _ in range(writes // 10 // SAME):
            kv.put_many({name_of(number): VALUE for number in range(SAME)}, ttl=3600)
        sizes.append(size() / 1e6)
    told = ", ".join(f"{each:.1f}" for each in sizes)
    print(f"{kind}: MB after each tenth of {writes:,} writes of {SAME:,} keys: {told}")
    aim(f"{kind}, its largest size in the second half, of that in the first", max(sizes[5:]) / max(sizes[:5]), 1.5)


SIZES = {
    "postgresql": "SELECT pg_total_relation_size('p8fs_kv')",
    "mariadb": "SELECT data_length + index_length FROM information_schema.tables WHERE table_name = 'p8fs_kv'",
}


def on_each_store(expired: int, writes: int) -> None:
    """Sweep, and write again and again."""
    with tempfile.TemporaryDirectory() as name:
        settings = {"storage_provider": "rocksdb", "rocksdb_path": f"{name}/store"}
        with Container(config=settings) as container:
            sweeping("rocksdb", container, expired)
            overwriting("rocksdb", container, writes, lambda: sum(p.stat().st_size for p in Path(name).rglob("*")))
    for kind in servers.SQL:
        with getattr(servers, kind)() as server, Container(config={**server.settings, "kv_create": True}) as container:
            sweeping(kind, container, expired)
            if kind in SIZES:
                storage = container.storage()
                overwriting(kind, container, writes, lambda: storage.execute(SIZES[kind])[0][0])  # noqa: B023


def main() -> None:
    """Measure all of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kv_large")
    parser.add_argument("--keys", type=int, default=10_000_000)
    parser.add_argument("--expired", type=int, default=1_000_000)
    parser.add_argument("--writes", type=int, default=1_000_000)
    arguments = parser.parse_args()
    many_keys(arguments.keys)
    on_each_store(arguments.expired, arguments.writes)


if __name__ == "__main__":
    main()
