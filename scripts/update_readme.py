"""Writes the generated parts of the README anew: python scripts/update_readme.py"""

import re
from pathlib import Path

from p8fs_cluster import Container
from p8fs_cluster.cli.documentation import settings_table
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.containers.graph.drawing import mermaid
from p8fs_cluster.containers.graph.model import read

PARTS = {
    "graph": f"```mermaid\n{mermaid(read(Container))}\n```",
    "settings": settings_table((P8FSConfig,)),
}


def with_part(text: str, name: str, part: str) -> str:
    """Return the text with a part in place of what stands between the comments of its name."""
    pattern = re.compile(rf"(<!-- {name}: .*? -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}{part}\n{match[2]}", text)


readme = Path(__file__).parent.parent / "README.md"
text = readme.read_text("utf-8")
for name, part in PARTS.items():
    text = with_part(text, name, part)
readme.write_text(text, "utf-8")
