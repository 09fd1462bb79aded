"""Take the console or the root logger over: each record still comes once, redacted, on the right stream."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import Container
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.logging.setup import LoggingSetup, usable

SETTINGS = {"log_format": "%(levelname)s %(message)s", "pg_password": "hunter2"}


@pytest.fixture(autouse=True)
def root_as_it_was() -> Iterator[None]:
    """Take away what others have set up in a test: the streams that they write to are those of the test."""
    before, level = list(logging.root.handlers), logging.root.level
    yield
    LoggingSetup.reset()
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False  # by fileConfig and dictConfig
    logging.root.handlers[:] = before
    logging.root.setLevel(level)


def file_config() -> None:
    """Do what alembic's env.py does, with the file that it writes."""
    Path("alembic.ini").write_text(
        "[loggers]\nkeys = root\n[handlers]\nkeys = console\n[formatters]\nkeys = generic\n"
        "[logger_root]\nlevel = WARNING\nhandlers = console\n"
        "[handler_console]\nclass = StreamHandler\nargs = (sys.stderr,)\nformatter = generic\n"
        "[formatter_generic]\nformat = theirs %(message)s\n"
    )
    logging.config.fileConfig("alembic.ini")


def dict_config(**root: Any) -> None:
    handlers = {"theirs": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr"}}
    logging.config.dictConfig({"version": 1, "handlers": handlers, "root": {"handlers": ["theirs"], **root}})


TAKEOVERS: dict[str, Callable[[], object]] = {
    "basicConfig": lambda: logging.basicConfig(force=True),
    "basicConfig to stdout": lambda: logging.basicConfig(force=True, stream=sys.stdout, level="ERROR"),
    "dictConfig": lambda: dict_config(level="CRITICAL"),
    "fileConfig": file_config,
    "handlers cleared": lambda: logging.root.handlers.clear(),
    "a handler added": lambda: logging.root.addHandler(logging.StreamHandler()),
}


@pytest.mark.parametrize("by", TAKEOVERS)
@pytest.mark.parametrize("again", ["configure_logging", "container.logger"])
def test_each_record_comes_once(by: str, again: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Container(config=SETTINGS) as container:
        log = container.logger("p8fs_api")
        plain = logging.getLogger("p8fs_cluster.config")
        log.info("before")
        TAKEOVERS[by]()
        if again == "container.logger" and not LoggingSetup.in_place():
            container.logger("p8fs_api")
        else:
            LoggingSetup.configure_logging(container.config())
        log.info("sent with hunter2")
        plain.warning("ours")
    seen = capsys.readouterr()
    assert seen.out == "INFO before\nINFO sent with ***\nWARNING ours\n"
    assert seen.err == ""


def test_what_others_had_is_given_back() -> None:
    theirs = logging.StreamHandler()
    logging.root.addHandler(theirs)
    LoggingSetup.configure_logging(P8FSConfig())
    assert theirs not in logging.root.handlers
    LoggingSetup.reset()
    assert theirs in logging.root.handlers
    logging.root.removeHandler(theirs)


def test_handlers_that_are_no_console_stay(tmp_path: Path) -> None:
    kept = [logging.StreamHandler(io.StringIO()), logging.FileHandler(tmp_path / "x"), logging.NullHandler()]
    for handler in kept:
        logging.root.addHandler(handler)
    LoggingSetup.configure_logging(P8FSConfig())
    assert all(handler in logging.root.handlers for handler in kept)
    for handler in kept:
        logging.root.removeHandler(handler)
        handler.close()


class Proxy:
    """A stream that logs what is written to it, as Celery's does and many programs' own."""

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def write(self, text: str) -> int:
        if text.strip():
            self.logger.warning(text.strip())
        return len(text)

    def flush(self) -> None:
        """Nothing is kept."""


class Hidden(Proxy):
    """The same, whose logger nobody can see."""

    def __init__(self, logger: Any) -> None:
        self._hidden = logger

    def write(self, text: str) -> int:
        if text.strip():
            self._hidden.warning(text.strip())
        return len(text)


def test_a_stream_that_logs_is_written_past(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    LoggingSetup.configure_logging(P8FSConfig(log_format="%(message)s"))
    beneath = io.StringIO()
    monkeypatch.setattr(sys, "__stdout__", beneath)
    monkeypatch.setattr(sys, "stdout", Proxy(logging.getLogger("redirected")))
    logging.getLogger("p8fs_api").info("once")
    print("printed")
    assert beneath.getvalue() == "once\nprinted\n"


def test_a_stream_that_logs_unseen_makes_no_circle(monkeypatch: pytest.MonkeyPatch) -> None:
    LoggingSetup.configure_logging(P8FSConfig(log_format="%(message)s"))
    heard = io.StringIO()
    other = logging.StreamHandler(heard)
    logging.root.addHandler(other)
    monkeypatch.setattr(sys, "stdout", Hidden(logging.getLogger("redirected")))
    logging.getLogger("p8fs_api").info("once")
    logging.root.removeHandler(other)
    assert heard.getvalue().splitlines().count("once") == 2, "the record, and what the stream has made of it"


class TestStream:
    @pytest.mark.parametrize(("given", "out", "err"), [(None, "x\n", ""), ("stdout", "x\n", ""), ("stderr", "", "x\n")])
    def test_as_the_setting_says(
        self, given: str | None, out: str, err: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        LoggingSetup.configure_logging(P8FSConfig(log_format="%(message)s", log_stream=given))
        logging.getLogger("p8fs_api").info("x")
        assert capsys.readouterr() == (out, err)

    def test_of_a_command_unless_the_setting_says_otherwise(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert LoggingSetup.default_stream("stderr") == "stdout"
        for given, stream in ((None, 1), ("stdout", 0)):
            LoggingSetup.configure_logging(P8FSConfig(log_format="%(message)s", log_stream=given))
            logging.getLogger("p8fs_api").info("x")
            assert capsys.readouterr()[stream] == "x\n"


class TestFaultsInJson:
    def run(self, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
        given = {f"P8FS_{name.upper()}": value for name, value in variables.items()}
        return subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **given}, capture_output=True, text=True, timeout=60
        )

    def test_an_exception_that_ends_the_process(self) -> None:
        code = "from p8fs_cluster import container\ncontainer.logger()\nraise ValueError('with hunter2')"
        done = self.run(code, log_format="json", pg_password="hunter2")
        record = json.loads(done.stdout)
        assert (done.returncode, done.stderr) == (1, "")
        assert (record["level"], record["logger"]) == ("CRITICAL", "p8fs_cluster")
        assert "ValueError: with ***" in record["exception"]

    @pytest.mark.parametrize("how", ["logging.disable()", "logging.root.handlers.clear()"])
    def test_where_nothing_is_logged_python_tells_it(self, how: str) -> None:
        code = f"import logging\nfrom p8fs_cluster import container\ncontainer.logger()\n{how}\nraise ValueError('x')"
        done = self.run(code, log_format="json")
        assert (done.stdout, "ValueError: x" in done.stderr) == ("", True)

    def test_a_traceback_stays_one_where_text_is_logged(self) -> None:
        done = self.run("from p8fs_cluster import container\ncontainer.logger()\nraise ValueError('x')")
        assert done.stderr.startswith("Traceback")

    def test_settings_that_can_not_be_used(self) -> None:
        code = "from p8fs_cluster.frameworks.worker import run\nrun(print)"
        done = self.run(code, log_format="json", pg_port="x", service_name="notes")
        record = json.loads(done.stdout)
        assert (done.returncode, done.stderr, record["service"]) == (1, "", "notes")
        assert "P8FS_PG_PORT (from the environment)" in record["exception"]

    def test_what_can_be_used_of_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {"log_level": "LOUD", "log_format": "json", "pg_port": "x"}.items():
            monkeypatch.setenv(f"P8FS_{name.upper()}", value)
        assert (usable().log_level, usable().log_format) == ("INFO", "json")


QUEUED = """
import signal, sys, threading
from p8fs_cluster import Container
log = Container(config={"log_queue": True, "log_format": "%(message)s"}).logger("p8fs_api")
signal.signal(signal.SIGUSR1, lambda *_: log.warning("from the handler"))
start = threading.Thread.start
def interrupted(self):
    signal.raise_signal(signal.SIGUSR1)  # before the thread runs, and once more when it does
    start(self)
    signal.raise_signal(signal.SIGUSR1)
threading.Thread.start = interrupted
log.info("first")
print(sum(thread.name == "p8fs-logging" for thread in threading.enumerate()), file=sys.stderr)
log.info("last")
"""


def test_a_signals_handler_starts_no_second_writer_and_what_is_left_is_written() -> None:
    done = subprocess.run([sys.executable, "-c", QUEUED], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "1\n")
    lines = done.stdout.splitlines()
    assert sorted(lines) == ["first", "from the handler", "from the handler", "last"]
    assert lines.index("first") < lines.index("last")
