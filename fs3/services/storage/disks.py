"""The data directories of a storage node: whose they are, and which targets they hold.

    <data dir>/node.json        {"format": 1, "name": ..., "cluster": hex, "boots": n, "targets": [ids made here]}
    <data dir>/targets/<id>/    one target

One directory per disk. `boots` counts in the first directory only. Targets are remembered when they are made, so that one whose
files are gone (a replaced disk) is known to be lost, and is never taken for one that is merely new.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from fs3.base.errors import error
from fs3.base.ids import TargetId
from fs3.base.status import Code

FORMAT = 1
_CLUSTER_BYTES = 16


class Disks(Protocol):
    """What a storage service needs to know of its disks; `DataDirectories` is the one of production."""

    name: str
    """Of the node."""
    cluster: bytes
    """Id of the cluster the data belongs to; b"" before the node has joined one."""

    def count_boot(self) -> int:
        """Count one more start, durably; the node's incarnation."""
        ...

    def join(self, cluster: bytes) -> None:
        """Remember the cluster. WRONG_CLUSTER when the data belongs to another one."""
        ...

    def targets(self) -> list[TargetId]:
        """Targets whose data is here."""
        ...

    def lost(self) -> dict[TargetId, str]:
        """Targets that were made here and whose data is gone, with what to tell people."""
        ...


class _Identity(msgspec.Struct):
    """What node.json says."""

    format: int
    name: str
    cluster: str = ""
    boots: int = 0
    targets: list[int] = []


class DataDirectories:
    """The disks of one node. Opened once per process; the caller sees to it that no other process has them."""

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        """Opens or initialises every directory for node `name`.

        Raises FS3Error CONFIG naming a directory of another node or of an unknown format, WRONG_CLUSTER when the directories
        belong to different clusters, DISK when one cannot be written.
        """
        if not paths:
            raise error(Code.CONFIG, "a storage node needs at least one data directory")
        if len(set(paths)) != len(paths):
            raise error(Code.CONFIG, "the same data directory is given twice")
        self.name = name
        self._paths = [Path(path) for path in paths]
        self._identities = [_load(path, name) for path in self._paths]
        clusters = {identity.cluster for identity in self._identities if identity.cluster}
        if len(clusters) > 1:
            where = ", ".join(f"{path}: {one.cluster or 'none'}" for path, one in zip(self._paths, self._identities, strict=True))
            raise error(Code.WRONG_CLUSTER, f"the data directories belong to different clusters ({where})")
        self.cluster = bytes.fromhex(clusters.pop()) if clusters else b""
        self._homes: dict[TargetId, Path] = {}
        self._lost: dict[TargetId, Path] = {}
        for path in self._paths:
            self._find_targets(path)
        for path, identity in zip(self._paths, self._identities, strict=True):
            self._lost.update({TargetId(target): path for target in identity.targets if target not in self._homes})

    def count_boot(self) -> int:
        """See `Disks.count_boot`. DISK when it cannot be written."""
        identity = self._identities[0]
        identity.boots += 1
        _save(self._paths[0], identity)
        return identity.boots

    def join(self, cluster: bytes) -> None:
        """See `Disks.join`."""
        if self.cluster == cluster:
            return
        if self.cluster:
            raise error(
                Code.WRONG_CLUSTER,
                f"the data of node {self.name} belongs to cluster {self.cluster.hex()}, the manager is of {cluster.hex()}",
                str(self._paths[0]),
            )
        for path, identity in zip(self._paths, self._identities, strict=True):
            identity.cluster = cluster.hex()
            _save(path, identity)
        self.cluster = cluster

    def targets(self) -> list[TargetId]:
        """See `Disks.targets`."""
        return sorted(self._homes)

    def lost(self) -> dict[TargetId, str]:
        """See `Disks.lost`."""
        return {target: f"{path} has no data of target {target} any more" for target, path in self._lost.items()}

    def home(self, target: TargetId) -> Path:
        """The directory of a target; a new one is given a place on the disk with the most room.

        DISK for one that was made here and is lost.
        """
        found = self._homes.get(target)
        if found is not None:
            return found
        if target in self._lost:
            raise error(Code.DISK, self.lost()[target], str(self._lost[target]))
        place = max(range(len(self._paths)), key=lambda index: (_free_bytes(self._paths[index]), -index))
        path = self._paths[place]
        found = self._homes[target] = path / "targets" / str(target)
        found.mkdir(parents=True, exist_ok=True)
        # Remembered by its own disk and by the first one, which is asked when this one has been replaced.
        for where in sorted({0, place}):
            self._identities[where].targets.append(target)
            _save(self._paths[where], self._identities[where])
        return found

    def _find_targets(self, path: Path) -> None:
        for home in (path / "targets").iterdir():
            if not home.name.isdecimal():
                continue
            target = TargetId(int(home.name))
            if target in self._homes:
                raise error(Code.CONFIG, f"target {target} is in {self._homes[target]} and in {home}", str(home))
            self._homes[target] = home


def _load(path: Path, name: str) -> _Identity:
    file = path / "node.json"
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / "targets").mkdir(exist_ok=True)
        text = file.read_bytes()
    except FileNotFoundError:
        identity = _Identity(FORMAT, name)
        _save(path, identity)
        return identity
    except OSError as problem:
        raise error(Code.DISK, f"the data directory cannot be used: {problem.strerror}", str(path)) from problem
    try:
        identity = msgspec.json.decode(text, type=_Identity)
        cluster = bytes.fromhex(identity.cluster)
    except (msgspec.DecodeError, ValueError) as wrong:
        raise error(Code.CONFIG, f"node.json is damaged: {wrong}", str(file)) from wrong
    if identity.format != FORMAT:
        raise error(Code.CONFIG, f"node.json has format {identity.format}, this version of fs3 reads {FORMAT}", str(file))
    if identity.name != name:
        raise error(Code.CONFIG, f"the data directory belongs to node {identity.name!r}, not to {name!r}", str(path))
    if cluster and len(cluster) != _CLUSTER_BYTES:
        raise error(Code.CONFIG, f"node.json has a cluster id of {len(cluster)} bytes", str(file))
    return identity


def _save(path: Path, identity: _Identity) -> None:
    """Replace node.json, durably."""
    file = path / "node.json"
    temporary = path / "node.json.new"
    try:
        with temporary.open("wb") as out:
            out.write(msgspec.json.encode(identity))
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)
        directory = os.open(path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as problem:
        raise error(Code.DISK, f"node.json cannot be written: {problem.strerror}", str(file)) from problem


def _free_bytes(path: Path) -> int:
    try:
        usage = os.statvfs(path)
    except OSError:
        return 0
    return usage.f_bavail * usage.f_frsize
