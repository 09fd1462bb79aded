"""Levels by logger, the loggers of servers, and files that are moved."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from p8fs_cluster import Container
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import ConfigurationError
from p8fs_cluster.logging import files
from p8fs_cluster.logging.setup import LoggingSetup, check_log_file


def level(name: str) -> str:
    return logging.getLevelName(logging.getLogger(name).getEffectiveLevel())


def test_levels_are_applied_and_taken_back_by_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    logging.getLogger("some.library").setLevel("CRITICAL")
    monkeypatch.setenv("P8FS_LOG_LEVELS", "some.library=debug, p8fs_api=ERROR,root=WARNING")
    with Container() as container:
        container.logger()
        assert [level(name) for name in ("some.library", "p8fs_api", "p8fs", "other")] == [
            "DEBUG",
            "ERROR",
            "INFO",
            "WARNING",
        ]
        monkeypatch.setenv("P8FS_LOG_LEVELS", '{"p8fs": "WARNING"}')
        container.config.reload()
        assert [level(name) for name in ("some.library", "p8fs_api", "p8fs", "other")] == [
            "CRITICAL",
            "INFO",
            "WARNING",
            "INFO",
        ]
    logging.getLogger("some.library").setLevel("NOTSET")


@pytest.mark.parametrize(
    ("general", "levels", "pool", "statements"),
    [
        ("INFO", "", "WARNING", "WARNING"),
        ("DEBUG", "", "INFO", "WARNING"),
        ("ERROR", "", "ERROR", "ERROR"),
        ("INFO", "psycopg=DEBUG,sqlalchemy.engine=INFO", "DEBUG", "INFO"),
    ],
)
def test_what_chatters(general: str, levels: str, pool: str, statements: str) -> None:
    LoggingSetup.configure_logging(P8FSConfig(log_level=general, log_levels=levels))
    assert (level("psycopg.pool"), level("sqlalchemy.engine.Engine")) == (pool, statements)


@pytest.mark.parametrize("levels", ["x=LOUD", "x", "{", "=INFO", '{"x": 3}'])
def test_levels_that_can_not_be_used(levels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P8FS_LOG_LEVELS", levels)
    with pytest.raises(ConfigurationError, match=r"P8FS_LOG_LEVELS \(from the environment\)"):
        P8FSConfig()


def test_handlers_of_servers_are_taken_late_and_given_back(capsys: pytest.CaptureFixture[str]) -> None:
    settings = P8FSConfig(log_format="%(name)s %(message)s")
    LoggingSetup.configure_logging(settings)
    access, muted, foreign = (logging.getLogger(name) for name in ("uvicorn.access", "uvicorn.muted", "uvicornish"))
    console, other = logging.StreamHandler(sys.stdout), logging.NullHandler()
    access.handlers, access.propagate = [console, other], False
    muted.propagate = False
    foreign.handlers, foreign.propagate = [console], False  # its own affair
    for _ in range(2):
        LoggingSetup.configure_logging(settings)
        access.warning("once")
        muted.warning("never")
        assert capsys.readouterr().out == "uvicorn.access once\n"
        assert (access.handlers, muted.propagate, foreign.handlers) == ([other], False, [console])
    LoggingSetup.reset()
    assert (sorted(map(id, access.handlers)), access.propagate) == (sorted(map(id, [other, console])), False)
    for logger in (access, muted, foreign):
        logger.handlers, logger.propagate = [], True


def test_a_file_that_was_moved_is_begun_anew() -> None:
    LoggingSetup.configure_logging(P8FSConfig(log_file="log", log_format="%(message)s"))
    log = logging.getLogger("p8fs")
    log.info("first")
    Path("log").rename("old")
    log.info("second")
    assert (Path("old").read_text(), Path("log").read_text()) == ("first\n", "second\n")


def test_rotation_keeps_so_many() -> None:
    settings = P8FSConfig(log_file="log", log_format="%(message)s", log_file_max_bytes=10, log_file_backups=2)
    LoggingSetup.configure_logging(settings)
    for word in ("one", "two", "three", "four", "five", "longer than ten", "six"):
        logging.getLogger("p8fs").info(word)
    told = {path.name: path.read_text() for path in Path().glob("log*") if path.name != "log.lock"}
    assert told == {"log": "six\n", "log.1": "longer than ten\n", "log.2": "four\nfive\n"}


def test_a_file_that_can_not_be_rotated_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"no regular file.*P8FS_LOG_FILE_MAX_BYTES"):
        LoggingSetup.configure_logging(P8FSConfig(log_file="/dev/null", log_file_max_bytes=1))
    monkeypatch.setattr(files, "fcntl", None)
    with pytest.raises(ConfigurationError, match="no flock"):
        check_log_file(P8FSConfig(log_file="log", log_file_max_bytes=1))


def test_a_line_is_written_where_moving_fails(capsys: pytest.CaptureFixture[str]) -> None:
    settings = P8FSConfig(log_file="log", log_format="%(message)s", log_file_max_bytes=10, log_file_backups=1)
    LoggingSetup.configure_logging(settings)
    Path("log.1").mkdir()
    for word in ("first one", "second", "third"):
        logging.getLogger("p8fs").info(word)
    assert Path("log").read_text() == "first one\nsecond\nthird\n"
    assert capsys.readouterr().err.count("logging to log fails: IsADirectoryError") == 1
