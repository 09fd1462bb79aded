"""`p8fs-cluster check` and `graph`, of our container and of others."""

from __future__ import annotations

import json
import os
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import Container
from p8fs_cluster.containers.graph.model import read
from tests.command import install, p8fs_cluster
from tests.servers import free_port


def test_check_on_rocksdb(rocksdb_settings: dict[str, Any]) -> None:
    done = p8fs_cluster("check", **rocksdb_settings)
    assert done.returncode == 0, done.stderr
    for text in ("read the settings", "open the storage", "write, read, delete", "close", " ms"):
        assert text in done.stdout


def test_check_as_json(rocksdb_settings: dict[str, Any]) -> None:
    done = p8fs_cluster("check", "--json", **rocksdb_settings)
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert [step["name"] for step in report["steps"]] == [
        "check the container",
        "read the settings",
        "open the storage",
        "one round trip",
        "close",
    ]
    assert all(step["ok"] and step["seconds"] >= 0 and step["fault"] is None for step in report["steps"])


def test_check_on_a_server(sql_server: Any) -> None:
    done = p8fs_cluster("check", **sql_server.settings)
    assert done.returncode == 0, done.stderr
    assert "query" in done.stdout


def test_check_of_settings_that_can_not_be_used() -> None:
    done = p8fs_cluster("check", pg_port="abc", log_level="LOUD", pg_password="hunter2")
    assert done.returncode == 1
    assert "P8FS_PG_PORT (from the environment)" in done.stderr
    assert "P8FS_LOG_LEVEL" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_check_of_a_log_file_that_can_not_be_written(rocksdb_settings: dict[str, Any]) -> None:
    done = p8fs_cluster("check", "--json", **rocksdb_settings, log_file="/proc/nope")
    assert done.returncode == 1
    report = {step["name"]: step for step in json.loads(done.stdout)["steps"]}
    assert "P8FS_LOG_FILE (from the environment)" in report["open the log file"]["fault"]
    assert report["one round trip"]["ok"]
    assert p8fs_cluster("check", **rocksdb_settings, log_file="log.txt").returncode == 0


def test_check_of_a_server_that_is_down() -> None:
    port = free_port()
    done = p8fs_cluster("check", "--json", pg_host="127.0.0.1", pg_port=port, pg_password="hunter2")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["ok"] is False
    faults = [step["fault"] for step in report["steps"] if not step["ok"]]
    assert len(faults) == 1
    assert "P8FS_PG_PORT (from the environment)" in faults[0]
    assert "hunter2" not in done.stdout + done.stderr


SERVICE = """
import os
from dependency_injector import containers, providers
from p8fs_cluster import Container

class Client:
    def __init__(self, host: str) -> None:
        raise AssertionError("built")

class Application(Container):
    client = providers.Singleton(Client, Container.config.provided.pg_host)

class Wrong(Container):
    client = providers.Singleton(Client, hots=1)
    other = providers.Singleton(Client)

class Foreign(containers.DeclarativeContainer):
    client = providers.Singleton(Client, "h")

def make():
    return Application()

def fail():
    raise ValueError("not to mysql://root:hunter2@db/app")

number = 3
"""


@pytest.fixture
def service() -> None:
    Path("service.py").write_text(SERVICE)
    made = 'from service import Application\napplication = Application(config={"rocksdb_path": "elsewhere"})\n'
    Path("made.py").write_text(made)


