"""`p8fs-cluster config`: what the settings are and why, and what is generated from their models."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from p8fs_cluster.cli.catalogue import Models, models, settings_of
from p8fs_cluster.cli.completion import complete_setting, complete_side
from p8fs_cluster.cli.diff import differences
from p8fs_cluster.cli.diff_sources import operand
from p8fs_cluster.cli.documentation import env_example, settings_table
from p8fs_cluster.cli.kubernetes import Mount, manifests, misnamed, pod_spec, stream, unreachable
from p8fs_cluster.cli.output import Json, fail, on_a_line, print_json, print_table, refuse, tell, write_private
from p8fs_cluster.cli.schema import json_schema
from p8fs_cluster.config.explanation import Explanation
from p8fs_cluster.config.problems import unknown_setting, variable_of
from p8fs_cluster.config.section import declared, load_installed, names, setting_of
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.config.sources.files import UnusableError
from p8fs_cluster.config.spelling import misspelt
from p8fs_cluster.exceptions import ConfigurationError

__all__ = ["config_app"]

T = TypeVar("T")

Output = Annotated[
    Path | None, typer.Option(help="The file to write, instead of printing; only its owner can read it.")
]

config_app = typer.Typer(
    help="Shows the settings, and generates files from their models; sections of installed packages included.",
    no_args_is_help=True,
)


@config_app.command()
def show(as_json: Json = False) -> None:
    """Print the effective settings and where each comes from, secrets masked.

    Exit code 1 with every fault if they can't be used.
    """
    explained = _explained(as_json)
    if as_json:
        print_json({each.name: {"value": each.value, "source": each.source} for each in explained})
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table("setting", "value", "source")
    for each in explained:
        value = "" if each.value is None else on_a_line(str(each.value))
        table.add_row(each.variable, escape(value), escape(each.source))
    print_table(table)


@config_app.command()
def explain(
    name: Annotated[
        str | None,
        typer.Argument(help="A setting, with or without P8FS_; by default all.", autocompletion=complete_setting),
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell why a setting has its value: which source won, and which lost with what; secrets masked.

    Exit code 2 with the nearest name if there is no such setting; 1 if the settings can't be used.
    """
    if name is None:
        _print(_explained(as_json), as_json)
        return
    _told_of_sections()
    setting = setting_of(name)
    if setting not in names():
        refuse(f"{variable_of(setting)}: {unknown_setting(setting, names())}", as_json)
    one = _read(as_json).explain(setting)
    print_json(one.as_dict()) if as_json else typer.echo(str(one))


@config_app.command()
def docs() -> None:
    """Print the table of all settings in Markdown."""
    typer.echo(settings_table(_models()))


@config_app.command()
def schema() -> None:
    """Print the JSON Schema of a TOML or YAML file of settings, for editors and checks.

    It takes the settings under their flat names in lower case, and nothing else.
    """
    print_json(json_schema(_models()))


@config_app.command("env-example")
def example() -> None:
    """Print a .env in which every setting is commented out, with its meaning and default; secrets are empty."""
    typer.echo(env_example(_models()))


@config_app.command()
def k8s(
    name: Annotated[str, typer.Option(help="What it is for: NAME-config and NAME-secrets are made.")],
    namespace: Annotated[str | None, typer.Option(help="By default the one that kubectl is set to.")] = None,
    mount: Annotated[
        Mount, typer.Option(help="Mounted files, whose changes a process can follow, or variables.")
    ] = "volumes",
    only_pod_spec: Annotated[bool, typer.Option("--pod-spec", help="Print only the lines for the pod's spec.")] = False,
    output: Output = None,
) -> None:
    """Print a ConfigMap and a Secret with what differs from the defaults, and the lines for the pod's spec.

    They are one YAML stream for `kubectl apply -f -`; the pod's lines are a comment at its end. The Secret's values are
    in it in clear, so they are not printed on a terminal. Exit code 1 with every fault if the settings can't be used,
    or if a pod would read them otherwise.
    """
    for fault in filter(None, (misnamed(name), namespace and misnamed(namespace))):
        refuse(fault)
    if only_pod_spec:
        _put(pod_spec(name, mount), output)
        return
    known = _models()
    settings = _read()
    made = _or_fail(lambda: manifests(settings, known, mount))
    _tell_all(filter(None, [unreachable(settings)]))
    if made.secrets and output is None and sys.stdout.isatty():
        refuse("the Secret's values are not for a terminal: pipe them (| kubectl apply -f -), or use --output FILE")
    _put(stream(made, name, namespace, mount), output)


@config_app.command()
def diff(
    a: Annotated[str, typer.Argument(metavar="A", autocompletion=complete_side)],
    b: Annotated[str, typer.Argument(metavar="B", autocompletion=complete_side)],
    as_json: Json = False,
) -> None:
    """Print the settings whose effective values differ between A and B, secrets masked.

    Each is a .env, .toml or .yaml file, a manifest with ConfigMaps and Secrets, a folder with a file a setting, or a
    word: env (this environment), current (all sources, as a process started here reads them), defaults, and - (the
    standard input, a .env or YAML). Exit code 0 if nothing differs, 1 if something does, 2 in trouble.
    """
    if (a, b) == ("-", "-"):
        refuse("only one of the two can be the standard input", as_json)
    try:
        known = models()
        sides = [operand(argument) for argument in (a, b)]
        found = differences(sides[0].reading, sides[1].reading, known)
    except (ConfigurationError, UnusableError) as exc:
        refuse(exc, as_json)
    for side in sides:
        _tell_all([*side.notes, *misspelt(side.reading)])
    if as_json:
        print_json({each.name: {"a": vars(each.a), "b": vars(each.b)} for each in found})
    elif found:
        typer.echo("\n".join(map(str, found)))
    raise typer.Exit(1 if found else 0)


def _explained(as_json: bool) -> list[Explanation]:
    _told_of_sections()
    settings = _read(as_json)
    known: Models = (P8FSConfig, *declared())
    return [settings.explain(setting.name) for setting in settings_of(known)]


def _print(explained: list[Explanation], as_json: bool) -> None:
    if as_json:
        print_json({each.name: each.as_dict() for each in explained})
    else:
        typer.echo("\n".join(map(str, explained)))


def _told_of_sections() -> None:
    """Load all sections; what can't be loaded hides nothing else."""
    _tell_all(load_installed())


def _tell_all(messages: Iterable[object]) -> None:
    for message in messages:
        tell(message)


def _models() -> Models:
    return _or_fail(models)


def _read(as_json: bool = False) -> P8FSConfig:
    return _or_fail(P8FSConfig, as_json)


def _or_fail(action: Callable[[], T], as_json: bool = False) -> T:
    try:
        return action()
    except ConfigurationError as exc:
        fail(exc, as_json)


def _put(text: str, output: Path | None) -> None:
    if output is None:
        typer.echo(text.removesuffix("\n"))
        return
    try:
        write_private(output, text.removesuffix("\n") + "\n")
    except OSError as exc:
        refuse(f"{output} can't be written: {exc.strerror}")
