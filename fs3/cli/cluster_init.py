"""Making a cluster of machines: its identity, settings and first token, written into the store before any manager runs."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass

from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.cli.machine_certificates import FirstCertificate
from fs3.cli.machine_directory import ensure_identity
from fs3.cli.node_config import MachineConfig
from fs3.cli.options import ServiceRole
from fs3.cli.stores import StoreLocation, open_store
from fs3.core.membership.machines import digest_of, format_token
from fs3.core.membership.settings import check_settings
from fs3.core.membership.state import FORMAT, ClusterRow
from fs3.model.machine import CertificateAuthority, JoinToken, Machine
from fs3.model.settings import SettingsVersion, SettingValue
from fs3.services.mgmtd.store import initialise

_CLUSTER_ID_BYTES = 16
_TOKEN_ID_BYTES = 4
_SECRET_BYTES = 16


@dataclass(frozen=True)
class DrawnToken:
    """A token that was drawn: what is stored of it, and its secret."""

    stored: JoinToken
    secret: str

    def text(self, cluster: bytes) -> str:
        """As a machine presents it."""
        return format_token(cluster, self.stored.id, self.secret)


def draw_token(uses_max: int, expires_ms: int = 0, made_ms: int = 0, addresses: tuple[str, ...] = ()) -> DrawnToken:
    """A token of random bytes."""
    secret = os.urandom(_SECRET_BYTES).hex()
    number = os.urandom(_TOKEN_ID_BYTES).hex()
    stored = JoinToken(number, digest_of(secret.encode()), uses_max, expires_ms, made_ms, addresses=addresses)
    return DrawnToken(stored, secret)


def make_cluster(
    config: MachineConfig,
    settings: dict[str, SettingValue],
    author: str,
    uses_max: int,
    lifetime_ms: int,
    first: FirstCertificate | None = None,
) -> tuple[bytes, str]:
    """Make the cluster that a machine's file names, and have this machine join it. Returns its id and the token for the others.
    `first`: with whose authority its managers issue certificates.

    FS3Error: INVALID when the machine is not to run a manager; CONFIG naming a setting that makes no sense; EXISTS naming the
    cluster that the store or the machine has already.
    """
    location = config.store_of(ServiceRole.mgmtd)
    if location is None or not any(process.role is ServiceRole.mgmtd for process in config.processes):
        told = f"{config.source}: a cluster is made on a machine that runs a manager: it needs [mgmtd] and kv"
        raise error(Code.INVALID, told)
    try:
        check_settings(settings)
    except ValueError as wrong:
        raise error(Code.CONFIG, str(wrong)) from None
    identity = ensure_identity(config.data_dir, config.machine)
    fresh = not identity.cluster
    cluster = identity.cluster or os.urandom(_CLUSTER_ID_BYTES)
    if fresh:
        # Before the store: a crash between the two is made good by running this again.
        identity.join(cluster, config.cluster)
    now_ms = time.time_ns() // MILLISECOND
    token = draw_token(uses_max, now_ms + lifetime_ms if lifetime_ms else 0, now_ms)
    rows = (
        ClusterRow(FORMAT, cluster, config.cluster, closed=True),
        Machine(config.machine, digest_of(identity.proof.key), now_ms, addresses=first.addresses if first is not None else ()),
        token.stored,
        SettingsVersion(1, now_ms, author, settings),
        first.authority if first is not None else None,
    )
    try:
        asyncio.run(_store(location, *rows))
    except FS3Error as why:
        if fresh:
            identity.join(b"", "")
        raise error(why.code, f"{location}: {why}") from why
    return cluster, token.text(cluster)


async def _store(
    location: StoreLocation,
    cluster: ClusterRow,
    machine: Machine,
    token: JoinToken,
    settings: SettingsVersion,
    authority: CertificateAuthority | None,
) -> None:
    from fs3.drivers.os.clock import OsClock

    kv = await open_store(location, ServiceRole.mgmtd, OsClock(), on_given_up=lambda why: None)
    try:
        await initialise(kv, cluster, machine, token, settings, authority)
    finally:
        await kv.close()
