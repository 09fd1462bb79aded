"""`p8fs-cluster init`: the project runs as it is written, and nothing is ever written over."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from p8fs_cluster.cli.kubernetes import pod_spec
from p8fs_cluster.cli.project import misnamed
from tests.command import install, p8fs_cluster
from tests.processes import running

CONTAINER = "my_notes.container:Application"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project as it is written, in its folder."""
    done = p8fs_cluster("init", "My-Notes")
    assert (done.returncode, done.stderr) == (0, "")
    folder = tmp_path / "My-Notes"
    assert {*done.stdout.splitlines()} == {str(path.relative_to(tmp_path)) for path in files(folder)}
    monkeypatch.chdir(folder)
    return folder


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_dir()}


def python(*arguments: str) -> str:
    """Run a module of Python's that has to end well, and return what it printed."""
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class TestTheProject:
    def test_passes_its_own_tests(self, project: Path) -> None:
        assert " passed" in python("pytest", "-q", "-p", "no:cacheprovider", "-p", "no:anydi")
        assert not Path("data").exists(), "the tests have a storage of their own"

    def test_passes_the_checks_of_types_and_style(self, project: Path) -> None:
        assert "no issues found in 7 source files" in python("mypy", "--strict", "--cache-dir", os.devnull, ".")
        python("ruff", "check", "--isolated", "--no-cache", ".")
        python("ruff", "format", "--isolated", "--no-cache", "--check", ".")

    def test_works_at_once(self, project: Path) -> None:
        done = p8fs_cluster("check", CONTAINER)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "write, read, delete" in done.stdout
        assert Path("data/my_notes").is_dir()

    def test_serves_until_it_is_ended(self, project: Path, tmp_path: Path) -> None:
        Path("inbox").mkdir()
        Path("inbox/greeting.txt").write_text("hello")
        with running(tmp_path / "log", "-m", "my_notes") as process:
            process.until(lambda: not Path("inbox/greeting.txt").exists(), "it takes the text in")
            assert process.end(signal.SIGTERM) == 0
        assert "saved a text text_name=greeting" in process.output
        code = "from my_notes.service import load\nfrom my_notes.container import Application\n"
        code += "with Application(): print(load('greeting'))"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "hello\n"

    def test_the_commands_of_its_readme_run(self, project: Path) -> None:
        commands = re.findall(r"^p8fs-cluster ([^|#\n]+)", Path("README.md").read_text("utf-8"), re.MULTILINE)
        assert len(commands) == 2
        for command in commands:
            done = p8fs_cluster(*command.split())
            assert done.returncode == 0, done.stderr

    def test_its_settings_are_known_where_it_is_installed(self, project: Path) -> None:
        declared = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
        ((name, module),) = declared["entry-points"]["p8fs_cluster.sections"].items()
        path = install(project, f"import {module}", name="installed")
        done = p8fs_cluster("config", "k8s", "--name", "my-notes", path=path, my_notes_max_length=5)
        assert (done.returncode, done.stderr, name) == (0, "", "my_notes")
        assert 'P8FS_MY_NOTES_MAX_LENGTH: "5"' in done.stdout
        assert 'P8FS_STORAGE_PROVIDER: "rocksdb"' in done.stdout

    def test_git_leaves_out_what_is_of_this_machine(self, project: Path) -> None:
        assert {".env", "data/", "inbox/"} <= {*Path(".gitignore").read_text().splitlines()}


