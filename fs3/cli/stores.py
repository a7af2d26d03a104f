"""Where the rows of managers and metadata are: the one setting that chooses, and the store it opens."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from fs3.base.errors import FS3Error, error
from fs3.base.limits import lmdb_lock_lease_ns
from fs3.base.status import Code
from fs3.drivers.etcd.access import PARAMETERS, PLAIN, EtcdAccess
from fs3.ports.clock import Clock
from fs3.ports.kv import ScrubbedKV
from fs3.runtime.plain_files import read_plain_file
from fs3.wire.endpoints import parse_host_port

HELP = (
    "where the store is that all processes of a role share: DIRECTORY, lmdb:DIRECTORY, or etcd://host:port,host:port/NAME "
    "(?ca=FILE&cert=FILE&key=FILE for TLS, ?user=NAME&password_file=FILE)"
)
STORE_KEY = "kv"
"""Of a TOML file that says it."""
STORE_NAME_DEFAULT = "fs3"
"""Of a cluster's rows among those of an etcd cluster."""
OnGivenUp = Callable[[BaseException], None]
"""Called once, when a store will never accept anything again."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class StoreLocation:
    """Where a store is."""

    directory: Path | None
    """Of LMDB."""
    endpoints: tuple[str, ...] = ()
    """ "host:port" of members of an etcd cluster."""
    name: str = ""
    """Of the fs3 cluster there."""
    access: EtcdAccess = PLAIN

    @property
    def directories(self) -> list[Path]:
        """Those on this machine."""
        return [] if self.directory is None else [self.directory]

    @property
    def is_remote(self) -> bool:
        """Transactions of several processes run side by side, and meet only when they commit."""
        return self.directory is None

    def __str__(self) -> str:
        if self.directory is not None:
            return f"lmdb:{self.directory}"
        scheme = "etcds" if self.access.tls else "etcd"
        parameters = self.access.parameters()
        asked = "?" + urlencode(parameters, safe="/") if parameters else ""
        return f"{scheme}://{','.join(self.endpoints)}/{self.name}{asked}"


def parse_store(text: str, option: str = "--kv") -> StoreLocation:
    """What the setting says. FS3Error INVALID naming the option when it says nothing that can be."""
    scheme, mark, rest = text.partition("://")
    if mark and scheme in ("etcd", "etcds"):
        rest, _, asked = rest.partition("?")
        members, _, name = rest.partition("/")
        endpoints = tuple(part.strip() for part in members.split(",") if part.strip())
        name = name.strip("/") or STORE_NAME_DEFAULT
        if not endpoints:
            raise error(Code.INVALID, f"{option} {text!r}: etcd://host:port,host:port names no member")
        for endpoint in endpoints:
            try:
                parse_host_port(f"etcd://{endpoint}", "etcd")
            except FS3Error as why:
                raise error(Code.INVALID, f"{option} {text!r}: {why.strerror}") from why
        if not _NAME.fullmatch(name):
            raise error(Code.INVALID, f"{option} {text!r}: the name {name!r} is not 1 to 64 letters, digits, '.', '_' or '-'")
        try:
            return StoreLocation(None, endpoints, name, _parse_access(asked, tls=scheme == "etcds"))
        except FS3Error as why:
            raise error(Code.INVALID, f"{option} {text!r}: {why.strerror}") from why
    path = text.removeprefix("lmdb:")
    if mark or not path:
        raise error(Code.INVALID, f"{option} {text!r} is not DIRECTORY, lmdb:DIRECTORY or etcd://host:port,host:port/NAME")
    return StoreLocation(Path(path))


def store_in_config(path: Path | None) -> StoreLocation | None:
    """What the key `kv` of a TOML file says; None when there is none. Whatever else may be wrong with the file is said by what
    reads its other keys. FS3Error INVALID naming file and key."""
    try:
        found = tomllib.loads(read_plain_file(path).decode()).get(STORE_KEY) if path is not None else None
    except (OSError, ValueError):
        return None
    if found is not None and not isinstance(found, str):
        raise error(Code.INVALID, f"{path}: {STORE_KEY} = {found!r} is not a text")
    return parse_store(found, f"{path}: {STORE_KEY} =") if found is not None else None


def _parse_access(asked: str, *, tls: bool) -> EtcdAccess:
    """What the parameters of a URL say. FS3Error INVALID."""
    try:
        found = parse_qsl(asked, keep_blank_values=True, strict_parsing=bool(asked))
    except ValueError as why:
        raise error(Code.INVALID, f"what follows the '?' is not NAME=VALUE&NAME=VALUE: {why}") from why
    names = [name for name, _ in found]
    for name, value in found:
        if name not in PARAMETERS or names.count(name) > 1 or not value:
            told = f"{name}={value}: there are {', '.join(PARAMETERS)}, each once and with a value"
            raise error(Code.INVALID, told)
    return EtcdAccess(tls=tls, **dict(found))


def describe_store(location: StoreLocation, kv: ScrubbedKV) -> str:
    """Where the rows are and how that is, for `fs3 status`."""
    return f"{location}; {kv.description}" if kv.description else str(location)


async def open_store(
    location: StoreLocation,
    role: str,
    clock: Clock,
    *,
    on_given_up: OnGivenUp,
    lock_lease_ns: int = lmdb_lock_lease_ns,
) -> ScrubbedKV:
    """Open the store of a role. `on_given_up`, `lock_lease_ns`: see `LmdbKV.open`. FS3Error as the drivers say."""
    if location.directory is not None:
        from fs3.drivers.lmdb import LmdbKV

        return LmdbKV.open(location.directory, clock=clock, lock_lease_ns=lock_lease_ns, on_given_up=on_given_up)
    # Imported only here: what it brings along cannot be used after fork().
    from fs3.drivers.etcd.kv import EtcdKV

    return await EtcdKV.open(location.endpoints, f"{location.name}/{role}/", clock, access=location.access)
