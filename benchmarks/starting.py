"""What a process pays before its first call: decorating, the first calls, making a container, and importing.

python -m benchmarks.starting
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from functools import partial
from timeit import Timer
from typing import Annotated, Any

from benchmarks.contenders import Service
from benchmarks.contenders.ours import App, application
from benchmarks.rounds import Figures, aim, measure, ratio
from p8fs_cluster import Container, Provide, inject

ROUNDS = 11
COUNTS = (1_000, 10_000)
ANNOTATED = "def f{}(service: Annotated[Service, Provide[App.service]]): return service\n"
STYLES = {
    "Provide[...] as default": ("", "def f{}(service=Provide[App.service]): return service\n"),
    "Annotated": ("", ANNOTATED),
    "Annotated, as a string": ("from __future__ import annotations\n", ANNOTATED),
}
NAMES = {"inject": inject, "Provide": Provide, "App": App, "Service": Service, "Annotated": Annotated}
DECORATE = compile("for name in functions:\n    globals()[name] = inject(globals()[name])", "<decorators>", "exec")
"""Runs among the functions' own module's names, as decorators do."""

BARE, OURS, BY_HAND = "pass", "p8fs_cluster", "by hand"
CONTAINER = "from p8fs_cluster import Container"
CONTAINER_BY_HAND = "import pydantic_settings, dependency_injector.containers"
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
"""What is imported has its bytecode beside it, as if it were installed."""
WITH_FASTAPI = "import importlib.util; assert importlib.util.find_spec('fastapi')"
WITHOUT_FASTAPI = "sys.modules['fastapi'] = sys.modules['starlette'] = None"


def module(style: str, count: int) -> dict[str, Any]:
    """Return the names of a fresh module with so many functions, not decorated yet."""
    head, function = STYLES[style]
    names = {**NAMES, "functions": [f"f{number}" for number in range(count)]}
    source = head + "".join(function.format(number) for number in range(count))
    exec(compile(source, "<functions>", "exec", dont_inherit=True), names)  # noqa: S102
    return names


def decorating(style: str, count: int) -> tuple[float, float]:
    """Return the microseconds that decorating a function took, and its first call."""
    names = module(style, count)
    decorated = Timer(partial(exec, DECORATE, names)).timeit(1)
    functions = [names[name] for name in names["functions"]]
    called = Timer("for function in functions: function()", globals={"functions": functions}).timeit(1)
    assert all(function() is application.service() for function in functions)
    return decorated / count * 1e6, called / count * 1e6


def show_decorating() -> None:
    """Measure how decorating grows with the number of functions: the least of some tries, in turn."""
    print(f"{'decorate':32}{'functions':>10}{'in all':>12}{'each':>12}{'first call':>13}")
    for style in STYLES:
        tries = [[decorating(style, count) for count in COUNTS] for _ in range(3)]
        each = []
        for count, figures in zip(COUNTS, zip(*tries, strict=True), strict=True):
            decorated, called = (min(microseconds) for microseconds in zip(*figures, strict=True))
            print(f"  {style:30}{count:10,}{decorated * count / 1e3:9.1f} ms{decorated:9.1f} µs{called:10.1f} µs")
            each.append(decorated)
        aim(f"{style}, each", max(each), 15, " µs")
        aim(f"{style}, growth of each from {COUNTS[0]:,} to {COUNTS[1]:,} functions", each[1] / each[0], 1.5)


def show_constructing() -> None:
    """Measure `Container()`."""
    figures = measure({"Container()": Timer(Container).timeit}, ROUNDS, 0.03)
    show("make a container", figures)
    aim("Container(), median", statistics.median(figures["Container()"]) * 1e3, 1, " ms")


def process(statement: str, times: int) -> float:
    """Return the seconds that fresh interpreters took for the statement, their start and end included."""
    started = time.perf_counter()
    for _ in range(times):
        subprocess.run([sys.executable, "-c", statement], check=True, env=ENVIRONMENT)
    return time.perf_counter() - started


def within(statement: str, before: str, times: int) -> float:
    """Return the seconds that the statement took in fresh interpreters, without their start and end."""
    source = f"import sys, time; {before}; s = time.perf_counter(); {statement}; print(time.perf_counter() - s)"
    command = [sys.executable, "-c", source]
    return sum(float(subprocess.check_output(command, env=ENVIRONMENT)) for _ in range(times))


def show(title: str, figures: Figures) -> None:
    """Print one case, in milliseconds."""
    print(f"\n{title:42}{'min':>12}{'median':>12}")
    for name, seconds in figures.items():
        print(f"  {name:40}{min(seconds) * 1e3:9.1f} ms{statistics.median(seconds) * 1e3:9.1f} ms")


def show_importing() -> None:
    """Measure `import p8fs_cluster`, whole processes."""
    contenders = {BARE: partial(process, "pass"), OURS: partial(process, "import p8fs_cluster")}
    figures = measure(contenders, 2 * ROUNDS, 0)
    show("import p8fs_cluster, in a fresh process", figures)
    more = statistics.median(ours - bare for ours, bare in zip(figures[OURS], figures[BARE], strict=True))
    aim("import p8fs_cluster, more than a bare process", more * 1e3, 10, " ms")


def show_first_use(title: str, before: str) -> float:
    """Measure the import of the container, and return the ratio to what it stands on."""
    figures = measure(
        {OURS: partial(within, CONTAINER, before), BY_HAND: partial(within, CONTAINER_BY_HAND, before)}, ROUNDS, 0
    )
    show(f"first use of Container, {title}", figures)
    return ratio(figures, OURS, BY_HAND)


def main() -> None:
    """Measure all, and say which aims are met."""
    with application:
        show_decorating()
    show_constructing()
    show_importing()
    for title, before in (("with FastAPI", WITH_FASTAPI), ("without FastAPI", WITHOUT_FASTAPI)):
        aim(f"first use of Container, {title}, to by hand", show_first_use(title, before), 1.15)


if __name__ == "__main__":
    main()
