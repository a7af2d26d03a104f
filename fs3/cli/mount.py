"""`fs3 mount` and `fs3 umount`, and the helper that mount(8) calls for lines of fstab.

`fs3 mount` returns once the mount answers; a process in the background serves it. What goes wrong before that is said by the
command itself; what happens later goes to the file of `--log`.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from fs3.api.fuse.options import FuseOptions
from fs3.api.url import SCHEME, cluster_addresses, split_url
from fs3.base.errors import error
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.cli.output import describe
from fs3.cli.serve import loop_factory
from fs3.drivers.fuse.mount import check_directory, is_dead, unmount

cache_seconds_max = 3600.0

_READY = b"+"
"""What the process in the background says once the mount answers; anything else is why it does not."""

log = logging.getLogger("fs3.mount")


def mount(
    url: Annotated[str, typer.Argument(help="fs3://host:port[,host:port]")],
    directory: Annotated[str, typer.Argument(metavar="DIR", help="an existing directory")],
    direct_io: Annotated[bool, typer.Option("--direct-io", help="reads and writes go past the kernel's memory")] = False,
    cache: Annotated[
        float, typer.Option(metavar="SECONDS", help="answer names and attributes, also of files, from memory for so long")
    ] = 0.0,
    allow_other: Annotated[bool, typer.Option("--allow-other", help="other users may use it")] = False,
    read_only: Annotated[bool, typer.Option("--read-only", help="nothing is changed through it")] = False,
    noatime: Annotated[bool, typer.Option("--noatime", help="reads leave access times as they are")] = False,
    foreground: Annotated[bool, typer.Option("--foreground", help="serve until it is unmounted, or SIGTERM or Ctrl-C")] = False,
    log_file: Annotated[Path | None, typer.Option("--log", help="where the process in the background logs")] = None,
) -> None:
    """Mount a cluster on a directory, for any program."""
    if not 0 <= cache <= cache_seconds_max:
        raise error(Code.INVALID, f"--cache is {cache:g}, not 0 to {cache_seconds_max:g} seconds")
    options = FuseOptions(direct_io, int(cache * SECOND), allow_other, read_only, noatime)
    source = _source(url)
    # Whatever can be said before anything is started.
    path = check_directory(directory)
    if foreground:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
        _serve(url, path, options, source, None)
        return
    _start_in_background(url, path, options, source, log_file)


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


def _source(url: str) -> str:
    """The URL of the cluster, as the table of mounts shows it. InvalidArgument for a path below the root."""
    _, path = split_url(url)
    if path.strip("/"):
        raise error(Code.INVALID, f"{url!r} names {path!r}; a mount is of a whole cluster")
    return f"{SCHEME}://{','.join(cluster_addresses(url))}"


def _is_dead(directory: str) -> bool:
    """The mount is there, and the process that served it is not."""
    try:
        os.statvfs(directory)  # which is never answered from memory
    except OSError as wrong:
        return is_dead(wrong)
    return False


# --- the process that serves ------------------------------------------------------------------------------------------


def _start_in_background(url: str, path: str, options: FuseOptions, source: str, log_file: Path | None) -> None:
    """Raises what the process in the background could not do."""
    log_fd = None
    if log_file is not None:
        log_fd = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    ours, theirs = os.pipe()
    child = os.fork()  # nothing but this thread runs yet
    if child == 0:
        os.close(ours)
        status = 1
        try:
            _detach(log_fd)
            _serve(url, path, options, source, theirs)
            status = 0
        except BaseException as wrong:
            log.error("%s", wrong)
            with suppress(OSError):  # it was told already
                os.write(theirs, describe(wrong).encode())
        finally:
            os._exit(status)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        said = pipe.read()
    if said != _READY:
        os.waitpid(child, 0)
        why = said.decode(errors="replace") or "the process that was to serve it has died"
        raise ChildProcessError(f"{path} is not mounted: {why}")


def _detach(log_fd: int | None) -> None:
    os.setsid()
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.dup2(nothing if log_fd is None else log_fd, 2)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")


def _serve(url: str, path: str, options: FuseOptions, source: str, ready: int | None) -> None:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_run(url, path, options, source, ready))


async def _run(url: str, path: str, options: FuseOptions, source: str, ready: int | None) -> None:
    from fs3.api.connect import connect
    from fs3.api.fuse.mount import Mount

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with await connect(url, relatime=options.has_access_times) as client:
        served = await Mount.begin(client, path, options, source)
        log.info("%s is mounted on %s", source, path)
        gc.freeze()  # what is there by now stays; it need not be looked at again and again
        if ready is not None:
            os.write(ready, _READY)
            os.close(ready)
        ended = asyncio.ensure_future(served.wait_ended())
        stopped = asyncio.ensure_future(stopping.wait())
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        log.info("%s is being unmounted", path)
        await served.close()
    log.info("%s is unmounted", path)


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
        elif name in ("cache", "log") and value:
            result += [f"--{name}", value]
        elif name and name not in _IGNORED and not name.startswith(("x-", "comment")):
            known = ", ".join([*_FLAGS, "cache=SECONDS", "log=FILE"])
            raise error(Code.INVALID, f"option {option!r} is not known; there are {known}")
    return result
