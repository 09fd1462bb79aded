"""A package that tells of the engine, as pip would install it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["install"]


def install(folder: Path, points: str = "sqlite = tests.engines.sqlite:SPEC") -> Path:
    """Write what pip would write into a folder, which is to be on the path; return the folder."""
    info = folder / "p8fs_sqlite-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: p8fs-sqlite\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[p8fs_cluster.engines]\n{points}\n")
    return folder
