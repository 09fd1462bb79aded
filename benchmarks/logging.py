"""JSON logging of p8fs_cluster against `logging`'s text and three peers, in one run, each through one handler.

    python -m benchmarks.logging

All write to the null device. Printed are microseconds per record, and the median of the rounds' ratios of throughput.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import statistics
from collections.abc import Callable
from io import StringIO
from timeit import Timer
from typing import Any, TextIO

import loguru
import structlog
from pythonjsonlogger.json import JsonFormatter

from benchmarks.rounds import Loop, aim, measure, ratio
from p8fs_cluster.config.settings import DEFAULT_LOG_FORMAT, P8FSConfig
from p8fs_cluster.logging.context import log_context
from p8fs_cluster.logging.loggers import made, taking_fields
from p8fs_cluster.logging.setup import LoggingSetup

ROUNDS = 15
SECONDS = 0.05
OURS = "p8fs_cluster JSON"
TEXT = "logging text"
SETTINGS = P8FSConfig(log_format="json", service_name="notes", pg_password="s3cret!pass", auth_jwt_secret="k3y-of-jwt")


def through(name: str, formatter: logging.Formatter, sink: TextIO) -> logging.Logger:
    """Return a logger with one handler of `logging`."""
    logger, handler = logging.getLogger(name), logging.StreamHandler(sink)
    handler.setFormatter(formatter)
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    return logger


def structured(sink: TextIO) -> Any:
    """Return structlog's logger, tuned as its documentation advises, without standard logging."""
    return structlog.wrap_logger(
        structlog.WriteLogger(sink),
        processors=[
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )


def loggers(sink: TextIO) -> dict[str, Any]:
    """Return every contender's logger; ours writes to stdout."""
    loguru.logger.remove()
    loguru.logger.add(sink, serialize=True, level="INFO", backtrace=False, diagnose=False)
    return {
        OURS: taking_fields(made("ours")),
        TEXT: through("text", logging.Formatter(DEFAULT_LOG_FORMAT), sink),
        "python-json-logger": through("json", JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"), sink),
        "loguru JSON": loguru.logger,
        "structlog JSON": structured(sink),
    }


def loops(expression: str, contenders: dict[str, Any]) -> dict[str, Loop]:
    """Return what evaluates `expression` with each logger as `log`."""
    return {name: Timer(expression, globals={"log": logger}).timeit for name, logger in contenders.items()}


def show(title: str, contenders: dict[str, Loop]) -> Callable[[str, str], float]:
    """Measure and print one case; return the ratio of the times of two contenders."""
    figures = measure(contenders, ROUNDS, SECONDS)
    print(f"\n{title:44}{'min':>10}{'median':>13}{'throughput of text':>22}")
    for name, seconds in sorted(figures.items(), key=lambda item: statistics.median(item[1])):
        least, median = min(seconds) * 1e6, statistics.median(seconds) * 1e6
        print(f"  {name:40}{least:9.3f} µs{median:9.3f} µs{ratio(figures, TEXT, name):19.2f}")
    return lambda one, other: ratio(figures, one, other)


def verify() -> None:
    """Make sure that ours writes what it should, once, before it is timed."""
    with contextlib.redirect_stdout(StringIO()) as written:
        made("ours").info("saved note %s of %s", 7, "ann")
    entry = json.loads(written.getvalue())
    assert (entry["message"], entry["service"]) == ("saved note 7 of ann", "notes")


def main() -> None:
    """Verify, measure, and say which aims are met."""
    LoggingSetup.configure_logging(SETTINGS)
    verify()
    with open(os.devnull, "w", encoding="utf-8") as sink:  # noqa: PTH123
        with contextlib.redirect_stdout(sink):
            contenders = loggers(sink)
        call = loops('log.info("saved note %s of %s", 7, "ann")', contenders)
        call["loguru JSON"] = loops('log.info("saved note {} of {}", 7, "ann")', contenders)["loguru JSON"]
        call[OURS] = _redirected(call[OURS], sink)
        fields = {OURS: _redirected(loops('log.info("saved", note_id=7, user="ann")', contenders)[OURS], sink)}
        extra = loops('log.info("saved", extra={"note_id": 7, "user": "ann"})', contenders)
        named = loops('log.info("saved", note_id=7, user="ann")', contenders)
        fields |= {name: extra[name] for name in (TEXT, "python-json-logger")}
        fields |= {name: named[name] for name in ("loguru JSON", "structlog JSON")}
        disabled = loops('log.debug("saved note %s of %s", 7, "ann")', contenders)
        plain = show("a record", call)
        with log_context(request_id="a1", trace_id="0" * 31 + "1"):
            show("a record with two fields, in a context", fields)
        quiet = show("a disabled call", disabled)
    print()
    aim("time of a record, to text of logging", plain(OURS, TEXT), 1.25)
    for peer in ("loguru JSON", "python-json-logger"):
        aim(f"time of a record, to {peer}", plain(OURS, peer), 1)
    aim("time of a disabled call, to logging", quiet(OURS, TEXT), 1.1)


def _redirected(loop: Loop, sink: TextIO) -> Loop:
    def inside(times: int) -> float:
        with contextlib.redirect_stdout(sink):
            return loop(times)

    return inside


if __name__ == "__main__":
    main()
