"""The settings as a ConfigMap and a Secret, and the lines of a pod's spec that hand them to it."""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic.fields import FieldInfo

from p8fs_cluster.cli.catalogue import Models, Setting, settings_of
from p8fs_cluster.cli.rendering import same, text_of
from p8fs_cluster.config.model import Settings
from p8fs_cluster.config.problems import configuration_error, variable_of
from p8fs_cluster.config.reading import Reading
from p8fs_cluster.config.secrets import without_passwords
from p8fs_cluster.config.section import Section
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.config.sources.environment import read_environment
from p8fs_cluster.config.sources.source import Source, entry_of, source_of
from p8fs_cluster.exceptions import Problem

__all__ = ["Manifests", "Mount", "manifests", "misnamed", "pod_spec", "stream", "unreachable"]

Mount = Literal["volumes", "env"]

CONFIG_DIR = "/etc/p8fs/config"
SECRETS_DIR = "/etc/p8fs/secrets"
_LOOPBACK = ("127.", "localhost", "::1", "[::1]")
READABLE = 0o444
"""A pod's user is seldom root, and only its own containers see what is mounted."""
LIMIT = 1024 * 1024
"""Bytes that Kubernetes lets a ConfigMap or a Secret hold."""
ENV_LIMIT = 128 * 1024
"""Bytes that Linux lets one variable have, with its name."""


@dataclasses.dataclass(frozen=True)
class Manifests:
    """The contents of the ConfigMap and of the Secret: texts by variable."""

    config: Mapping[str, str]
    secrets: Mapping[str, str] = dataclasses.field(repr=False)


def misnamed(name: str) -> str | None:
    """Return why Kubernetes takes no such name, None if it does.

    >>> misnamed("My_App")
    "'My_App' is no name in Kubernetes: at most 63 of a-z, 0-9 and -, not at either end; such as 'my-app'"
    """
    if re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name):
        return None
    better = re.sub(r"[^a-z0-9]+", "-", name.lower())[:63].strip("-")
    instead = f"; such as {better!r}" if better else ""
    return f"{name!r} is no name in Kubernetes: at most 63 of a-z, 0-9 and -, not at either end{instead}"


def manifests(settings: P8FSConfig, models: Models, mount: Mount) -> Manifests:
    """Return the values that differ from their defaults, and what a pod needs to be reached and to follow a rotation.

    :raises ConfigurationError: values that a pod would not read back as they are, or that are too large.

    >>> manifests(P8FSConfig(pg_port=5432, pg_password="x"), (P8FSConfig,), "env")
    Manifests(config={'P8FS_API_HOST': '0.0.0.0', 'P8FS_PG_PORT': '5432'})
    """
    origins = {model.prefix + field: _part(settings, model).origin(field) for model, field in _fields(models)}
    config: dict[str, str] = {}
    hidden: dict[str, str] = {}
    problems: list[Problem] = []
    for setting, value in _changed(settings, models):
        try:
            text = text_of(value)
            text.encode()
        except ValueError:
            problems.append(Problem(setting.variable, origins[setting.name], "holds bytes that are no UTF-8 text"))
            continue
        (hidden if setting.secret or without_passwords(text) != text else config)[setting.variable] = text
        problems += (Problem(setting.variable, origins[setting.name], fault) for fault in _faults(setting, text, mount))
    problems += [*_too_large("ConfigMap", config), *_too_large("Secret", hidden)]
    if not problems:
        problems += _read_otherwise(settings, models, {**config, **hidden}, mount, origins)
    if problems:
        raise configuration_error(problems)
    return Manifests({**_for_a_pod(settings, mount), **config}, hidden)


def unreachable(settings: P8FSConfig) -> str | None:
    """Return what to tell of an address that was given, and that nobody outside the pod can reach.

    >>> unreachable(P8FSConfig(api_host="localhost"))
    'P8FS_API_HOST (from code) is localhost: nobody outside the pod reaches it'
    """
    if "api_host" not in settings.model_fields_set or not settings.api_host.startswith(_LOOPBACK):
        return None
    return f"{settings.describe('api_host')} is {settings.api_host}: nobody outside the pod reaches it"


def _for_a_pod(settings: P8FSConfig, mount: Mount) -> dict[str, str]:
    needed = {"api_host": "0.0.0.0"} | ({"reload": "true"} if mount == "volumes" else {})  # noqa: S104
    return {variable_of(name): text for name, text in needed.items() if name not in settings.model_fields_set}


def stream(made: Manifests, name: str, namespace: str | None, mount: Mount) -> str:
    """Return the ConfigMap and the Secret as one YAML stream, with the pod's lines as a comment at its end."""
    encoded = {variable: base64.b64encode(text.encode()).decode() for variable, text in made.secrets.items()}
    documents = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            **_metadata(f"{name}-config", namespace),
            "data": _texts(made.config),
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            **_metadata(f"{name}-secrets", namespace),
            "type": "Opaque",
            "data": _texts(encoded),
        },
    ]
    lines = "\n".join(f"# {line}" for line in pod_spec(name, mount).splitlines())
    return f"{_yaml(documents)}# For the pod's spec:\n{lines}\n"