class TestTheManifests:
    @pytest.fixture
    def documents(self, project: Path) -> dict[str, Any]:
        return {each["kind"]: each for each in yaml.safe_load_all(Path("kubernetes.yaml").read_text("utf-8"))}

    def test_are_what_kubernetes_takes(self, documents: dict[str, Any]) -> None:
        assert [*documents] == ["PersistentVolumeClaim", "Deployment"]
        for document in documents.values():
            kubernetes_validate.validate(document, "1.32", strict=True)
        claim = documents["PersistentVolumeClaim"]["metadata"]["name"]
        volumes = documents["Deployment"]["spec"]["template"]["spec"]["volumes"]
        assert {"name": "data", "persistentVolumeClaim": {"claimName": claim}} in volumes

    def test_hand_over_what_config_k8s_makes(self, documents: dict[str, Any]) -> None:
        spec = documents["Deployment"]["spec"]["template"]["spec"]
        made = yaml.safe_load(pod_spec("my-notes", "volumes"))
        assert spec["enableServiceLinks"] == made["enableServiceLinks"]
        assert [volume for volume in spec["volumes"] if volume in made["volumes"]] == made["volumes"]
        ((ours,), (theirs,)) = spec["containers"], made["containers"]
        assert ours["name"] == theirs["name"]
        for part in ("env", "volumeMounts"):
            assert [each for each in ours[part] if each in theirs[part]] == theirs[part]

    def test_a_pod_writes_only_into_its_volume(self, documents: dict[str, Any], project: Path) -> None:
        (container,) = documents["Deployment"]["spec"]["template"]["spec"]["containers"]
        variables = {each["name"]: each["value"] for each in container["env"] if "value" in each}
        assert variables["P8FS_ROCKSDB_PATH"].startswith("/data/")
        assert variables["P8FS_MY_NOTES_INBOX"].startswith("/data/")
        assert container["command"] == ["python", "-m", "my_notes"]


class TestNames:
    def test_the_folders_is_the_default(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "orders.v2").mkdir()
        monkeypatch.chdir(tmp_path / "orders.v2")
        assert p8fs_cluster("init").returncode == 0
        assert Path("orders_v2/container.py").is_file()

    def test_another_one(self) -> None:
        assert p8fs_cluster("init", "a/b/c", "--name", "orders").returncode == 0
        assert Path("a/b/c/orders/container.py").is_file()
        assert not [path for path in files(Path("a/b/c")) if re.search(r"@\w+@", path.read_text("utf-8"))]

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("My-Notes", "'My-Notes' is no name for a package: "),
            ("2fast", "'2fast' is no name for a package: "),
            ("notes_", "such as notes (--name)"),
            ("", "'' is no name for a package: "),
            ("a" * 51, "at most 50"),
            ("class", "'class' is taken: "),
            ("json", "'json' is taken: "),
            ("p8fs_cluster", "'p8fs_cluster' is taken: "),
        ],
    )
    def test_that_a_package_can_not_have(self, name: str, said: str) -> None:
        done = p8fs_cluster("init", "folder", "--name", name)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert not Path("folder").exists()

    def test_a_suggestion_is_one_that_can_be_had(self) -> None:
        assert str(misnamed("Klass")).endswith("such as klass")
        assert "such as" not in str(misnamed("Class"))
        assert misnamed("klass") is None


class TestNothingIsWrittenOver:
    @pytest.mark.parametrize("name", ["README.md", ".env", "notes/store.py", "tests/test_service.py"])
    def test_a_file_that_is_there(self, name: str) -> None:
        path = Path("notes", name)
        path.parent.mkdir(parents=True)
        path.write_text("mine")
        Path("notes/other.txt").write_text("mine, too")
        before = {*Path().rglob("*")}
        done = p8fs_cluster("init", "notes")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"{path} is there already, and nothing was written\n"
        assert {*Path().rglob("*")} == before
        assert path.read_text() == "mine"

    @pytest.mark.parametrize("make", ["dangling", "folder"])
    def test_what_only_has_the_name_of_a_file(self, make: str) -> None:
        Path("notes").mkdir()
        there = Path("notes/pyproject.toml")
        there.symlink_to("nowhere") if make == "dangling" else there.mkdir()
        before = {*Path().rglob("*")}
        assert p8fs_cluster("init", "notes").returncode == 2
        assert {*Path().rglob("*")} == before

    @pytest.mark.parametrize("place", ["notes", "notes/tests"])
    def test_a_file_where_a_folder_has_to_be(self, place: str) -> None:
        Path(place).parent.mkdir(exist_ok=True)
        Path(place).write_text("mine")
        before = {*Path().rglob("*")}
        done = p8fs_cluster("init", "notes")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(place)
        assert {*Path().rglob("*")} == before

    def test_a_folder_with_other_files_is_taken(self) -> None:
        Path("notes").mkdir()
        Path("notes/LICENSE").write_text("mine")
        assert p8fs_cluster("init", "notes").returncode == 0
        assert Path("notes/LICENSE").read_text() == "mine"
