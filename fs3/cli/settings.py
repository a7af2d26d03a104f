"""`fs3 config`: look at the settings of a cluster, and change them while it runs."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.cli.machines import author
from fs3.cli.manager_client import ask_manager
from fs3.cli.output import print_json, print_table
from fs3.cli.settings_text import DEFAULT, load_changes, parse_changes
from fs3.cli.where import HELP as where_help
from fs3.cli.where import manager_addresses_of
from fs3.core.membership.settings import SETTINGS, describe, find_setting
from fs3.model.settings import SettingsHistory, SettingsVersion, SettingValue

app = typer.Typer(name="config", help="Settings of a cluster, changed while it runs.", no_args_is_help=True)

Cluster = Annotated[str | None, typer.Option("--cluster", help=where_help)]
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable")]


def _ask(cluster: str | None) -> SettingsHistory:
    return ask_manager(manager_addresses_of(cluster), lambda client: client.settings())


@app.command()
def get(
    keys: Annotated[list[str] | None, typer.Argument(metavar="KEY…", help="none: all")] = None,
    cluster: Cluster = None,
    as_json: AsJson = False,
) -> None:
    """Show settings: what is in force, the default, and where it comes from."""
    wanted = keys or list(SETTINGS)
    for key in wanted:
        _check_key(key)
    found = _ask(cluster)
    in_force = found.values
    if as_json:
        print_json({key: in_force.get(key, SETTINGS[key].default) for key in wanted})
        return
    stored = found.versions[-1].values if found.versions else {}
    rows = []
    for key in wanted:
        default = SETTINGS[key].default
        origin = "set" if key in stored else "started with" if key in found.started_with else "default"
        rows.append((key, describe(in_force.get(key, default)), describe(default), origin))
    print_table(("key", "value", "default", ""), rows)


@app.command("set")
def set_settings(
    changes: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE…", help=f"KEY={DEFAULT} takes it back")] = None,
    file: Annotated[Path | None, typer.Option(help="TOML file of settings, a table for each part")] = None,
    if_version: Annotated[int, typer.Option(help="only if the settings have this version; 0: always")] = 0,
    cluster: Cluster = None,
    as_json: AsJson = False,
) -> None:
    """Change settings, all that are named or none. The nodes apply them at their next heartbeat; `fs3 status` says which have."""
    named = parse_changes(changes or [])
    if file is not None:
        both = load_changes(file)
        if twice := sorted(both.keys() & named.keys()):
            raise error(Code.CONFIG, f"{twice[0]} is given twice, here and in {file}")
        named |= both
    if not named:
        raise error(Code.CONFIG, "nothing to change: KEY=VALUE, or --file")
    addresses = manager_addresses_of(cluster)
    version = ask_manager(addresses, lambda client: client.set_settings(named, if_version, author()))
    if as_json:
        print_json({"version": version})
    else:
        sys.stdout.write(f"the settings have version {version}\n")


@app.command()
def diff(
    versions: Annotated[
        list[int] | None, typer.Argument(metavar="[FROM [TO]]", help="versions, as `fs3 config history` shows them")
    ] = None,
    cluster: Cluster = None,
    as_json: AsJson = False,
) -> None:
    """Show what differs from the defaults; with FROM, what has changed since that version, up to TO."""
    found = _ask(cluster)
    if versions and len(versions) > 2:
        raise error(Code.INVALID, "diff takes two versions at most")
    before: dict[str, SettingValue] = {}
    after = found.values
    if versions:
        before = {**found.started_with, **_version_of(found, versions[0]).values}
    if versions and len(versions) == 2:
        after = {**found.started_with, **_version_of(found, versions[1]).values}
    rows = [(key, _at(before, key), _at(after, key)) for key in sorted(before.keys() | after.keys())]
    rows = [row for row in rows if row[1] != row[2]]
    if as_json:
        print_json({key: {"from": was, "to": now} for key, was, now in rows})
    else:
        print_table(("key", f"version {versions[0]}" if versions else "default", "now"), rows)


@app.command()
def history(cluster: Cluster = None, as_json: AsJson = False) -> None:
    """Show what was changed, when and by whom, the newest last."""
    found = _ask(cluster)
    documents = []
    before: dict[str, SettingValue] = {}
    for at, version in enumerate(found.versions):
        # What came before the oldest one that is kept is not known: it is shown whole.
        keys = [key for key in before.keys() | version.values.keys() if before.get(key) != version.values.get(key)]
        changed = {key: version.values.get(key) for key in sorted(keys)}
        documents.append(_document(version, changed, is_whole=at == 0 and version.version > 1))
        before = version.values
    if as_json:
        print_json(documents)
        return
    rows = [
        (
            str(each["version"]),
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each["made_ms"] / 1000)),
            each["author"],
            ", ".join(f"{key}={DEFAULT if value is None else describe(value)}" for key, value in sorted(each["changed"].items())),
        )
        for each in documents
    ]
    print_table(("version", "when", "by", "changed"), rows)


def _document(version: SettingsVersion, changed: dict[str, SettingValue | None], *, is_whole: bool) -> dict[str, Any]:
    return {
        "version": version.version,
        "made_ms": version.made_ms,
        "author": version.author,
        "changed": changed,
        "whole": is_whole,
    }


def _version_of(found: SettingsHistory, number: int) -> SettingsVersion:
    for version in found.versions:
        if version.version == number:
            return version
    kept = ", ".join(str(version.version) for version in found.versions) or "none"
    raise error(Code.NOT_FOUND, f"version {number} of the settings is not kept; kept are {kept}")


def _at(values: dict[str, SettingValue], key: str) -> str:
    setting = SETTINGS.get(key)
    value = values.get(key, setting.default if setting is not None else None)
    return "" if value is None else describe(value)


def _check_key(key: str) -> None:
    try:
        find_setting(key)
    except ValueError as wrong:
        raise error(Code.CONFIG, str(wrong)) from None
