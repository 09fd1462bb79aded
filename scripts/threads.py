"""Makes the code for threads of the code for asyncio, which is the one that is edited.

python scripts/threads.py            writes the files
python scripts/threads.py --check    tells which ones differ from what would be written, and fails
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "p8fs_cluster"
MADE = {
    f"{folder}/async_{name}.py": f"{folder}/{name}.py"
    for folder, names in {
        "providers/storage": ("operations", "server"),
        "providers/storage/postgresql": ("engine",),
        "providers/storage/tidb": ("protocol", "engine"),
        "coordination": ("claiming", "cluster", "leader", "lock", "lost", "membership", "once", "schedule"),
        "kv": ("cached", "kv", "ranges", "reading", "running", "transaction", "writing"),
    }.items()
    for name in names
}
"""Source → what is made of it."""

PHRASES = (
    (r"\b[Aa]n asynchronous context manager", "a context manager"),
    (r"\bfor asyncio\b", "for threads"),
    (r"\bof one event loop\b", "of a process"),
    (r"`\S+` is made of this file by `scripts/threads\.py`\.", "Made by `scripts/threads.py`: edit `{source}`."),
    (r"\basync (?=def|with|for)", ""),
    (r"\bawait asyncio\.to_thread\(([\w.]+), ", r"\1("),
    (r"\bawait ", ""),
    (r"\bAwaitable\[(\w+)\]", r"\1"),
    (r"\bAwaitable, ", ""),
    (r"\basyncio\.run\((.+)\)\n", r"\1\n"),
    (r" *>>> import asyncio\n", ""),
    (r"\bAsyncPool\b", "ThreadPool"),
    (r"\bAsyncEngineLifecycle\b", "ThreadEngineLifecycle"),
    (r"\bAsync(?=[A-Z]\w)", ""),
    (r"\basync_(?=\w)", ""),
    (r"__a(?=enter__|exit__)", "__"),
    (r"\basyncio\.sleep\b", "time.sleep"),
    (r"\bimport asyncio  # sleeps\n", "import time\n"),
    (r"\bimport asyncio\n", ""),
    (r"import aiomysql .*\n", ""),
    (r"\baiomysql\.", "pymysql."),
)
"""Pattern → replacement, in this order, in code and prose alike."""


def made_of(source: Path) -> str:
    """Return the code for threads."""
    text = source.read_text("utf-8")
    for pattern, replacement in PHRASES:
        text = re.sub(pattern, replacement.replace("{source}", source.name), text)
    return tidied(text)


def tidied(text: str) -> str:
    """Return code with its imports in order and its lines as long as they may be."""
    ruff = Path(sys.executable).with_name("ruff")
    for command in (["check", "--fix-only", "--quiet"], ["format", "--quiet"]):
        done = subprocess.run(
            [ruff, *command, "--stdin-filename", str(PACKAGE / "made.py"), "-"],
            input=text, capture_output=True, text=True, cwd=ROOT, check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"ruff {command[0]}: {done.stdout}{done.stderr}")
        text = done.stdout
    return text


def main() -> None:
    """Write all files, or compare them."""
    differing = []
    for source, target in MADE.items():
        text, path = made_of(PACKAGE / source), PACKAGE / target
        if "--check" not in sys.argv:
            path.write_text(text, "utf-8")
        elif not path.exists() or path.read_text("utf-8") != text:
            differing.append(target)
    if differing:
        sys.exit(f"not what is made of the code for asyncio, run scripts/threads.py: {', '.join(differing)}")


if __name__ == "__main__":
    main()
