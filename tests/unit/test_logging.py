"""The shared logging: stdout always, a file when it is set, secrets nowhere."""

from __future__ import annotations

import io
import json
import logging
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from p8fs_cluster import Container
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import ConfigurationError
from p8fs_cluster.logging.formats import JsonFormatter, TextFormatter
from p8fs_cluster.logging.levels import MODULES
from p8fs_cluster.logging.redaction import Redactor
from p8fs_cluster.logging.setup import LoggingSetup

SECRET = "p@ss/w:rd#%41 é\"'\\"


def ours() -> list[logging.Handler]:
    return [handler for handler in logging.getLogger().handlers if handler in LoggingSetup._handlers]


def test_without_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    LoggingSetup.configure_logging(P8FSConfig())
    logging.getLogger("p8fs_api").info("Starting API server")
    logging.getLogger("p8fs_api").debug("not shown")
    out = capsys.readouterr().out
    assert out.endswith(" - p8fs_api - INFO - Starting API server\n")
    assert "not shown" not in out
    assert len(ours()) == 1


def test_with_the_settings_of_the_process(capsys: pytest.CaptureFixture[str]) -> None:
    LoggingSetup.configure_logging()
    logging.getLogger("p8fs").warning("here")
    assert "here" in capsys.readouterr().out


def test_with_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    LoggingSetup.configure_logging(P8FSConfig(log_file="log.txt", log_format="%(name)s %(message)s"))
    logging.getLogger("p8fs_node").info("grüße →")
    assert Path("log.txt").read_text("utf-8") == "p8fs_node grüße →\n" == capsys.readouterr().out


def test_again_with_the_same_and_with_other_settings(capsys: pytest.CaptureFixture[str]) -> None:
    foreign = logging.NullHandler()
    logging.getLogger().addHandler(foreign)
    try:
        for _ in range(3):
            LoggingSetup.configure_logging(P8FSConfig(log_file="a.txt", log_format="%(message)s"))
        assert len(ours()) == 2
        LoggingSetup.configure_logging(P8FSConfig(log_level="ERROR", log_format="%(levelname)s %(message)s"))
        assert len(ours()) == 1
        logging.getLogger("p8fs").warning("hidden")
        logging.getLogger("p8fs").error("shown")
        assert capsys.readouterr().out == "ERROR shown\n"
        assert Path("a.txt").read_text() == ""
        assert foreign in logging.getLogger().handlers
    finally:
        logging.getLogger().removeHandler(foreign)


def test_the_modules_have_the_level_and_get_theirs_back() -> None:
    before = [logging.getLogger(name).level for name in ("", *MODULES)]
    LoggingSetup.configure_logging(P8FSConfig(log_level="debug"))
    assert [logging.getLogger(name).level for name in ("", *MODULES)] == [logging.DEBUG] * 5
    LoggingSetup.reset()
    assert [logging.getLogger(name).level for name in ("", *MODULES)] == before
    assert ours() == []


