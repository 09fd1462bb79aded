"""A worker that takes in, one by one, the files that appear in a folder. Ctrl-C or SIGTERM ends it, the file finished.

P8FS_STORAGE_PROVIDER=rocksdb python -m examples.worker inbox
"""

from __future__ import annotations

import sys
from pathlib import Path

from examples.documents import count, prepare, take_in, text_files
from p8fs_cluster import Container
from p8fs_cluster.frameworks.worker import run


def take_in_next(inbox: Path) -> None:
    """Take in the first file there is, if there is one."""
    prepare()
    for path in text_files(inbox)[:1]:
        take_in([path])  # type: ignore[call-arg]
        path.unlink()
        print(f"{path.name} is stored; {count()} are.", flush=True)


if __name__ == "__main__":
    run(lambda: take_in_next(Path(sys.argv[1])), Container, every=0.2)
