"""Reloads against reading threads: no reader sees a part of one snapshot with a part of another.

python -m tests.fuzz.reloads 10000
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from pathlib import Path

from p8fs_cluster import Container

READERS = 3


def torn(reloads: int) -> list[object]:
    """Reload as often, a `.env` in the working directory replaced each time; return what no one snapshot held."""
    texts = [f"P8FS_PG_HOST=h{n}\nP8FS_PG_DATABASE=h{n}\nP8FS_PG_PASSWORD=h{n}\n" for n in range(2)]
    found: list[object] = []
    stop = threading.Event()
    replace(texts[0])
    with Container() as container:
        settings = container.config

        def read() -> None:
            while not stop.is_set():
                snapshot = settings()
                parts = {snapshot.pg_host, snapshot.pg_database, snapshot.pg_password.get_secret_value()}
                if len(parts) != 1 or f":{snapshot.pg_host}@" not in snapshot.pg_connection_string:
                    found.append(parts)

        threads = [threading.Thread(target=read) for _ in range(READERS)]
        for thread in threads:
            thread.start()
        try:
            for n in range(reloads):
                replace(texts[n % 2])
                settings.reload()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    return found


def replace(text: str) -> None:
    """Put another `.env` in the place of the one that is there."""
    Path(".env~").write_text(text)
    Path(".env~").replace(".env")


if __name__ == "__main__":
    sys.setswitchinterval(5e-5)
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        seen = torn(wanted)
        os.chdir("/")
    print(f"{wanted:,} reloads, {READERS} reading threads: {len(seen)} torn reads")
    sys.exit(bool(seen))
