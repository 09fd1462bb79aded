"""Writes the generated parts of the README anew: python scripts/update_readme.py"""

import re
from pathlib import Path

from p8fs_cluster.cli.documentation import settings_table

readme = Path(__file__).parent.parent / "README.md"
pattern = re.compile(r"(<!-- settings: .*? -->\n).*?(<!-- end of settings -->)", re.DOTALL)
readme.write_text(
    pattern.sub(lambda match: f"{match[1]}{settings_table()}\n{match[2]}", readme.read_text("utf-8")), "utf-8"
)
