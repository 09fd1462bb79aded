"""`@inject`: marked parameters are filled from the active container. No `wire()` is needed."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from p8fs_cluster.containers.plan import Plan
from p8fs_cluster.di import context
from p8fs_cluster.di.by_type import all_of
from p8fs_cluster.di.call_scope import Call
from p8fs_cluster.di.markers import INJECTED, Closing, Injected, Joining, Provide

__all__ = ["Closing", "Injected", "Joining", "Provide", "all_of", "inject"]

P = ParamSpec("P")
R = TypeVar("R")


def inject(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` with its marked parameters filled at each call; what the caller gives wins.

    Markers stand as default (`storage: Storage = Provide[Container.storage]`) or in `Annotated`; `Injected[Storage]`
    chooses the provider by its type. They resolve against the active container: the innermost `with container:`, else
    the process's default one. `Closing[Provide[...]]` opens a resource for the call. A class has its `__init__`
    injected. Frameworks that look at the signature see only what is not injected.

    :raises InjectionError: at the call, when a marker can't be resolved.

    >>> from p8fs_cluster.containers import Container
    >>> @inject
    ... def port(api=Provide[Container.api]):
    ...     return api.port
    >>> with Container(config={"api_port": 9000}):
    ...     port()
    9000
    """
    injected: Callable[P, R] = _injected(function, sys._getframe(1).f_locals)
    return injected


def _injected(function: Any, names: dict[str, Any]) -> Any:
    if isinstance(function, (classmethod, staticmethod)):
        return type(function)(_injected(function.__func__, names))
    if isinstance(function, type):
        function.__init__ = _injected(function.__init__, names)  # type: ignore[misc]
        return function
    plan = Plan(function, names)
    if plan.is_known and not plan.injections:
        return function
    wrapper = functools.update_wrapper(_wrapper(function, plan), function)
    setattr(wrapper, INJECTED, True)
    if plan.is_known:
        wrapper.__signature__ = plan.visible()  # type: ignore[attr-defined]
    return wrapper


def _wrapper(function: Callable[..., Any], plan: Plan) -> Callable[..., Any]:
    opens = plan.opens or not plan.is_known
    if inspect.iscoroutinefunction(function):
        make = (
            _closing_coroutine if opens else _maker_of(plan.first, len(plan.injections), "async ", "await ", "_async")
        )
    elif inspect.isasyncgenfunction(function):
        make = _async_generator
    elif inspect.isgeneratorfunction(function):
        make = _generator
    else:
        make = _closing_function if opens else _maker_of(plan.first, len(plan.injections), "", "", "")
    return make(function, plan)


@functools.cache
def _maker_of(first: int, count: int, async_: str, await_: str, suffix: str) -> Callable[..., Any]:
    """Return what makes wrappers of one shape. Written out, because unpacking arguments costs more than all the rest.

    A shape is the number of arguments that callers usually give, and of those that are injected right after them.
    """
    given = "".join(f"given_{number}, " for number in range(first))
    values = "".join(f"value_{number}, " for number in range(count))
    names: dict[str, Any] = {"here": context.in_force.get}
    others = f"len(args) != {first}" if first else "args"
    exec(_SHAPE.format(**locals(), unpacked=f"{given}= args" if given else "pass"), names)  # noqa: S102
    made: Callable[..., Any] = names["maker"]
    return made


_SHAPE = """
def maker(function, plan):
    {async_}def injected(*args, **kwargs):
        if kwargs or {others}:
            return {await_}function(*args, **{await_}plan.fill{suffix}(args, kwargs))
        {unpacked}
        try:
            {values}= here().cache.values[plan]
        except KeyError:
            {values}= {await_}plan.values{suffix}()
        return {await_}function({given}{values})
    return injected
"""


def _closing_function(function: Callable[..., Any], plan: Plan) -> Callable[..., Any]:
    def injected(*args: Any, **kwargs: Any) -> Any:
        call = Call()
        try:
            plan.open(call, args, kwargs)
            call.publish()
            result = function(*args, **kwargs)
        except BaseException as exc:
            call.leave(exc)
            raise
        call.leave(None)
        return result

    return injected


def _closing_coroutine(function: Callable[..., Any], plan: Plan) -> Callable[..., Any]:
    async def injected(*args: Any, **kwargs: Any) -> Any:
        call = Call()
        try:
            await plan.open_async(call, args, kwargs)
            call.publish()
            result = await function(*args, **kwargs)
        except BaseException as exc:
            await call.leave_async(exc)
            raise
        await call.leave_async(None)
        return result

    return injected


def _generator(function: Callable[..., Any], plan: Plan) -> Callable[..., Any]:
    def injected(*args: Any, **kwargs: Any) -> Any:
        call = Call()
        try:
            plan.open(call, args, kwargs)
            result = yield from function(*args, **kwargs)
        except BaseException as exc:
            call.leave(exc)
            raise
        call.leave(None)
        return result

    return injected


def _async_generator(function: Callable[..., Any], plan: Plan) -> Callable[..., Any]:
    async def injected(*args: Any, **kwargs: Any) -> Any:
        call = Call()
        try:
            await plan.open_async(call, args, kwargs)
            generator = function(*args, **kwargs)
            value = await anext(generator)
            while True:
                try:
                    sent = yield value
                except GeneratorExit:
                    await generator.aclose()
                    raise
                except BaseException as exc:
                    value = await generator.athrow(exc)
                else:
                    value = await generator.asend(sent)
        except StopAsyncIteration:
            await call.leave_async(None)
        except BaseException as exc:
            await call.leave_async(exc)
            raise

    return injected
