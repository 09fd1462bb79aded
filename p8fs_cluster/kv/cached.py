"""Cached results of functions, for threads: of all callers in all processes, one computes.

Made by `scripts/threads.py`: edit `cached.py`.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import itertools
import logging
import time
from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, cast, overload

from p8fs_cluster.exceptions import ClusterError, KVError
from p8fs_cluster.kv.caching import CLAIM, Keys, payload_of, record_of
from p8fs_cluster.kv.changes import require_value
from p8fs_cluster.kv.codecs import Codec
from p8fs_cluster.kv.flights import Flights, Outcome
from p8fs_cluster.kv.joining import flown, joined, require
from p8fs_cluster.kv.keys import Key, Space, duration, microseconds, new_version
from p8fs_cluster.kv.running import Runner
from p8fs_cluster.providers.storage.kv import Put
from p8fs_cluster.providers.storage.retries import pause

__all__ = ["Cached", "cached"]

log = logging.getLogger("p8fs_cluster.kv")

P = ParamSpec("P")
Q = ParamSpec("Q")
V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)

_PAUSE = 0.02
"""Seconds to begin with between two looks at a claim of another process."""
_LONGEST = 0.5

_claims: contextvars.ContextVar[frozenset[int]] = contextvars.ContextVar("p8fs_claims", default=frozenset())
"""The versions of the claims that this context computes for."""


class Cached(Protocol[P, V_co]):
    """A function whose results are kept."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> V_co:
        """Return the result that is kept for these arguments, or compute it."""

    def forget(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Delete the result for these arguments; one that is being computed now is not kept."""

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self: Cached[Concatenate[Any, Q], V], instance: object, owner: type) -> Callable[Q, V]: ...


def cached(
    runner: Runner,
    space: Space,
    codec: Codec[V],
    *,
    ttl: float | None,
    key: Callable[..., Key] | None,
    name: str | None,
    claim: float,
) -> Callable[[Callable[P, V]], Cached[P, V]]:
    """Return a decorator of functions.

    :raises KVError: a time can't be used.
    """
    left, patience = microseconds(ttl), duration(claim, "claim")

    def decorate(function: Callable[P, V]) -> Cached[P, V]:
        if not callable(function) or inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise KVError("kv.cached decorates a function that returns its result, below @classmethod and the like")
        require(function)
        results = Results(runner, codec, Keys(space, function, name, key), left, patience)

        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> V:
            return results.get(results.keys.physical(args, kwargs), lambda: function(*args, **kwargs))

        def forget(*args: P.args, **kwargs: P.kwargs) -> None:
            results.forget(results.keys.physical(args, kwargs))

        called.forget = forget  # type: ignore[attr-defined]
        return cast(Cached[P, V], called)

    return decorate


class Results(Generic[V]):
    """The results of one function.

    Each call looks at the store first, so that it never gets what was forgotten, or overridden, before it. Then it
    joins the call whose claim it has seen there, or waits for that claim's end, or makes one.
    """

    def __init__(self, runner: Runner, codec: Codec[V], keys: Keys, ttl: int | None, claim: int) -> None:
        self._runner = runner
        self._codec = codec
        self._ttl = ttl
        self._claim = claim
        self._flights = Flights()
        self.keys = keys

    def get(self, key: bytes, call: Callable[[], V]) -> V:
        """Return the result under a key, as it was stored, computed by whoever is the first."""
        while True:
            payload, version = self._seen(key)
            if version is None:
                payload = self._claimed(key, call)
            elif payload is None:
                payload = self._awaited(key, version)
            if payload is not None:
                return self._decoded(payload)

    def forget(self, key: bytes) -> None:
        """Delete the result under a key, or the claim, so that no result is stored for it."""
        self._runner.run(lambda store: store.delete((key,)))

    def _seen(self, key: bytes) -> tuple[bytes | None, int | None]:
        """Return the encoded result and its version, None and the version of a claim, or None twice."""
        row = (self._runner.run(lambda store: store.entries((key,)))).get(key)
        return (None, None) if row is None else (payload_of(row[0]), row[1])

    def _claimed(self, key: bytes, call: Callable[[], V]) -> bytes | None:
        """Return the encoded result if the claim was made here; None: look again."""
        turn, is_new = self._flights.join(key)
        if not is_new:
            return joined(self._flights, turn)
        claim = Put(key, CLAIM, new_version(), self._claim)
        flight, _ = self._flights.join(claim.version)  # before anybody can see it
        over = functools.partial(self._flights.end, key, turn, Outcome())
        try:
            return flown(self._flights, claim.version, flight, lambda: self._computed(claim, over, call))
        finally:
            over()

    def _computed(self, claim: Put, over: Callable[[], None], call: Callable[[], V]) -> bytes | None:
        """Return the encoded result, stored, if the claim was made; `over` is called when that is known."""
        began, computing = time.monotonic(), _claims.set(_claims.get() | {claim.version})
        try:
            if not self._runner.run(lambda store: store.put_if_absent(claim)):
                time.sleep(pause(_PAUSE, 0))  # two servers' clocks may differ on whether a claim is over
                return None
            over()
            payload = self._codec.encode(call())
            self._store(claim, payload, began)
        except BaseException as exc:
            self._release(claim, exc)
            raise
        finally:
            _claims.reset(computing)
        return payload

    def _store(self, claim: Put, payload: bytes, began: float) -> None:
        """Put a result in the place of its claim. If that is gone, the result is its callers' only."""
        put = Put(claim.key, record_of(payload), new_version(), self._ttl)
        require_value(put.value, self._runner.stores.limits())
        stored = self._runner.run(lambda store: store.compare_and_set(put, claim.version))
        seconds, most = time.monotonic() - began, self._claim / 1_000_000
        if not stored and seconds > most:
            log.warning(
                "%s took %.3g s, longer than its claim of %g s: the result was not kept, and others may have computed "
                "it, too. Give kv.cached a longer claim=",
                self.keys.name, seconds, most,
            )  # fmt: skip

    def _release(self, claim: Put, exc: BaseException) -> None:
        try:
            self._runner.run(lambda store: store.delete_if(claim.key, claim.version))
        except ClusterError as fault:
            exc.add_note(f"The claim to compute {self.keys.name} was not deleted, and ends by its time: {fault}")

    def _awaited(self, key: bytes, version: int) -> bytes | None:
        """Return the encoded result of the call that has made a claim here; None: look again, it is over."""
        if version in _claims.get():
            raise KVError(f"{self.keys.name} calls itself with the same arguments, and would wait for itself")
        flight, is_new = self._flights.join(version)
        if not is_new:
            return joined(self._flights, flight)
        return flown(self._flights, version, flight, lambda: self._watched(key, version))

    def _watched(self, key: bytes, version: int) -> None:
        """Return when a claim of another process is over."""
        for attempt in itertools.count():
            time.sleep(pause(_PAUSE, attempt, longest=_LONGEST))
            if (self._seen(key))[1] != version:
                return

    def _decoded(self, payload: bytes) -> V:
        try:
            return self._codec.decode(payload)
        except KVError as exc:
            raise KVError(
                f"{self.keys.name}: {exc}. If its results have changed, give kv.cached another name="
            ) from exc
