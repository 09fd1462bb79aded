"""What type checkers refuse: each line that ends with `# wrong` is an error, and no other."""

from __future__ import annotations

from p8fs_cluster import Container, Provide, Storage, container, inject
from p8fs_cluster.providers.api import ApiSettings

container.storge()  # wrong
Container().storge()  # wrong
number: int = container.storage()  # wrong


@inject
def other_type(storage: Storage = Provide[Container.api]) -> ApiSettings:  # wrong
    raise NotImplementedError


@inject
def kept(number: int, storage: Storage = Provide[Container.storage]) -> str:
    return ""


kept("text")  # wrong
kept(1).missing()  # wrong