@pytest.mark.parametrize("path", ["/proc/nope/log.txt", "folder", "missing/log.txt"])
def test_a_file_that_can_not_be_written_changes_nothing(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("folder").mkdir()
    LoggingSetup.configure_logging(P8FSConfig(log_format="%(message)s"))
    with pytest.raises(ConfigurationError, match="P8FS_LOG_FILE") as caught:
        LoggingSetup.configure_logging(P8FSConfig(log_file=path, log_level="DEBUG"))
    assert path in str(caught.value)
    logging.getLogger("p8fs").info("still there")
    assert capsys.readouterr().out == "still there\n"


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    settings = P8FSConfig(log_format="JSON", service_name="notes", environment="test", pg_password=SECRET)
    LoggingSetup.configure_logging(settings)
    log = logging.getLogger("p8fs_auth")
    log.info("saved %s", "é", extra={"note_id": 7, "dsn": settings.pg_connection_string, "deep": [{"a": SECRET}]})
    try:
        raise ValueError(f"wrong {SECRET}")
    except ValueError:
        log.exception("failed")
    saved, failed = map(json.loads, capsys.readouterr().out.splitlines())
    assert saved["time"].endswith("+00:00")
    del saved["time"]
    assert saved == {
        "level": "INFO",
        "logger": "p8fs_auth",
        "message": "saved é",
        "service": "notes",
        "environment": "test",
        "note_id": 7,
        "dsn": "postgresql://postgres:***@localhost:5438/app",
        "deep": [{"a": "***"}],
    }
    assert "ValueError: wrong ***" in failed["exception"]


def test_json_of_whatever_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    LoggingSetup.configure_logging(P8FSConfig(log_format="json"))
    cyclic: dict[Any, Any] = {(1, 2): b"bytes", "when": datetime(2026, 1, 1)}
    cyclic["self"] = cyclic
    logging.getLogger("p8fs").info("cyclic", extra={"it": cyclic})
    entry = json.loads(capsys.readouterr().out)
    assert entry["it"]["(1, 2)"] == "b'bytes'"
    assert entry["it"]["when"] == "2026-01-01 00:00:00"


def test_no_secret_in_any_record(capsys: pytest.CaptureFixture[str]) -> None:
    settings = P8FSConfig(
        pg_password=SECRET, tidb_password="short", auth_jwt_secret="k", log_format="%(message)s", log_file="log.txt"
    )
    LoggingSetup.configure_logging(settings)
    log = logging.getLogger("p8fs")
    log.info("plain %s", SECRET)
    log.info("quoted %s", quote(SECRET, safe=""))
    log.info("repr %r", SECRET)
    log.info("dsn %s and %s", settings.pg_connection_string, settings.tidb_connection_string)
    log.info("key is k, ok")
    log.info("someone else's mysql://root:f%%40o@db/x and host=db password=geheim user=x")
    try:
        raise RuntimeError(settings.pg_connection_string)
    except RuntimeError:
        log.exception("with a traceback")
    out = capsys.readouterr().out
    assert out == Path("log.txt").read_text("utf-8")
    for secret in (SECRET, quote(SECRET, safe=""), "short", "f%40o", "geheim", " k,"):
        assert secret not in out
    assert "key is ***, ok" in out
    assert "postgresql://postgres:***@localhost:5438/app and mysql://root:***@localhost:4000/test" in out


def test_a_public_default_is_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    LoggingSetup.configure_logging(P8FSConfig(log_format="%(message)s"))
    logging.getLogger("p8fs").info("postgresql as postgres: %s", P8FSConfig().pg_connection_string)
    assert capsys.readouterr().out == "postgresql as postgres: postgresql://postgres:***@localhost:5438/app\n"


def test_a_rotated_password_stays_secret(capsys: pytest.CaptureFixture[str]) -> None:
    with Container(config={"pg_password": "first-one", "log_format": "%(message)s"}) as container:
        log = container.logger("p8fs")
        with container.config.override({"pg_password": "second-one"}):
            log.info("first-one second-one")
        log.info("first-one second-one")
    assert capsys.readouterr().out == "*** ***\n*** ***\n"


@example(secret="mess", around="")
@given(
    secret=st.text(min_size=4, max_size=20).filter(lambda text: text.strip("*") and "*" not in text),
    around=st.text(max_size=20),
)
def test_any_secret_is_masked_in_text_and_json(secret: str, around: str) -> None:
    known = frozenset([secret])
    redactor = Redactor(lambda: known)
    record = logging.makeLogRecord({"msg": around + secret + around, "note": {"deep": [secret]}})
    text = TextFormatter("%(message)s", redactor).format(logging.makeLogRecord({"msg": around + secret + around}))
    parsed = json.loads(JsonFormatter({}, redactor).format(record))
    assert secret not in text.replace("***", "\0") or secret in (around + "\0" + around)
    assert secret not in parsed["message"] or secret in around + "***" + around
    assert parsed["note"] == {"deep": ["***"]}


def test_the_logger_follows_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    with Container(config={"log_format": "%(levelname)s %(message)s"}) as container:
        log = container.logger("p8fs_api")
        assert log is logging.getLogger("p8fs_api")
        with container.config.override({"log_level": "DEBUG", "log_format": "json"}):
            log.debug("inside")
        log.debug("outside")
        log.info("outside")
    first, second = capsys.readouterr().out.splitlines()
    assert json.loads(first)["message"] == "inside"
    assert second == "INFO outside"


def test_an_override_that_logging_can_not_follow_changes_nothing() -> None:
    with Container() as container:
        container.logger("p8fs")
        with pytest.raises(ConfigurationError, match="P8FS_LOG_FILE"):
            container.config.override({"log_file": "/proc/nope/x", "pg_host": "other"})
        assert container.config().pg_host == "localhost"
        assert container.config.overridden == ()


def test_secrets_of_settings_that_logging_was_not_given(capsys: pytest.CaptureFixture[str]) -> None:
    LoggingSetup.configure_logging(P8FSConfig(log_format="%(message)s"))
    with Container(config={"auth_jwt_secret": "of another container"}):
        P8FSConfig(pg_password="p@ss/w:rd")
        logging.getLogger("p8fs").info("of another container, p%%40ss%%2fw%%3ard, p%%40ss/w%%3Ard".replace("%%", "%"))
    assert capsys.readouterr().out == "***, ***, ***\n"


def test_a_reload_that_logging_can_not_follow_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with Container() as container:
        container.logger("p8fs")
        monkeypatch.setenv("P8FS_LOG_FILE", "/proc/nope/x")
        monkeypatch.setenv("P8FS_API_PORT", "9")
        with pytest.raises(ConfigurationError, match="P8FS_LOG_FILE"):
            container.config.reload()
        assert container.config().api_port == 8000


def test_the_pool_does_not_chatter_at_info() -> None:
    LoggingSetup.configure_logging(P8FSConfig())
    assert not logging.getLogger("psycopg.pool").isEnabledFor(logging.INFO)


def test_stdout_is_looked_up_when_a_record_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    LoggingSetup.configure_logging(P8FSConfig(log_format="%(message)s"))
    elsewhere = io.StringIO()
    monkeypatch.setattr("sys.stdout", elsewhere)
    logging.getLogger("p8fs").info("moved")
    assert elsewhere.getvalue() == "moved\n"
