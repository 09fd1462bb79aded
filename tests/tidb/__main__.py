"""Builds TiDB for the tests, once, and prints where it is: python -m tests.tidb"""

import sys

from tests.tidb.binary import BuildFailed, build

try:
    print(build())
except BuildFailed as exc:
    sys.exit(f"make tidb: {exc}")