def pod_spec(name: str, mount: Mount) -> str:
    """Return the lines of a pod's spec that hand it the ConfigMap and the Secret.

    >>> print(pod_spec("notes", "env"))
    enableServiceLinks: false
    containers:
    - name: "notes"
      env:
      - name: P8FS_POD_NAME
        valueFrom:
          fieldRef:
            fieldPath: metadata.name
      - name: P8FS_NODE_NAME
        valueFrom:
          fieldRef:
            fieldPath: spec.nodeName
      envFrom:
      - configMapRef:
          name: notes-config
      - secretRef:
          name: notes-secrets
    """
    container = _mounting() if mount == "volumes" else _importing(name)
    spec = {"enableServiceLinks": False, "containers": [{"name": _Text(name), **container}]}
    return _yaml([spec | (_volumes(name) if mount == "volumes" else {})]).removesuffix("\n")


def _mounting() -> dict[str, Any]:
    places = {"config": CONFIG_DIR, "secrets": SECRETS_DIR}
    return {
        "env": [
            *({"name": variable_of(f"{kind}_dir"), "value": place} for kind, place in places.items()),
            *_own_names(),
        ],
        "volumeMounts": [
            {"name": f"p8fs-{kind}", "mountPath": place, "readOnly": True} for kind, place in places.items()
        ],
    }


def _volumes(name: str) -> dict[str, Any]:
    config = {"name": f"{name}-config", "defaultMode": READABLE}
    secret = {"secretName": f"{name}-secrets", "defaultMode": READABLE}
    return {"volumes": [{"name": "p8fs-config", "configMap": config}, {"name": "p8fs-secrets", "secret": secret}]}


def _own_names() -> list[dict[str, Any]]:
    """Return the variables by which a process knows its pod and its machine."""
    paths = {"pod_name": "metadata.name", "node_name": "spec.nodeName"}
    return [{"name": variable_of(name), "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in paths.items()]


def _importing(name: str) -> dict[str, Any]:
    return {
        "env": _own_names(),
        "envFrom": [{"configMapRef": {"name": f"{name}-config"}}, {"secretRef": {"name": f"{name}-secrets"}}],
    }


def _fields(models: Models) -> Iterator[tuple[type[Settings], str]]:
    return ((model, field) for model in models for field in model.model_fields)


def _part(settings: P8FSConfig, model: type[Settings]) -> Settings:
    return settings.section(model) if issubclass(model, Section) else settings


def _changed(settings: P8FSConfig, models: Models) -> Iterator[tuple[Setting, Any]]:
    for model in models:
        part = _part(settings, model)
        for setting in settings_of((model,)):
            field = setting.name.removeprefix(model.prefix)
            value = getattr(part, field)
            if field in part.model_fields_set and not _is_default(setting.info, value):
                yield setting, value


def _is_default(info: FieldInfo, value: Any) -> bool:
    if info.is_required() or info.default_factory_takes_validated_data:
        return False
    return bool(value == info.get_default(call_default_factory=True))


def _faults(setting: Setting, text: str, mount: Mount) -> Iterator[str]:
    if not re.fullmatch(r"[A-Z0-9_]{1,253}", setting.variable):
        yield "is no name that a ConfigMap takes: only letters, digits and _"
    if mount == "env" and "\0" in text:
        yield "holds a NUL character, which no variable can"
    size = len(f"{setting.variable}={text}\0".encode())
    if mount == "env" and size > ENV_LIMIT:
        yield f"has {size:,} bytes, and a variable takes {ENV_LIMIT:,}: use --mount volumes"


def _too_large(kind: str, data: Mapping[str, str]) -> Iterator[Problem]:
    sizes = {variable: len(text.encode()) for variable, text in data.items()}
    total = sum(sizes.values())
    if total > LIMIT:
        largest = max(sizes, key=lambda variable: sizes[variable])
        most = f"the largest is {largest} with {sizes[largest]:,}"
        yield Problem(f"the {kind}", None, f"would hold {total:,} bytes, and Kubernetes takes {LIMIT:,}; {most}")


def _read_otherwise(
    settings: P8FSConfig, models: Models, texts: Mapping[str, str], mount: Mount, origins: Mapping[str, str]
) -> Iterator[Problem]:
    """Yield what a pod would not read as it is here.

    :raises ConfigurationError: it would not take it at all.
    """
    reading = Reading((read_environment(texts) if mount == "env" else _mounted(texts),))
    for model in models:
        there, here = model.of(reading), _part(settings, model)
        for field in model.model_fields:
            name = model.prefix + field
            if not same(getattr(here, field), getattr(there, field)):
                yield Problem(variable_of(name), origins[name], _why(name, reading))


def _mounted(texts: Mapping[str, str]) -> Source:
    """Return what `read_mounted` makes of files with these texts."""
    items = (
        (variable, entry_of(text.encode().decode("utf-8-sig"), "the manifest")) for variable, text in texts.items()
    )
    return source_of(items)


def _why(name: str, reading: Reading) -> str:
    if reading.foreign(name):
        return "looks like Kubernetes' link to a Service, which is no setting in the environment: use --mount volumes"
    return "would lose line ends or blanks around it, or a mark or ~ at its beginning: take them off"


def _metadata(name: str, namespace: str | None) -> dict[str, Any]:
    return {"metadata": {"name": name, **({"namespace": _Text(namespace)} if namespace else {})}}


def _texts(data: Mapping[str, str]) -> dict[str, str]:
    return {variable: _Text(text) for variable, text in data.items()}


class _Text(str):
    """Is quoted in YAML: what is text for PyYAML, such as 1e5, is a number for kubectl."""

    __slots__ = ()


def _yaml(documents: list[dict[str, Any]]) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes `_Text` in quotes, and nothing by reference."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    Dumper.add_representer(
        _Text, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
    )
    written: str = yaml.dump_all(
        documents, Dumper=Dumper, sort_keys=False, width=float("inf"), explicit_start=len(documents) > 1
    )
    return written
