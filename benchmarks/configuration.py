"""Loading and reading settings against pydantic-settings with the same fields, and how soon a changed file is seen.

python -m benchmarks.configuration
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from timeit import Timer
from typing import Any

from pydantic import create_model
from pydantic_settings import BaseSettings, SettingsConfigDict
from watchfiles import watch

from benchmarks.rounds import Figures, aim, measure, ratio
from p8fs_cluster import Container, Section
from p8fs_cluster.config.settings import P8FSConfig, config
from p8fs_cluster.config.watching import DEBOUNCE, STEP

REPLACEMENTS = 60


def main() -> None:
    """Measure in turn, and print the medians and the median of the rounds' ratios."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        reading()
        loading(50, 1.3, "default")
        loading(500, 0.2, "default")
        loading(500, None, "match_prefix")
        following(Path(folder))


def reading() -> None:
    """Read a setting of the live view, and of the model."""
    settings = P8FSConfig()
    assert config.pg_host == settings.pg_host
    reads: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "config.pg_host": (lambda: config.pg_host, lambda: settings.pg_host),
        "config.pg_connection_string": (lambda: config.pg_connection_string, lambda: settings.pg_connection_string),
    }
    print(f"{'':34}{'ours':>12}{'bare':>12}{'ratio':>8}")
    for name, (live, field) in reads.items():
        figures = measure({"ours": Timer(live).timeit, "bare": Timer(field).timeit}, rounds=31, seconds=0.01)
        row(name, figures, 1e9, "ns")
        aim(f"{name} over the model's", ratio(figures, "ours", "bare"), 1.2)


def loading(count: int, limit: float | None, filtering: str) -> None:
    """Load so many settings, half of them from the environment and half from `.env`."""
    names = [f"bench{count}_s{number}" for number in range(count)]
    lines = {f"P8FS_{name.upper()}": f"value {number}" for number, name in enumerate(names)}
    given = dict(list(lines.items())[: count // 2])
    Path(".env").write_text("".join(f"{name}='{value}'\n" for name, value in list(lines.items())[count // 2 :]))
    os.environ.update(given)
    fields: Any = dict.fromkeys(names, (str, "default"))
    bare = create_model("Bare", __base__=_bare(filtering), **fields)
    ours = _ours(count, filtering)
    assert [getattr(bare(), name) for name in names] == [getattr(ours(), name.split("_")[1]) for name in names]
    figures = measure({"ours": Timer(ours).timeit, "bare": Timer(bare).timeit}, rounds=9, seconds=0.2)
    row(f"load {count}, {filtering}", figures, 1e3, "ms")
    if limit is not None:
        aim(f"loading {count} settings over pydantic-settings ({filtering})", ratio(figures, "ours", "bare"), limit)
    for name in given:
        del os.environ[name]
    Path(".env").unlink()


def _bare(filtering: str) -> type[BaseSettings]:
    class Base(BaseSettings):
        model_config = SettingsConfigDict(
            env_prefix="P8FS_",
            env_file=".env",
            extra="ignore" if filtering == "default" else "forbid",
            **({} if filtering == "default" else {"dotenv_filtering": "match_prefix"}),  # type: ignore[typeddict-item]
        )

    return Base


def _ours(count: int, filtering: str) -> Callable[[], Any]:
    fields: Any = {f"s{number}": (str, "default") for number in range(count)}
    name = f"Bench{count}"
    return create_model(name, __base__=Section, __cls_kwargs__={"prefix": f"bench{count}_"}, **fields)


def following(folder: Path) -> None:
    """Replace `.env` again and again: until the new snapshot is there, and until watchfiles tells of the change."""
    ours = [seconds * 1e3 for seconds in _snapshots(folder)]
    bare = [seconds * 1e3 for seconds in _events(folder)]
    print(f"{'file replaced, seen after':34}{statistics.median(ours):9.1f} ms{statistics.median(bare):9.1f} ms")
    aim("a new snapshot over a bare event", statistics.median(ours) / statistics.median(bare), 5)
    aim("a new snapshot", statistics.median(ours), 50, " ms")


def _snapshots(folder: Path) -> list[float]:
    seen = threading.Event()
    taken = []
    with Container() as container:
        container.config.subscribe(lambda old, new, names: seen.set())
        container.watch()
        for number in range(REPLACEMENTS):
            taken.append(_seconds(folder, f"P8FS_PG_HOST=ours{number}\n", seen))
            assert container.config().pg_host == f"ours{number}"
    return taken


def _events(folder: Path) -> list[float]:
    seen, stop = threading.Event(), threading.Event()

    def follow() -> None:
        for _ in watch(folder, debounce=DEBOUNCE, step=STEP, recursive=False, stop_event=stop, watch_filter=None):
            seen.set()

    thread = threading.Thread(target=follow)
    thread.start()
    time.sleep(0.2)  # until it watches
    taken = [_seconds(folder, f"P8FS_PG_HOST=bare{number}\n", seen) for number in range(REPLACEMENTS)]
    stop.set()
    thread.join()
    return taken


def _seconds(folder: Path, text: str, seen: threading.Event) -> float:
    time.sleep(0.03)  # what the last change has caused is over
    beside = folder / "beside" / ".env"  # in a folder that nobody watches
    beside.parent.mkdir(exist_ok=True)
    beside.write_text(text)
    seen.clear()
    begun = time.perf_counter()
    beside.replace(folder / ".env")
    assert seen.wait(10), "never seen"
    return time.perf_counter() - begun


def row(name: str, figures: Figures, unit: float, shown: str) -> None:
    """Print the medians and the ratio."""
    ours, bare = (statistics.median(figures[contender]) * unit for contender in ("ours", "bare"))
    print(f"{name:34}{ours:9.2f} {shown}{bare:9.2f} {shown}{ratio(figures, 'ours', 'bare'):8.2f}")


if __name__ == "__main__":
    main()
