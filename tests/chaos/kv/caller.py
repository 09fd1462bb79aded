"""The things that one thread of a worker does, again and again, on a few keys that all others want, too."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from typing import Any

from tests.chaos.kv.calls import FAILED, REFUSED, SOME, UNKNOWN, Journal
from tests.chaos.kv.keys import ACCOUNTS, CLAIMS, CODES, COUNTS, FLEETING, LEASES, PAIRS, REGISTERS, amount_of

__all__ = ["Caller"]

_RETRY = 8


class Caller:
    """One thread, with a key-value store of either kind in the clothes of the one for threads."""

    def __init__(self, journal: Journal, kv: Any, name: str) -> None:
        self._journal = journal
        self._kv = kv
        self._chance = random.Random(name)
        self._values = (f"{name}.{number}" for number in itertools.count())

    def act(self) -> None:
        """Do one thing; after an error wait a little, as whoever tries again does."""
        [action] = self._chance.choices(_ACTIONS, _WEIGHTS)
        came = action(self)
        if came["outcome"] in (FAILED, UNKNOWN):
            time.sleep(self._chance.uniform(0.01, 0.05))

    def increment(self) -> Any:
        key = self._chance.choice(COUNTS)
        with self._journal.call("increment", wrote={key: SOME}) as came:
            total = self._kv.increment(key)
            came.update(wrote={key: str(total)}, saw={key: str(total - 1) if total > 1 else None},
                        versions={key: total.version})  # fmt: skip
        return came

    def look(self) -> Any:
        """Read any key, with its version or without."""
        key = self._chance.choice((*COUNTS, *REGISTERS, *CLAIMS, *FLEETING, *LEASES, *CODES))
        if self._chance.random() < 0.5:
            return self._entry(key)[0]
        with self._journal.call("get") as came:
            came["saw"] = {key: _text(self._kv.get(key))}
        return came

    def put(self) -> Any:
        return self._put(self._chance.choice(REGISTERS))

    def put_if_absent(self) -> Any:
        return self._put_if_absent(self._chance.choice(REGISTERS))[0]

    def delete(self) -> Any:
        key = self._chance.choice(REGISTERS)
        with self._journal.call("delete", wrote={key: None}) as came:
            self._kv.delete(key)
        return came

    def compare_and_set(self) -> Any:
        return self._compare_and_set(self._chance.choice(REGISTERS))

    def delete_if(self) -> Any:
        key = self._chance.choice(REGISTERS)
        came, value, version = self._entry(key)
        return came if value is None else self._delete_if(key, value, version)

    def take(self) -> Any:
        return self._take(self._chance.choice(REGISTERS))

    def atomic(self) -> Any:
        """Write one register and delete another, if both are as they were seen."""
        one, other = self._chance.sample(REGISTERS, 2)
        seen = {key: self._entry(key) for key in (one, other)}
        written = next(self._values)
        required = {key: value for key, (_, value, _) in seen.items()}
        with self._journal.call("atomic", required=required, wrote={one: written, other: None}) as came:
            atomic = self._kv.atomic()
            for key, (_, _, version) in seen.items():
                atomic = atomic.check(key, version)
            versions = atomic.put(one, written.encode()).delete(other).commit()
            came.update({"outcome": REFUSED} if versions is None else {"versions": versions})
        return came

    def claim(self) -> Any:
        """Hold a key for a moment, by itself alone."""
        key = self._chance.choice(CLAIMS)
        came, value, version = self._put_if_absent(key)
        if version is None:
            return came
        time.sleep(self._chance.uniform(0, 0.01))
        return self._delete_if(key, value, version)

    def pass_away(self) -> Any:
        """Write what expires soon."""
        key = self._chance.choice(FLEETING)
        return self._put(key, ttl=self._ttl()) if self._chance.random() < 0.3 else self._entry(key)[0]

    def lease(self) -> Any:
        """Write what expires, change when it does, or write in its place."""
        key, chance = self._chance.choice(LEASES), self._chance.random()
        if chance < 0.3:
            return self._put(key, ttl=self._ttl())
        if chance < 0.6:
            return self._compare_and_set(key, ttl=self._ttl())
        ttl = self._ttl()
        with self._journal.call("expire", ends={key: ttl}) as came:
            version = self._kv.expire(key, ttl)
            came.update({"saw": {key: None}, "ends": {}} if version is None else {"versions": {key: version}})
        return came

    def sweep(self) -> Any:
        with self._journal.call("sweep") as came:
            self._kv.sweep(10)
        return came

    def pair(self) -> Any:
        """Write or delete two keys together, or read them together."""
        keys, chance = self._chance.choice(PAIRS), self._chance.random()
        written = next(self._values)
        if chance < 0.4:
            with self._journal.call("put_many", wrote=dict.fromkeys(keys, written)) as came:
                came["versions"] = self._kv.put_many(dict.fromkeys(keys, written.encode()))
        elif chance < 0.5:
            with self._journal.call("delete_many", wrote=dict.fromkeys(keys)) as came:
                self._kv.delete_many(keys)
        else:
            came = self._look_at(keys)
        return came

    def transfer(self) -> Any:
        """Move an amount from one account to another, or look at all accounts."""
        if self._chance.random() < 0.3:
            return self._look_at(ACCOUNTS)
        ends = self._chance.sample(ACCOUNTS, 2)
        moved = self._chance.randint(1, 5)
        with self._journal.call("run_in_transaction") as came:
            number = came["n"]

            def work(tx: Any) -> None:
                before = {key: tx.get(key).decode() for key in ends}
                amounts = {ends[0]: amount_of(before[ends[0]]) - moved, ends[1]: amount_of(before[ends[1]]) + moved}
                after = {key: f"{amount} {next(self._values)}" for key, amount in amounts.items()}
                self._journal.add({"n": number, "required": before, "wrote": after})
                for key, value in after.items():
                    tx.put(key, value.encode())

            self._kv.run_in_transaction(work, retry=_RETRY)
        return came

    def code(self) -> Any:
        """Give a code, or take one."""
        key = self._chance.choice(CODES)
        return self._put_if_absent(key)[0] if self._chance.random() < 0.4 else self._take(key)

    def _ttl(self) -> float:
        return self._chance.uniform(0.05, 0.5)

    def _put(self, key: str, ttl: float | None = None) -> Any:
        value = next(self._values)
        with self._journal.call("put", wrote={key: value}, ends=_ends(key, ttl)) as came:
            came["versions"] = {key: self._kv.put(key, value.encode(), ttl=ttl)}
        return came

    def _put_if_absent(self, key: str) -> tuple[Any, str, int | None]:
        value, version = next(self._values), None
        with self._journal.call("put_if_absent", wrote={key: value}, required={key: None}) as came:
            version = self._kv.put_if_absent(key, value.encode())
            came.update({"outcome": REFUSED} if version is None else {"versions": {key: version}})
        return came, value, version

    def _entry(self, key: str) -> tuple[Any, str | None, int | None]:
        entry = None
        with self._journal.call("entry") as came:
            entry = self._kv.entry(key)
            came["saw"] = {key: entry and entry.value.decode()}
            came["versions"] = {key: entry.version} if entry else {}
        return (came, entry.value.decode(), entry.version) if entry else (came, None, None)

    def _compare_and_set(self, key: str, ttl: float | None = None) -> Any:
        came, old, version = self._entry(key)
        if old is None:
            return came
        value = next(self._values)
        planned = {"required": {key: old}, "wrote": {key: value}, "ends": _ends(key, ttl)}
        with self._journal.call("compare_and_set", **planned) as came:
            new = self._kv.compare_and_set(key, version, value.encode(), ttl=ttl)
            came.update({"outcome": REFUSED} if new is None else {"versions": {key: new}})
        return came

    def _delete_if(self, key: str, old: str, version: int | None) -> Any:
        with self._journal.call("delete_if", required={key: old}, wrote={key: None}) as came:
            if not self._kv.delete_if(key, version):
                came["outcome"] = REFUSED
        return came

    def _take(self, key: str) -> Any:
        with self._journal.call("take", wrote={key: None}) as came:
            came["saw"] = {key: _text(self._kv.take(key))}
        return came

    def _look_at(self, keys: tuple[str, ...]) -> Any:
        with self._journal.call("get_many") as came:
            found = self._kv.get_many(keys)
            came["saw"] = {key: _text(found.get(key)) for key in keys}
        return came


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _ends(key: str, ttl: float | None) -> dict[str, float]:
    return {} if ttl is None else {key: ttl}


_SHARES: dict[Callable[[Caller], Any], int] = {
    Caller.increment: 4, Caller.look: 4, Caller.put: 1, Caller.put_if_absent: 1, Caller.delete: 1,
    Caller.compare_and_set: 4, Caller.delete_if: 1, Caller.take: 1, Caller.atomic: 2, Caller.claim: 2,
    Caller.pass_away: 3, Caller.lease: 2, Caller.sweep: 1, Caller.pair: 3, Caller.transfer: 4, Caller.code: 5,
}  # fmt: skip
_ACTIONS, _WEIGHTS = list(_SHARES), list(_SHARES.values())
