"""Who a command is: the user of the token in its environment; else, as the owner of a cluster's directory or of a machine that
has joined, the one whose key is there. Who can read that key can read the store of the managers, and so is their operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fs3.api.tls import choose_tls
from fs3.base.errors import FS3Error
from fs3.model.machine import MachineProof

if TYPE_CHECKING:
    from fs3.client.security.credentials import Credential, CredentialSource

_MANAGER = "mgmtd"


class _Operator:
    """What this command was told that is a way to be its operator."""

    directory: Path | None = None
    machine: MachineProof | None = None
    token: str = ""


def forget_operator() -> None:
    """A command begins."""
    _Operator.directory = _Operator.machine = None
    _Operator.token = ""


def use_directory(directory: Path) -> None:
    """The command is about the cluster in this directory."""
    _Operator.directory = directory


def use_machine(proof: MachineProof) -> None:
    """The command is about the cluster that this machine has joined."""
    _Operator.machine = proof


def use_token(token: str) -> None:
    """The command has made this token."""
    _Operator.token = token


def operator_credentials(addresses: Sequence[str] = ()) -> CredentialSource:
    """What the command logs in with, to the managers at "host:port"; where it has nothing else, with its TLS certificate."""
    from fs3.client.security.credentials import machine_credentials, node_credentials, or_certificate, token_credentials
    from fs3.runtime.node_key import load_node_key
    from fs3.runtime.token_sources import EnvironmentToken, find_token_source

    from_environment = token_credentials(EnvironmentToken())

    def read() -> Credential | None:
        found = from_environment()
        if found is None and _Operator.token:
            found = token_credentials(find_token_source(_Operator.token))()
        if found is None and _Operator.machine is not None:
            found = machine_credentials(_Operator.machine)()
        if found is None and _Operator.directory is not None:
            try:
                found = node_credentials(_MANAGER, load_node_key(_Operator.directory / _MANAGER))()
            except FS3Error:
                return None  # it is of a release that had none, or of another owner
        return found

    files = choose_tls(addresses)
    return or_certificate(read) if files is not None and files.cert else read
