"""What is in a record, whatever was logged: context, keyword fields, ugly values; and never a secret."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from p8fs_cluster import Container, log_context
from p8fs_cluster.config.secrets import without_passwords
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.logging.context import bound, carried
from p8fs_cluster.logging.loggers import FieldLogger, taking_fields
from p8fs_cluster.logging.setup import LoggingSetup

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Json:
    """The shared logging as JSON, and what it has written."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        LoggingSetup.configure_logging(P8FSConfig(log_format="json", pg_password="s3cret!", log_level="DEBUG"))
        self.log = taking_fields(logging.getLogger("p8fs"))

    def entries(self) -> list[dict[str, Any]]:
        out, err = self.capsys.readouterr()
        assert err == ""
        return [json.loads(line) for line in out.split("\n")[:-1]]

    def one(self) -> dict[str, Any]:
        (entry,) = self.entries()
        return entry


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Json:
    written = Json(capsys)
    monkeypatch.setattr(logging.StreamHandler, "emit", lambda *_: None)  # pytest's raise where arguments do
    return written


def test_where_a_record_comes_from(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("HOSTNAME", "notes-7d")
    settings: dict[str, Any] = {"log_format": "json", "service_version": "1.2", "node_name": "n1"}
    for changes, pod in (({}, "notes-7d"), ({"pod_name": "given"}, "given")):
        LoggingSetup.configure_logging(P8FSConfig(**settings, **changes))
        logging.getLogger("p8fs").info("x")
        entry = json.loads(capsys.readouterr().out)
        assert (entry["version"], entry["node"], entry["pod"]) == ("1.2", "n1", pod)


def test_keyword_fields(written: Json) -> None:
    written.log.info("saved %d", 7, note_id=7, password="geheim", dsn="x://u:p/w@h", deep={"pwd": 1})
    entry = written.one()
    assert (entry["message"], entry["note_id"], entry["password"]) == ("saved 7", 7, "***")
    assert (entry["dsn"], entry["deep"]) == ("x://u:***@h", {"pwd": "***"})


def test_fields_of_any_name(written: Json) -> None:
    names = ["name", "msg", "level", "time", "self", "args", "message", "service", "version", "extra_", "args_"]
    names += ["exception", "color_message"]
    written.log.info("x", **{name: f"given {name}" for name in names})
    entry = written.one()
    assert sorted(value for value in entry.values() if str(value).startswith("given")) == sorted(
        f"given {name}" for name in names
    )
    assert (entry["message"], entry["level"], entry["logger"]) == ("x", "INFO", "p8fs")
    assert (entry["args_"], entry["args__"]) == ("given args", "given args_")


def test_extra_of_plain_loggers_is_kept_apart(written: Json) -> None:
    logging.getLogger("elsewhere").info("x", extra={"service": "other", "level": 3})
    entry = written.one()
    assert (entry["service"], entry["service_"], entry["level_"]) == ("p8fs", "other", 3)


def one_further(log: FieldLogger) -> None:
    log.critical("f", stacklevel=2, n=1)


@pytest.mark.parametrize("kind", [logging.Logger, type("Theirs", (logging.Logger,), {"theirs": True})])
def test_the_callers_line(kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    plain = logging.getLogger(f"lines of {kind.__name__}")
    plain.__class__ = kind
    log = taking_fields(plain)
    assert isinstance(log, kind)
    log.setLevel(1)
    here = sys._getframe().f_lineno
    log.info("a", n=1)
    log.log(5, "b", n=1)
    log._log(30, "c", ())
    logging.LoggerAdapter(log, {}).error("d")
    log.exception("e", exc_info=None)
    one_further(log)
    assert [record.lineno - here for record in caplog.records] == [1, 2, 3, 4, 5, 6]
    assert {record.filename for record in caplog.records} == {"test_log_records.py"}


def test_loggers_of_the_container(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger("made before")
    with Container(config={"log_format": "%(name)s %(message)s"}) as container:
        for name in ("made before", "p8fs_api", "new one"):
            log = container.logger(name)
            assert isinstance(log, FieldLogger)
            assert log is logging.getLogger(name)
            log.info("saved", note_id=7, title="a b")
    assert before is logging.getLogger("made before")
    assert 'new one saved note_id=7 title="a b"\n' in capsys.readouterr().out


def test_context_nests_and_crosses(written: Json) -> None:
    async def task() -> None:
        written.log.info("awaited")
        await asyncio.to_thread(written.log.info, "in a thread")

    @log_context(user="decorated")
    async def decorated() -> None:
        written.log.info("x")

    with log_context(request_id="a1", user="ann"):
        with log_context(user="bob"):
            asyncio.run(task())
        written.log.info("outer", user="field")
        asyncio.run(decorated())
        thread = threading.Thread(target=carried(lambda: written.log.info("carried")))
        thread.start()
        thread.join()
        with ThreadPoolExecutor(4) as executor:  # the same context many times at once
            meet = threading.Barrier(4)
            assert list(executor.map(carried(lambda _: (meet.wait(), bound()["user"])[1]), range(4))) == ["ann"] * 4
    written.log.info("outside")
    entries = [entry for entry in written.entries() if entry["logger"] == "p8fs"]  # asyncio logs at DEBUG
    users = ["bob", "bob", "field", "decorated", "ann", None]
    assert [entry.get("user") for entry in entries] == users
    assert [entry.get("request_id") for entry in entries] == ["a1"] * 5 + [None]


@pytest.mark.parametrize(
    ("traceparent", "valid"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"01-{TRACE}-{SPAN}-01-more", True),
        (f"00-{TRACE}-{SPAN}-01-more", False),
        (f"ff-{TRACE}-{SPAN}-01", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE.upper()}-{SPAN}-01", False),
        ("x", False),
        (None, False),
    ],
)
def test_traceparent(traceparent: Any, valid: bool) -> None:
    with log_context(traceparent=traceparent):
        assert bound() == ({"trace_id": TRACE, "span_id": SPAN} if valid else {})


def test_opentelemetry_if_it_is_there(written: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    context = SimpleNamespace(is_valid=True, trace_id=int(TRACE, 16), span_id=int(SPAN, 16))
    module: Any = ModuleType("opentelemetry.trace")
    module.get_current_span = lambda: SimpleNamespace(get_span_context=lambda: context)
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", module)
    with log_context(trace_id="ours"):
        written.log.info("x")
        context.is_valid = False
        written.log.info("x")
        del module.get_current_span
        written.log.info("x")
    entries = written.entries()
    assert [entry["trace_id"] for entry in entries] == [TRACE, "ours", "ours"]
    assert entries[0]["span_id"] == SPAN


class Broken:
    def __str__(self) -> str:
        raise ValueError("s3cret!")

    __repr__ = __str__


class Chatty:
    """Logs while it is shown."""

    def __init__(self, log: Any) -> None:
        self.log = log

    def __repr__(self) -> str:
        self.log.info("within")
        return "shown"


class Endless(Chatty):
    def __repr__(self) -> str:
        self.log.info("%r", self)
        return "end"


def test_values_that_json_does_not_know(written: Json) -> None:
    circle: list[Any] = []
    circle.append(circle)
    written.log.info("x", a=float("nan"), b=b"s3cret!", c=circle, d=Broken(), e={Broken(): 1}, f=10**5000, g={1})
    entry = written.one()
    assert (entry["a"], entry["b"], entry["g"]) == ("nan", "b'***'", "{1}")
    assert entry["d"] == "<Broken whose text raises ValueError>"
    assert "ValueError" in entry["f"]


@pytest.mark.parametrize(
    ("message", "args", "shown"),
    [
        ("%d", ("s3cret!",), "('***')"),
        ("%s", (Broken(),), "ValueError: ***: (a Broken)"),
        ("no place", (1,), "not all arguments converted"),
        ("%(x)s", ({"y": 1},), "KeyError"),
        ("%s %s", (1,), "not enough arguments"),
    ],
)
def test_arguments_that_do_not_fit(message: str, args: Any, shown: str, written: Json) -> None:
    written.log.info(message, *args)
    entry = written.one()
    assert entry["message"] == message
    assert shown in entry["format_error"]


def test_logging_while_an_argument_is_shown(written: Json) -> None:
    written.log.info("%r", Chatty(written.log))
    assert [entry["message"] for entry in written.entries()] == ["within", "shown"]
    written.log.info("%r", Endless(written.log))
    assert written.entries()[-1]["message"] in ("end", "%r")


@pytest.mark.parametrize("message", ["", "a\nb\r\x00\x1b[31m", "\x85\u2028\u2029", "\ud800", "é→", "x" * 10_000_000])
def test_one_record_is_one_line(message: str, written: Json) -> None:
    written.log.info(message)
    out = written.capsys.readouterr().out
    assert len(out.splitlines()) == 1
    assert json.loads(out.encode())["message"] == message


def test_what_is_slow_for_a_pattern(written: Json) -> None:
    for text in ("a." * 500_000 + "://@", "://:" * 250_000 + "@", "password" + " " * 500_000, "://" + "x:@" * 300_000):
        written.log.info(text)
    assert len(written.entries()) == 4


def test_text_can_not_pass_for_another_record(capsys: pytest.CaptureFixture[str]) -> None:
    LoggingSetup.configure_logging(P8FSConfig(log_format="%(levelname)s %(message)s", pg_password="two\nlines"))
    log = taking_fields(logging.getLogger("p8fs"))
    log.info("a\nERROR forged\r\x1b[2Jtwo\nlines", user="x\nERROR")
    with pytest.raises(ValueError, match="b"):
        try:
            raise ValueError("b\nERROR forged")
        except ValueError:
            log.exception("caught", user="ann")
            raise
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["INFO a", '    ERROR forged\\x0d\\x1b[2J*** user="x\\nERROR"']
    assert lines[2:4] == ["ERROR caught user=ann", "Traceback (most recent call last):"]
    assert all(line.startswith("    ") for line in lines[4:])


def test_exceptions_and_chains_hold_no_secret(written: Json) -> None:
    try:
        try:
            raise ValueError("postgresql://u:a/b@h/db")
        except ValueError as exc:
            raise RuntimeError("s3cret!") from exc
    except RuntimeError:
        written.log.exception("failed", exc_id=1)
    told = written.one()["exception"]
    assert "RuntimeError: ***" in told
    assert "postgresql://u:***@h/db" in told


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("postgresql://u:p/w@h:1/d", "postgresql://u:***@h:1/d"),
        ("a://u:p@ss/w@h/d", "a://u:***@h/d"),
        ("a://u:p@h,b://v:q@i", "a://u:***@h,b://v:***@i"),
        ("http://localhost:8000/users/@me", "http://localhost:8000/users/@me"),
        ("a://u:12345@h", "a://u:***@h"),
        ("a://u:p'w@h", "a://u:***@h"),
        ("a://u:@h", "a://u:***@h"),
        ("a://[::1]:5/x", "a://[::1]:5/x"),
        ("http://h/a:b@c", "http://h/a:b@c"),
    ],
)
def test_passwords_of_connection_strings(text: str, clean: str) -> None:
    assert without_passwords(text) == clean


@pytest.mark.parametrize(
    "text",
    ["pg_password=geheim", "{'password': 'geheim'}", 'pwd="geheim x"', "PASSWORD = geheim", '{"passwd":"geheim"}'],
)
def test_passwords_by_name(text: str, written: Json) -> None:
    written.log.info(text)
    assert "geheim" not in written.one()["message"]
