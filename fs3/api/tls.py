"""Whether a cluster is spoken to by TLS, and how: by arguments, what is known of its managers, or the environment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fs3.base.errors import error
from fs3.base.status import Code

if TYPE_CHECKING:
    from fs3.drivers.framed.tcp import TcpTransport
    from fs3.drivers.tls.credentials import TlsCredentials, TlsFiles
    from fs3.ports.clock import Clock
    from fs3.ports.security import TicketSource

CA, CERT, KEY = "FS3_TLS_CA", "FS3_TLS_CERT", "FS3_TLS_KEY"
OPTIONS = ("tls_ca", "tls_cert", "tls_key")
"""What the arguments are called."""

_of_managers: dict[str, TlsFiles] = {}
"""By "host:port"."""


def remember_tls(addresses: Sequence[str], files: TlsFiles) -> None:
    """The managers at these addresses speak TLS, as the directory of their cluster on this machine says."""
    for address in addresses:
        _of_managers[address] = files


def choose_tls(
    addresses: Sequence[str] = (), tls_ca: str | None = None, tls_cert: str | None = None, tls_key: str | None = None
) -> TlsFiles | None:
    """The files to speak TLS with to the managers at `addresses` and their nodes; None: without TLS.

    What is given counts, then what is remembered of the managers, then FS3_TLS_CA and its companions. FS3Error INVALID for half
    of what is needed.
    """
    from fs3.drivers.tls.credentials import TlsFiles

    if tls_ca or tls_cert or tls_key:
        for name, value in zip(OPTIONS, (tls_ca, tls_cert, tls_key), strict=True):
            if value is not None and not isinstance(value, str | os.PathLike):
                raise error(Code.INVALID, f"{name} is {value!r}, not the path of a file")
        return TlsFiles(*(os.fspath(value or "") for value in (tls_ca, tls_cert, tls_key)))
    for address in addresses:
        if address in _of_managers:
            return _of_managers[address]
    found = [os.environ.get(name, "") for name in (CA, CERT, KEY)]
    return TlsFiles(*found) if any(found) else None


def read_tls(files: TlsFiles | None, clock: Clock) -> TlsCredentials | None:
    """What the files say; None for none. FS3Error CONFIG naming one that cannot be used."""
    if files is None:
        return None
    from fs3.drivers.tls.credentials import TlsCredentials

    return TlsCredentials(files, clock)


def framed_wire(tls: TlsCredentials | None, clock: Clock, **options: Any) -> TcpTransport:
    """The framed wire between machines: by TLS where there are credentials. `options`: see `FramedTransport`."""
    if tls is None:
        from fs3.drivers.framed.tcp import TcpTransport

        return TcpTransport(clock, **options)
    from fs3.drivers.framed.tls import TlsTransport

    return TlsTransport(clock, tls, **options)


def manager_wire(
    addresses: Sequence[str], clock: Clock, tickets: TicketSource | None = None, *, believes_all: bool = False
) -> tuple[TcpTransport, list[str]]:
    """The wire on which managers at "host:port" are asked, and their endpoints on it. `tickets`: what it proves itself with.
    `believes_all`: by TLS with whatever answers, for what is proved otherwise."""
    if believes_all:
        from fs3.drivers.framed.tls import TlsTransport
        from fs3.drivers.tls.credentials import UnverifiedTls

        wire: TcpTransport = TlsTransport(clock, UnverifiedTls(), tickets=tickets)
    else:
        wire = framed_wire(read_tls(choose_tls(addresses), clock), clock, tickets=tickets)
    return wire, [f"{wire.scheme}://{address}" for address in addresses]
