"""The identity of a machine: DIR/machine.json, with the key by which its cluster knows it.

    {"format": 1, "name": "h1", "key": hex, "cluster": hex, "cluster_name": "fs3"}

The key is drawn once and never changes; `cluster` is empty until the machine has joined one. Who can read the file can act as the
machine, so only its owner can.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from fs3.base.errors import FS3Error, error
from fs3.base.limits import machine_key_bytes
from fs3.base.status import Code
from fs3.model.machine import MachineProof
from fs3.runtime.durable_files import write_durably

FORMAT = 1
_FILE = "machine.json"
_CLUSTER_BYTES = 16


class _MachineFile(msgspec.Struct):
    """What machine.json says."""

    format: int
    name: str
    key: str
    cluster: str = ""
    cluster_name: str = ""


class MachineIdentity:
    """Who a machine is, and which cluster it has joined."""

    def __init__(self, directory: Path, said: _MachineFile) -> None:
        """Use `load_identity` or `ensure_identity`."""
        self._directory = directory
        self._said = said

    @property
    def name(self) -> str:
        """Of the machine."""
        return self._said.name

    @property
    def proof(self) -> MachineProof:
        """What its requests show."""
        return MachineProof(self._said.name, bytes.fromhex(self._said.key))

    @property
    def cluster(self) -> bytes:
        """Id of the cluster it has joined; b"" when it has joined none."""
        return bytes.fromhex(self._said.cluster)

    @property
    def cluster_name(self) -> str:
        """Of that cluster, for people."""
        return self._said.cluster_name

    def join(self, cluster: bytes, name: str) -> None:
        """Remember the cluster, durably. OSError when it cannot be written."""
        self._said.cluster, self._said.cluster_name = cluster.hex(), name
        _write(self._directory, self._said)

    def require_cluster(self) -> bytes:
        """The cluster it has joined. FS3Error NOT_ADMITTED when it has joined none."""
        if not self.cluster:
            told = f"machine {self.name!r} has joined no cluster: run `fs3 cluster join`, or `fs3 cluster init` to make one"
            raise error(Code.NOT_ADMITTED, told, str(self._directory))
        return self.cluster


def load_identity(directory: Path) -> MachineIdentity:
    """The identity in a directory. FS3Error NOT_FOUND when there is none, CONFIG naming a file that is not whole."""
    file = directory / _FILE
    try:
        said = msgspec.json.decode(file.read_bytes(), type=_MachineFile)
        key, cluster = bytes.fromhex(said.key), bytes.fromhex(said.cluster)
    except FileNotFoundError:
        told = "this machine is not set up: run `fs3 cluster join`, or `fs3 cluster init` to make a cluster"
        raise error(Code.NOT_FOUND, told, str(file)) from None
    except OSError as why:
        raise error(Code.DISK, f"the identity of the machine cannot be read: {why.strerror}", str(file)) from why
    except (msgspec.DecodeError, ValueError) as wrong:
        raise error(Code.CONFIG, f"the identity of the machine is damaged: {wrong}", str(file)) from wrong
    if said.format != FORMAT:
        raise error(Code.CONFIG, f"format {said.format}, this version of fs3 reads {FORMAT}", str(file))
    if len(key) != machine_key_bytes or len(cluster) not in (0, _CLUSTER_BYTES):
        raise error(Code.CONFIG, "the identity of the machine is damaged: its key or cluster is cut short", str(file))
    return MachineIdentity(directory, said)


def ensure_identity(directory: Path, name: str) -> MachineIdentity:
    """The identity in a directory, drawn anew when there is none. FS3Error CONFIG when it is one of another name."""
    try:
        identity = load_identity(directory)
    except FS3Error as why:
        if why.code is not Code.NOT_FOUND:
            raise
        said = _MachineFile(FORMAT, name, os.urandom(machine_key_bytes).hex())
        _write(directory, said)
        return MachineIdentity(directory, said)
    if identity.name != name:
        told = f"the directory is of machine {identity.name!r}, not of {name!r}"
        raise error(Code.CONFIG, told, str(directory))
    return identity


def _write(directory: Path, said: _MachineFile) -> None:
    file = directory / _FILE
    try:
        directory.mkdir(parents=True, exist_ok=True)
        before = os.umask(0o077)
        try:
            write_durably(file, msgspec.json.encode(said))
        finally:
            os.umask(before)
    except OSError as why:
        raise error(Code.DISK, f"the identity of the machine cannot be written: {why.strerror}", str(file)) from why
