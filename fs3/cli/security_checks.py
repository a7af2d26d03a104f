"""What is looked at on a machine of who may reach it, and of its certificates."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.cli.exposure import is_loopback
from fs3.cli.machine_checks import CheckOutcome, MachineCheck
from fs3.cli.node_config import MachineConfig

certificate_days_warn = 30
"""A certificate that ends sooner is to be renewed now."""


def check_exposure_of(config: MachineConfig) -> Iterator[MachineCheck]:
    """Who reaches its processes, and what they may do then."""
    address = config.listen_address()
    if is_loopback(address):
        yield MachineCheck("security", address, CheckOutcome.OK, "reached from this machine alone")
    elif config.is_insecure:
        told = "insecure = true: while the cluster has no security, whatever reaches it may read and change everything"
        yield MachineCheck("security", address, CheckOutcome.WARN, told, "fs3 security on, and the line goes")
    else:
        told = "reached from other machines: serves only in a cluster with security"
        yield MachineCheck("security", address, CheckOutcome.OK, told)
    if config.tls is None:
        if not is_loopback(address):
            told = "not encrypted: what is read and written can be read on the network"
            yield MachineCheck("tls", address, CheckOutcome.WARN, told, "a [tls] section: docs/security.md")
        return
    yield from check_certificates(config)


def check_certificates(config: MachineConfig) -> Iterator[MachineCheck]:
    """They can be used, and do not end soon."""
    from fs3.drivers.os.clock import OsClock
    from fs3.drivers.tls.credentials import TlsCredentials
    from fs3.drivers.tls.private_authority import describe

    assert config.tls is not None
    try:
        TlsCredentials(config.tls, OsClock())
    except FS3Error as why:
        yield MachineCheck("tls", why.filename or config.tls.cert, CheckOutcome.BAD, why.strerror or str(why))
        return
    for file in (config.tls.ca, config.tls.cert):
        try:
            (said, *_) = describe(Path(file))
        except FS3Error as why:
            if why.code is not Code.UNSUPPORTED:
                raise
            yield MachineCheck("tls", file, CheckOutcome.OK, "can be used; when it ends is not looked at without `cryptography`")
            continue
        left = datetime.datetime.fromisoformat(said["not_after"]) - datetime.datetime.now(datetime.UTC)
        outcome, remedy = CheckOutcome.OK, ""
        if left < datetime.timedelta(days=certificate_days_warn):
            outcome = CheckOutcome.BAD if left < datetime.timedelta() else CheckOutcome.WARN
            remedy = "fs3 certs renew, or as it was made; no restart is needed"
        yield MachineCheck("tls", file, outcome, f"{said['subject']}, until {said['not_after'][:10]}", remedy)