@pytest.mark.usefixtures("service")
class TestOwnContainers:
    @pytest.mark.parametrize("name", ["service:Application", "made:application", "service:make"])
    def test_are_checked(self, name: str, rocksdb_settings: dict[str, Any]) -> None:
        done = p8fs_cluster("check", name, "--json", **rocksdb_settings)
        assert done.returncode == 0, done.stderr
        steps = json.loads(done.stdout)["steps"]
        assert [step["name"] for step in steps][:2] == ["check the container", "read the settings"]
        assert [step["name"] for step in steps][-1] == "close"
        assert steps[0]["detail"] == "15 providers"
        assert Path("elsewhere").exists() == (name == "made:application")

    def test_that_can_not_work(self, rocksdb_settings: dict[str, Any]) -> None:
        done = p8fs_cluster("check", "service:Wrong", **rocksdb_settings)
        assert done.returncode == 1
        assert done.stderr.splitlines() == [
            "2 problems in the container:",
            "  client: Client: there is no argument 'hots'; did you mean 'host'?",
            "  other: Client: argument 'host' is missing",
        ]
        assert "read the settings" not in done.stdout

    def test_without_storage(self) -> None:
        done = p8fs_cluster("check", "service:Foreign", "--json", pg_port="no number")
        assert done.returncode == 0, done.stderr
        assert [step["name"] for step in json.loads(done.stdout)["steps"]] == ["check the container"]

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("service:Aplication", "service has no 'Aplication'; did you mean 'service:Application'?"),
            ("service:Wrong.clinet", "service:Wrong has no 'clinet'; did you mean 'service:Wrong.client'?"),
            ("service:xyzzy", "service has no 'xyzzy'"),
            ("servise:Application", "there is no module 'servise'; did you mean 'service'?"),
            ("servce.app:Application", "there is no module 'servce'; did you mean 'service.app'?"),
            ("service.app:Application", "there is no module 'service.app': service is a module, and no package"),
            ("xyzzy:Application", "there is no module 'xyzzy'"),
            (
                "examples.own_containr:Application",
                "there is no module 'examples.own_containr'; did you mean 'examples.own_container'?",
            ),
            ("service", "'service' names no container: say MODULE:NAME, such as service.app:Application"),
            ("service:number", "service:number is no container, but of type int"),
            ("service:fail", "calling service:fail failed: ValueError: not to mysql://root:***@db/app"),
            ("broken:Application", "importing broken failed: SyntaxError: invalid syntax (broken.py, line 1)"),
            ("needy:Application", "importing needy failed: ModuleNotFoundError: No module named 'nobody_has_this'"),
            ("leaver:Application", "importing leaver failed: SystemExit: 3"),
        ],
    )
    @pytest.mark.parametrize("command", ["check", "graph"])
    def test_that_can_not_be_loaded(self, command: str, name: str, said: str) -> None:
        Path("broken.py").write_text("this is no Python\n")
        Path("needy.py").write_text("import nobody_has_this\n")
        Path("leaver.py").write_text("raise SystemExit(3)\n")
        done = p8fs_cluster(command, name)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == said + "\n"

    def test_are_drawn(self) -> None:
        done = p8fs_cluster("graph", "service:Application", pg_port="no number")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("flowchart LR\n")
        assert 'n14["client<br/>Singleton · Client"]' in done.stdout
        assert 'n14 -->|"host .pg_host"| n0' in done.stdout


class TestGraph:
    def test_of_our_container_to_stdout(self) -> None:
        assert p8fs_cluster("graph").stdout.startswith("flowchart LR\n")
        assert p8fs_cluster("graph", "--format", "dot").stdout.startswith('digraph "Container" {\n')

    @pytest.mark.parametrize(("name", "start"), [("a.dot", "digraph "), ("a.gv", "digraph "), ("a.mmd", "flowchart ")])
    def test_to_a_file_of_that_ending(self, name: str, start: str) -> None:
        done = p8fs_cluster("graph", "--output", name)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert Path(name).read_text("utf-8").startswith(start)

    def test_the_format_that_is_asked_for_wins(self) -> None:
        assert p8fs_cluster("graph", "--output", "a.svg", "--format", "dot").returncode == 0
        assert Path("a.svg").read_text("utf-8").startswith("digraph ")

    def test_to_a_file_that_can_not_be(self) -> None:
        done = p8fs_cluster("graph", "--output", "a.png")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("a.png does not say a format: use --format, or an ending of .mmd")
        done = p8fs_cluster("graph", "--output", "nowhere/a.dot")
        assert (done.returncode, done.stderr) == (2, "nowhere/a.dot can't be written: No such file or directory\n")


