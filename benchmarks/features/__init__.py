"""Which features of injection each contender has: small programs that are run, one for each feature.

A module names every feature of its list. `None` stands where we found no way to write the feature in the library's
documentation, its signatures and its docstrings. A program returns where the feature works, and raises `Seen` where
something else was seen. Any other exception is a fault of the program.
"""

from collections.abc import Callable

Program = Callable[[], None]
"""What shows a feature."""

GROUPS = {
    "What can be asked for": {
        "by_default": "an argument by a marker as its default",
        "by_marker": "an argument by a marker in `Annotated`, under `from __future__ import annotations`",
        "by_type": "an argument of a function by its type",
        "arguments": "arguments of a constructor by their types",
        "all_of_a_type": "all of a type as a list",
        "optional": "an argument with a default is left alone where nothing fits",
        "generic": "`Box[T]` is declared once, and `Box[int]` asked for",
        "undeclared": "a class that was declared nowhere is built",
    },
    "Found before the first call": {
        "missing": "a missing dependency",
        "cycle": "a cycle",
        "wrong_type": "a dependency of a wrong type",
        "captive": "what would keep something that ends before it",
        "unfilled": "an argument of a function that nothing fits",
        "forgotten": "a forgotten `@inject`",
    },
    "Threads and lifetimes": {
        "once": "a singleton is built once when 16 threads come first",
        "independent": "other singletons are built while a slow one is",
        "none_kept": "a factory that returns None is called once",
        "reverse": "what a scope has opened is closed in reverse order",
        "told_of_failure": "what ends with a scope is told of the exception",
        "shared": "a scope's value is built once when 16 threads of the scope come first",
        "same_task": "an asynchronous value that a child task asked for is closed in the task that opened it",
        "per_call": "a call that ends does not close what another call has open",
    },
    "Overriding": {
        "replaced": "a test replaces a dependency, without another container",
        "override_followed": "singletons built before follow an override, and the same ones are back after it",
        "override_alone": "an override for one thread or task alone",
    },
    "Processes, settings, frameworks": {
        "fork": "a forked child opens a connection of its own",
        "picture": "a picture of the graph",
        "settings": "a single setting is overridden, and validated",
        "reload": "settings follow a file that changed",
        "router": "one FastAPI router serves two applications, each from its container",
        "unmade": "a FastAPI handler fails where its application has no container",
        "flask": "a Flask view is given a value that ends with the call or request",
        "celery": "a Celery task is given a value that ends with the task",
    },
}
"""The name of the program that shows a feature, and how the table calls it, in groups."""

FEATURES = [name for group in GROUPS.values() for name in group]

FRAMEWORKS = ("router", "unmade", "flask", "celery")
"""The features whose programs are in `benchmarks/features/frameworks`."""

CONTENDERS = {
    "p8fs_cluster": "ours",
    "dependency-injector": "dependency_injector",
    "dishka": "dishka",
    "wireup": "wireup",
    "anydi": "anydi",
    "svcs": "svcs",
    "Depends": "depends",
}
"""How the table calls a contender, and the name of its modules."""
