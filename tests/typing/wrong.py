"""What type checkers refuse: each line that ends with `# wrong` is an error, and no other."""

from __future__ import annotations

from dataclasses import dataclass

from p8fs_cluster import Container, Injected, Provide, Storage, all_of, container, inject
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


@dataclass
class User:
    name: str


users = container.kv().typed(User)
async_users = container.async_kv().typed(User)
users.put("a", b"ada")  # wrong
async_users.namespace("b").atomic().put("a", 1)  # wrong
for key in container.kv().scan(keys_only=True):
    key.missing()  # wrong
for pair in users.scan():
    pair.decode()  # wrong


@users.cached(60)
def user(number: int) -> User:
    return User("ada")


@users.cached(60)  # wrong
def other_result(number: int) -> int:
    return 1


@async_users.cached(60)
async def async_user(number: int) -> User:
    return User("ada")


@async_users.cached(60)  # wrong
def not_async(number: int) -> User:
    return User("ada")


@users.cached(60)  # wrong
async def not_sync(number: int) -> User:
    return User("ada")


user("text")  # wrong
user.forget()  # wrong
user(1).missing()  # wrong


async def look_up() -> None:
    await async_user()  # wrong
    await async_user.forget("text")  # wrong
    (await async_user(1)).missing()  # wrong


@inject
def other_members(users: list[User] = Provide[all_of(ApiSettings)]) -> None: ...  # wrong


@inject
def not_a_list(user: User = Provide[all_of(User)]) -> None: ...  # wrong


@inject
def other_container(user: User = Provide[Container]) -> None: ...  # wrong


@inject
def by_type(user: Injected[User]) -> str:
    user.missing()  # wrong
    return user.name


by_type("text")  # wrong
