"""`fs3 mount` and `fs3 umount`, and the helper that mount(8) calls for lines of fstab.

`fs3 mount` returns once the mount answers. Two processes in the background are left: a small one that holds the mount
(`mount_holder`), and the one that answers the kernel (`mount_server`), which the other replaces should it die. What goes wrong
before that is said by the command itself; what happens later goes to the file of `--log`.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Annotated

import typer

from fs3.api.url import SCHEME, cluster_addresses, split_url
from fs3.base.errors import error
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.cli.mount_holder import MOUNTED
from fs3.cli.mount_plan import MountPlan
from fs3.drivers.fuse.mount import check_directory, is_dead, unmount
from fs3.runtime.token_sources import FileToken

cache_seconds_max = 3600.0


def mount(
    url: Annotated[str, typer.Argument(help="fs3://host:port[,host:port][/directory]")],
    directory: Annotated[str, typer.Argument(metavar="DIR", help="an existing directory")],
    direct_io: Annotated[bool, typer.Option("--direct-io", help="reads and writes go past the kernel's memory")] = False,
    cache: Annotated[
        float, typer.Option(metavar="SECONDS", help="answer names and attributes, also of files, from memory for so long")
    ] = 0.0,
    allow_other: Annotated[bool, typer.Option("--allow-other", help="other users may use it")] = False,
    read_only: Annotated[bool, typer.Option("--read-only", help="nothing is changed through it")] = False,
    noatime: Annotated[bool, typer.Option("--noatime", help="reads leave access times as they are")] = False,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="the token of the user whose rights it has; else FS3_TOKEN")
    ] = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="serve until it is unmounted, or SIGTERM or Ctrl-C")] = False,
    log_file: Annotated[Path | None, typer.Option("--log", help="where the processes in the background log")] = None,
) -> None:
    """Mount a cluster on a directory, for any program."""
    if not 0 <= cache <= cache_seconds_max:
        raise error(Code.INVALID, f"--cache is {cache:g}, not 0 to {cache_seconds_max:g} seconds")
    source, path = _source(url)
    # Whatever can be said before anything is started.
    place = check_directory(directory)
    token_place = ""
    if token_file is not None:
        token_place = str(token_file.absolute())
        FileToken(token_file).read()
    plan = MountPlan(url, source, place, path, direct_io, int(cache * SECOND), allow_other, read_only, noatime, token_place)
    if foreground:
        command = _holder_command(plan, -1)
        os.execv(command[0], command)
    _start_in_background(plan, log_file)


def umount(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="where it is mounted")],
    lazy: Annotated[bool, typer.Option("--lazy", help="also while it is in use: it goes when its last user does")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="also while its process does not answer: calls that wait for it fail")
    ] = False,
) -> None:
    """Unmount. A mount whose process has died goes in any case."""
    try:
        unmount(directory, lazily=lazy, forcibly=force)
    except OSError as wrong:
        if wrong.errno != errno.EBUSY or lazy or force or not _is_dead(directory):
            raise
        unmount(directory, lazily=True)


def _source(url: str) -> tuple[str, str]:
    """(what the table of mounts shows, the path of the directory in it, "" for the root)."""
    _, path = split_url(url)
    path = "/".join(part for part in path.split("/") if part)
    return f"{SCHEME}://{','.join(cluster_addresses(url))}" + (f"/{path}" if path else ""), path


def _is_dead(directory: str) -> bool:
    """The mount is there, and the process that served it is not."""
    try:
        os.statvfs(directory)  # which is never answered from memory
    except OSError as wrong:
        return is_dead(wrong)
    return False


# --- the processes of a mount ------------------------------------------------------------------------------------------


def _start_in_background(plan: MountPlan, log_file: Path | None) -> None:
    """Raises what the processes in the background could not do."""
    ours, theirs = os.pipe()
    with os.fdopen(ours, "rb") as pipe:
        with open_log(log_file or Path(os.devnull)) as output:
            holder = subprocess.Popen(
                _holder_command(plan, theirs),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=output,
                pass_fds=(theirs,),
                start_new_session=True,
            )
        os.close(theirs)
        said = pipe.read()
    if said != MOUNTED:
        holder.wait()
        why = said.decode(errors="replace") or "the process that was to hold it has died"
        raise ChildProcessError(f"{plan.directory} is not mounted: {why}")


def open_log(path: Path) -> IO[bytes]:
    """To append to. OSError for one that cannot be written, and for a FIFO that has no reader, which would be waited for."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "ab")


def _holder_command(plan: MountPlan, ready: int) -> list[str]:
    return [sys.executable, "-m", "fs3.cli.mount_holder", plan.directory, plan.to_word(), str(ready)]


# --- mount(8) ----------------------------------------------------------------------------------------------------------

_FLAGS = {"ro": "--read-only", "allow_other": "--allow-other", "direct_io": "--direct-io", "noatime": "--noatime"}
_IGNORED = {
    "rw", "auto", "noauto", "user", "nouser", "users", "_netdev", "nofail", "defaults", "dev", "nodev", "suid", "nosuid", "exec",
    "relatime", "noexec",
}  # fmt: skip
"""Options of any file system that say nothing here, or what is so anyway."""


def helper_arguments(arguments: list[str]) -> list[str]:
    """What `mount.fs3 SPEC DIR [-sfnv] [-o options]`, as mount(8) calls it, is as arguments of `fs3 mount`. InvalidArgument for
    an option that is not known."""
    places: list[str] = []
    options: list[str] = []
    given = iter(arguments)
    for argument in given:
        if argument == "-o":
            options += next(given, "").split(",")
        elif argument in ("-t", "-N"):
            next(given, None)
        elif not argument.startswith("-"):
            places.append(argument)
    if len(places) != 2:
        raise error(Code.INVALID, "mount.fs3 takes what to mount and where: mount.fs3 fs3://host:port DIR [-o options]")
    result = ["mount", *places]
    for option in options:
        name, _, value = option.partition("=")
        if name in _FLAGS and not value:
            result.append(_FLAGS[name])
        elif name in ("cache", "log", "token_file") and value:
            result += [f"--{name.replace('_', '-')}", value]
        elif name and name not in _IGNORED and not name.startswith(("x-", "comment")):
            known = ", ".join([*_FLAGS, "cache=SECONDS", "log=FILE", "token_file=FILE"])
            raise error(Code.INVALID, f"option {option!r} is not known; there are {known}")
    return result
