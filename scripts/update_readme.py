"""Writes the generated parts of the README, and its picture, anew: python scripts/update_readme.py"""

import re
from pathlib import Path

from p8fs_cluster import Container
from p8fs_cluster.cli.documentation import settings_table
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.containers.graph.drawing import svg
from p8fs_cluster.containers.graph.model import read

root = Path(__file__).parent.parent
readme = root / "README.md"
pattern = re.compile(r"(<!-- settings: .*? -->\n).*?(<!-- end of settings -->)", re.DOTALL)
table = settings_table((P8FSConfig,))
readme.write_text(pattern.sub(lambda match: f"{match[1]}{table}\n{match[2]}", readme.read_text("utf-8")), "utf-8")
(root / "docs" / "container.svg").write_text(svg(read(Container)) + "\n", "utf-8")
