"""The container, and how functions are given what it provides."""

from p8fs_cluster.containers.container import Container

__all__ = ["Container"]
