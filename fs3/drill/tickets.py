"""Tickets for drills: good ones, by the token of a user; and the keys that tickets are sealed with, by the key of a node."""

from __future__ import annotations

from pathlib import Path

from fs3.base.secret import Secret
from fs3.client.connector import Connector
from fs3.client.mgmtd.client import MgmtdClient
from fs3.client.security.credentials import CredentialSource, node_credentials, token_credentials
from fs3.client.security.keys import ServiceKeys
from fs3.client.security.session import LoginSession
from fs3.core.security.state import SecurityState
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.os.clock import OsClock
from fs3.runtime.node_key import load_node_key
from fs3.runtime.token_sources import GivenToken


async def fetch_ticket(address: str, token: str) -> bytes:
    """A ticket of the user whose token it is, from the manager at "host:port". FS3Error: the login fails."""
    session = LoginSession(token_credentials(GivenToken(Secret(token))), OsClock())
    await _log_in(address, session)
    return session.ticket


async def fetch_keys(address: str, name: str, directory: Path) -> tuple[bytes, SecurityState]:
    """What the node with this data directory is given: its ticket, and the keys and the time of the cluster."""
    credentials: CredentialSource = node_credentials(name, load_node_key(directory))
    keys = ServiceKeys(credentials, OsClock())
    await _log_in(address, keys.session)
    return keys.session.ticket, keys.state


async def _log_in(address: str, session: LoginSession) -> None:
    clock = OsClock()
    connector = Connector([TcpTransport(clock)], host="")
    client = MgmtdClient(connector, [f"tcp://{address}"], clock, session=session)
    try:
        await client.log_in()
    finally:
        await client.close()
        await connector.close()