DOT = """\
#!/bin/sh
test "$*" = -Tsvg || exit 1
echo '<svg xmlns="http://www.w3.org/2000/svg">'
sed -n 's/^  \\(n[0-9]*\\) \\[label=.*/<title>\\1<\\/title>/p'
echo '</svg>'
"""
"""Names the nodes, as Graphviz does."""


@pytest.fixture
def on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a program of the name `dot` before all others on the path."""

    def put(text: str) -> Path:
        program = tmp_path / "programs" / "dot"
        program.parent.mkdir()
        program.write_text(text)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
        return program

    return put


class TestSvgByGraphviz:
    @pytest.fixture
    def graphviz(self, on_the_path: Callable[[str], Path]) -> None:
        """Provide Graphviz, or a stand-in where it is not installed."""
        if shutil.which("dot") is None:
            on_the_path(DOT)

    @pytest.mark.usefixtures("graphviz")
    @pytest.mark.parametrize("arguments", [("--format", "svg"), ("--output", "a.svg")])
    def test_every_provider_is_drawn(self, arguments: tuple[str, str]) -> None:
        done = p8fs_cluster("graph", *arguments)
        assert done.returncode == 0, done.stderr  # a Graphviz without fonts warns
        root = ET.fromstring(done.stdout or Path("a.svg").read_text("utf-8"))  # noqa: S314
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        drawn = {title.text for title in root.iter("{http://www.w3.org/2000/svg}title")}
        assert drawn >= {f"n{number}" for number in range(len(read(Container).nodes))}

    @pytest.mark.parametrize("arguments", [("--format", "svg"), ("--output", "a.svg")])
    def test_without_graphviz(
        self, arguments: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        done = p8fs_cluster("graph", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            "Graphviz draws SVG, and its command `dot` was not found: "
            "install Graphviz, or use --format mermaid or --format dot\n"
        )
        assert not Path("a.svg").exists()

    def test_graphviz_that_fails(self, on_the_path: Callable[[str], Path]) -> None:
        program = on_the_path("#!/bin/sh\necho 'Format: \"svg\" not recognized.' >&2\nexit 3\n")
        done = p8fs_cluster("graph", "--output", "a.svg")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines() == [
            'Format: "svg" not recognized.',
            f"{program} -Tsvg ended with exit code 3: use --format mermaid or --format dot",
        ]
        assert not Path("a.svg").exists()

    def test_graphviz_that_can_not_be_run(self, on_the_path: Callable[[str], Path]) -> None:
        program = on_the_path("#!/nowhere\n")
        done = p8fs_cluster("graph", "--format", "svg")
        assert (done.returncode, done.stdout) == (2, "")
        told = "can't be run: No such file or directory; use --format mermaid or --format dot"
        assert done.stderr == f"{program} {told}\n"


class TestStrictness:
    def test_every_misspelt_name_is_a_fault(self, rocksdb_settings: dict[str, Any]) -> None:
        here = Path.cwd()
        Path(".env").write_text("\nP8FS_PG_HOTS=x\n")
        Path("s.toml").write_text('api_prot = 1\ntidb_pasword = "hunter2"\n')
        done = p8fs_cluster("check", **rocksdb_settings, config_file="s.toml", strict="false", log_levle="INFO")
        assert done.returncode == 1
        assert done.stderr.splitlines() == [
            "4 settings can't be used:",
            "  P8FS_LOG_LEVLE (from the environment): there is no such setting; did you mean P8FS_LOG_LEVEL?",
            f"  P8FS_API_PROT (from {here}/s.toml, line 1): there is no such setting; did you mean P8FS_API_PORT?",
            f"  P8FS_TIDB_PASWORD (from {here}/s.toml, line 2): "
            "there is no such setting; did you mean P8FS_TIDB_PASSWORD?",
            f"  P8FS_PG_HOTS (from {Path.cwd()}/.env, line 2): there is no such setting; did you mean P8FS_PG_HOST?",
        ]
        assert "open the storage" not in done.stdout

    def test_service_links_are_none(self, rocksdb_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        links = {"P8FS_WEB_PORT": "tcp://10.0.0.1:80", "P8FS_WEB_SERVICE_HOST": "10.0.0.1"}
        for name, value in links.items():
            monkeypatch.setenv(name, value)
        assert p8fs_cluster("check", **rocksdb_settings).returncode == 0

    def test_sections_of_installed_packages_are_validated(
        self, rocksdb_settings: dict[str, Any], tmp_path: Path
    ) -> None:
        path = install(tmp_path / "site")
        assert p8fs_cluster("check", path=path, **rocksdb_settings, mail_port=25).returncode == 0
        done = p8fs_cluster("check", path=path, **rocksdb_settings, mail_ratio="x", pg_port=0, mail_prot=1)
        assert done.returncode == 1
        assert "4 settings can't be used:" in done.stderr
        for variable in (
            "P8FS_MAIL_PORT:",
            "P8FS_MAIL_RATIO (from",
            "P8FS_PG_PORT (from",
            "did you mean P8FS_MAIL_PORT?",
        ):
            assert variable in done.stderr

    @pytest.mark.parametrize(
        ("code", "said"),
        [
            ("import nobody_has_this", "ModuleNotFoundError: No module named 'nobody_has_this'"),
            ("raise SystemExit('to mysql://root:hunter2@db/app')", "SystemExit: to mysql://root:***@db/app"),
            (
                'import p8fs_cluster\nclass Core(p8fs_cluster.Section, prefix="pg_"):\n    host: str = ""',
                "both claim P8FS_PG_HOST: rename one of them",
            ),
        ],
    )
    def test_a_section_that_can_not_be_loaded(
        self, code: str, said: str, rocksdb_settings: dict[str, Any], tmp_path: Path
    ) -> None:
        done = p8fs_cluster("check", path=install(tmp_path / "site", code, "broken"), **rocksdb_settings, pg_port=0)
        assert done.returncode == 1
        assert "the section broken (from the entry point broken): can't be loaded: " in done.stderr
        assert said in done.stderr
        assert "P8FS_PG_PORT" in done.stderr, "what else is wrong is told, too"
        assert "Traceback" not in done.stderr


TELLS = """
from p8fs_cluster.config.settings import config
raise ValueError("no login as " + config.pg_password.get_secret_value())
"""


@pytest.mark.parametrize("command", [("check",), ("check", "--json"), ("config", "explain", "pg_host")])
def test_no_secret_in_what_others_say(
    command: tuple[str, ...], rocksdb_settings: dict[str, Any], tmp_path: Path
) -> None:
    path = install(tmp_path / "site", TELLS, "teller")
    done = p8fs_cluster(*command, path=path, **rocksdb_settings, pg_password="hunter2")
    assert "can't be loaded: ValueError: no login as ***" in done.stdout + done.stderr
    assert "hunter2" not in done.stdout + done.stderr


RELOADED = """
import os
from p8fs_cluster import ConfigurationError, Container

application = Container()
application.config()
os.environ["P8FS_PG_PORT"] = "no number"
try:
    application.config.reload()
except ConfigurationError:
    pass
del os.environ["P8FS_PG_PORT"]
"""


def test_a_reload_that_failed_is_told(rocksdb_settings: dict[str, Any]) -> None:
    Path("reloaded.py").write_text(RELOADED)
    done = p8fs_cluster("check", "reloaded:application", "--json", **rocksdb_settings)
    assert done.returncode == 1
    report = {step["name"]: step for step in json.loads(done.stdout)["steps"]}
    assert "the last good settings stay in force" in report["load the settings again"]["fault"]
    assert "P8FS_PG_PORT (from the environment)" in report["load the settings again"]["fault"]
    assert report["one round trip"]["ok"]
