"""Runs SQLAlchemy's suite on each SQL server twice, and fails if the handle fails where a plain engine does not.

python -m tests.compliance [KIND …] [-- ARGUMENTS OF PYTEST]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import psycopg
import pymysql
from sqlalchemy import URL

from tests.processes import ROOT, variables
from tests.servers import SQL, STARTED, Server

BY_DESIGN = {"temp_table": "a temporary table does not outlive its borrower"}
"""What the name of a test has in it → why it fails over the handle, which keeps less of a session than a plain pool."""

SUITE = Path(__file__).parent / "suite"


def url_of(server: Server) -> str:
    """Return what a plain engine connects by, after making the second schema that the suite wants."""
    settings = server.settings
    prefix, driver = ("pg", "postgresql+psycopg") if server.provider == "postgresql" else ("tidb", "mysql+pymysql")
    host, port, user, password, database = (
        settings[f"{prefix}_{name}"] for name in ("host", "port", "user", "password", "database")
    )
    if prefix == "pg":
        with psycopg.connect(host=host, port=port, user=user, password=password, dbname=database) as connection:
            connection.execute("CREATE SCHEMA IF NOT EXISTS test_schema")
    else:
        with pymysql.connect(host=host, port=port, user=user, password=password, ssl_disabled=True) as connection:
            connection.cursor().execute("CREATE DATABASE IF NOT EXISTS test_schema")
    return URL.create(driver, user, password, host, port, database).render_as_string(hide_password=False)


def failed(server: Server, side: str, arguments: list[str]) -> tuple[set[str], int]:
    """Return the tests that fail, and how many were run."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-c", str(SUITE / "setup.cfg"), "--rootdir", str(SUITE), "-q",
                   "-p", "no:p8fs_cluster", "-p", "no:cacheprovider", f"--junitxml={report}", "--dburi", url_of(server),
                   "--tb=short", "--maxfail=10000", *arguments, str(SUITE / "test_suite.py")]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "COMPLIANCE": side, **variables(server.settings)}
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
        if not report.exists():
            raise SystemExit(f"the suite did not run:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        if "-v" in arguments:
            print(done.stdout)
        cases = list(ElementTree.parse(report).iter("testcase"))  # noqa: S314
    faults = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    return {f"{case.get('classname')}::{case.get('name')}" for case in faults}, len(cases) - skipped


def main() -> int:
    """Run both sides, print their counts, and return how many tests fail on the handle alone."""
    before, _, after = " ".join(sys.argv[1:]).partition("-- ")
    worse = 0
    for kind in before.split() or SQL:
        with STARTED[kind]() as plain:
            expected, count = failed(plain, "plain", after.split())
        with STARTED[kind]() as server:
            found, ours = failed(server, "handle", after.split())
        alone = sorted(found - expected)
        reasons = {name: reason for name in alone for part, reason in BY_DESIGN.items() if part in name}
        worse += len(alone) - len(reasons)
        print(
            f"{kind}: plain engine {len(expected)} of {count} failed, container.engine() {len(found)} of {ours}",
            flush=True,
        )
        for name in alone:
            print(f"    only container.engine(): {name} {reasons.get(name, '')}", flush=True)
    return worse


if __name__ == "__main__":
    sys.exit(min(main(), 1))
