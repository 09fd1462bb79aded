"""Which features of injection each contender has: small programs that are run, one for each feature.

A module has no function for what its library has no way to write.
"""

FEATURES = {
    "by_type": "an argument of a function by its type",
    "arguments": "arguments of a constructor by their types",
    "all_of_a_type": "all of a type as a list",
    "override_followed": "singletons built before follow an override, and the same ones are back after it",
    "override_alone": "an override for one thread or task alone",
    "once": "a singleton is built once when 16 threads come first",
    "none_kept": "a factory that returns None is called once",
    "told_of_failure": "what ends with a scope is told of the exception",
    "captive": "a singleton that would keep what ends with a scope is refused at the start",
    "missing": "a missing dependency is found at the start",
    "cycle": "a cycle is found at the start",
}
"""The name of the function that shows a feature, and how the table calls it."""
