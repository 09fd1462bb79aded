"""Every example, run as its reader would run it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from p8fs_cluster import Container, StorageUnavailable
from tests.servers import Server, free_port

ROOT = Path(__file__).parent.parent.parent


def run(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment |= {f"P8FS_{name.upper()}": str(value) for name, value in settings.items()}
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, env=environment)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    (folder / "deep").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    (folder / "one.md").write_text("A lease has a token; größer →")
    (folder / "deep" / "two.txt").write_text("A token only grows.")
    (folder / "empty.txt").write_text("")
    (folder / "latin.txt").write_bytes("größer token".encode("latin-1"))
    (folder / ".hidden" / "three.md").write_text("token")
    (folder / "picture.png").write_text("token")
    return folder


def check_documents(folder: Path, **settings: Any) -> None:
    for _ in range(2):  # taking in again changes nothing
        done = run("examples.documents", str(folder), "token", "LEASE", "größer", "nowhere", **settings)
        assert done.returncode == 0, done.stderr
        assert f"Took in 3 text files of {folder}; 3 are stored in {settings['storage_provider']}." in done.stdout
        assert f"'token' is in {folder}/deep/two.txt, {folder}/one.md\n" in done.stdout
        assert f"'LEASE' is in {folder}/one.md\n" in done.stdout
        assert f"'größer' is in {folder}/one.md\n" in done.stdout
        assert "'nowhere' is in none\n" in done.stdout
        assert "passed over" in done.stdout


def test_documents_on_rocksdb(folder: Path, rocksdb_settings: dict[str, Any]) -> None:
    check_documents(folder, **rocksdb_settings)


def test_documents_on_a_server(folder: Path, sql_server: Server) -> None:
    with Container(config=sql_server.settings) as container:
        for table in ("documents", "document_words"):
            container.storage().execute(f"DROP TABLE IF EXISTS {table}")
    check_documents(folder, **sql_server.settings)


def test_documents_without_a_folder_and_without_a_server(tmp_path: Path) -> None:
    done = run("examples.documents", str(tmp_path / "missing"))
    assert (done.returncode, done.stderr) == (2, f"{tmp_path / 'missing'} is not a folder\n")
    done = run("examples.documents", str(tmp_path), storage_provider="tidb", tidb_host="127.0.0.1", tidb_port=1)
    assert done.returncode == 1
    assert "P8FS_TIDB_PORT (from the environment)" in done.stderr
    assert "Traceback" not in done.stderr


def test_swapping_in_a_test() -> None:
    done = run("pytest", "-q", "-p", "no:cacheprovider", str(ROOT / "examples" / "swapping_in_a_test.py"))
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_own_container() -> None:
    done = run("examples.own_container")
    assert done.returncode == 0, done.stderr
    assert "1 visit after the first; the override counted 1 in a database of its own" in done.stdout


@contextlib.contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """A real uvicorn on loopback; gives its address."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def ask(url: str, method: str = "GET") -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method)) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, json.load(exc)


def test_fastapi_app(folder: Path, rocksdb_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from examples.fastapi_app import app

    for name, value in rocksdb_settings.items():
        monkeypatch.setenv(f"P8FS_{name.upper()}", str(value))
    for _ in range(2):  # the container is closed at the end, so that another may open the directory
        with served(app) as url:
            assert ask(f"{url}/documents?path={folder}/one.md", "POST") == (200, {"taken": 1, "stored": 1})
            assert ask(f"{url}/words/lease") == (200, [f"{folder}/one.md"])
            assert ask(f"{url}/ready")[1]["seconds"] > 0
            with app.state.container.storage.override(Broken()):
                assert ask(f"{url}/ready") == (503, {"detail": "the storage does not answer"})


class Broken:
    def ping(self) -> float:
        raise StorageUnavailable("gone")


def test_fastapi_app_refuses_to_start_on_bad_settings() -> None:
    done = run("uvicorn", "examples.fastapi_app:app", "--port", str(free_port()), storage_provider="oracle")
    assert done.returncode != 0
    assert "P8FS_STORAGE_PROVIDER (from the environment)" in done.stdout
