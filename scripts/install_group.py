"""Installs dependency groups of pyproject.toml, which the pip of Python 3.11 and 3.12 does not know yet.

python scripts/install_group.py test lint
"""

import subprocess
import sys
import tomllib
from pathlib import Path

groups = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["dependency-groups"]
wanted = [requirement for name in sys.argv[1:] for requirement in groups[name]]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", "--quiet", *wanted]))
