"""Under gevent's patches greenlets go on while one waits, deadlines hold, and a killed greenlet poisons nothing."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.processes import variables
from tests.servers import Server

PROGRAM = """
import gevent.monkey

gevent.monkey.patch_all()
import gevent
from p8fs_cluster import container
from p8fs_cluster.exceptions import StorageTimeout

storage = container.storage()
sleep = {"postgresql": "SELECT pg_sleep(%s)", "tidb": "SELECT SLEEP(%s)"}[storage.provider]
meanwhile = []
waiting = gevent.spawn(storage.execute, sleep, (0.5,))
while not waiting.ready():
    gevent.sleep(0.01)
    meanwhile.append(1)
print("others went on:", len(meanwhile) > 5)
for timeout in (None, 0.3):
    try:
        storage.execute(sleep, (60,), timeout=timeout)
    except StorageTimeout:
        print("ended in time")


def victim():
    with storage as connection:
        connection.cursor().execute(sleep, (60,))


victims = [gevent.spawn(victim) for _ in range(3)]
gevent.sleep(0.3)
gevent.killall(victims)
print([storage.execute("SELECT 7") for _ in range(4)] == [[(7,)]] * 4, storage.stats()["borrowed"])
"""


def test_greenlets(sql_server: Server) -> None:
    settings = {**sql_server.settings, "query_timeout": 1, "pool_max_size": 3}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env={**os.environ, **variables(settings)}
    )
    assert done.stdout.splitlines() == ["others went on: True", "ended in time", "ended in time", "True 0"], done.stderr
