"""A process that asks for a cached result, when all of them may: `python -m tests.kv.computing THREADS WAY`.

It computes for as long as `way` says: `quickly`, `until told` by the key `go on`, or until then and `in vain`.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from p8fs_cluster import Container
from tests.processes import until


def asked(kv: Any, way: str) -> Any:
    """Return the function that is cached, which counts its runs in the store."""

    @kv.json.cached(600, name="answer")
    def answer(question: str) -> list[object]:
        run = kv.increment("runs")
        if way == "quickly":
            time.sleep(0.2)
        else:
            until(lambda: kv.exists("go on"), "somebody tells it")
        if way == "in vain":
            raise RuntimeError("there is no answer")
        return [question, run]

    return answer


if __name__ == "__main__":
    threads, how = int(sys.argv[1]), sys.argv[2]
    with Container() as container:
        store = container.kv().namespace("computed")
        answer = asked(store, how)
        store.increment("ready")
        until(lambda: store.exists("begin"), "all may begin")
        with ThreadPoolExecutor(threads) as pool:
            for result in pool.map(answer, ["what"] * threads):
                print(result)
