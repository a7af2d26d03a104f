"""The data directories of a storage node: whose they are, and which targets they hold.

    <data dir>/node.json                  {"format": 1, "name": ..., "cluster": hex, "boots": n, "targets": [ids]}
    <data dir>/targets/<id>/target.json   {"format": 1, "cluster": hex, "target": id, "whole": bool, ...}
    <data dir>/targets/<id>/              the store of one target
    <data dir>/reserve                    room for these small files when the disk is full
    <data dir>/targets/<id>.damaged-<n>/  a store that could not be trusted any more, kept for people
    <data dir>/targets/<id>.retired/      a store that is being deleted, because its target is in no chain any more

One directory per disk. Every one of them knows all targets that were ever made on this node, so that one whose files are gone (a
replaced disk) is known to be lost and is never taken for one that is merely new: an empty store in its place is not *whole*, and
says so on the disk until the chain has filled it. A disk that cannot be used takes only its own targets with it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from fs3.base.errors import FS3Error, error
from fs3.base.ids import TargetId
from fs3.base.limits import generations_kept_max
from fs3.base.status import Code
from fs3.drivers.os.space_reserve import SpaceReserve
from fs3.model.cluster import DiskSpace
from fs3.model.generation import GENERATION_TOKEN_BYTES, Generation
from fs3.ports.disks import TargetNote
from fs3.runtime import durable_files
from fs3.runtime.durable_files import NO_ROOM, directory_identity, measure_space, sync_directory
from fs3.runtime.worker_threads import WorkerThreads

log = logging.getLogger("fs3.storage")

FORMAT = 1
_CLUSTER_BYTES = 16
_DAMAGED_MAX = 1000
_RETIRED = ".retired"
"""Of a directory that is being deleted."""
_RECENCY = "recency"
"""Beside target.json: in which order the pages of the target go."""


class _NodeFile(msgspec.Struct):
    """What node.json says."""

    format: int
    name: str
    cluster: str = ""
    boots: int = 0
    targets: list[int] = []


class _GenerationEntry(msgspec.Struct):
    """A `Generation`, as target.json has it."""

    number: int
    token: str


class _TargetFile(msgspec.Struct):
    """What target.json says."""

    format: int
    cluster: str
    target: int
    whole: bool = True
    scrub_after: str = ""
    scrub_passes: int = 0
    generations: list[_GenerationEntry] = []


class DataDirectories:
    """The disks of one node. Opened once per process; the caller sees to it that no other process has them."""

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        """Opens or initialises every directory for node `name`.

        Raises FS3Error CONFIG naming a directory of another node or of an unknown format, WRONG_CLUSTER when the directories
        belong to different clusters, DISK when none can be used. One of several that cannot be used is left out.
        """
        if not paths:
            raise error(Code.CONFIG, "a storage node needs at least one data directory")
        if len(set(paths)) != len(paths):
            raise error(Code.CONFIG, "the same data directory is given twice")
        self.name = name
        self._identities: dict[Path, _NodeFile] = {}
        self._homes: dict[TargetId, Path] = {}
        self._notes: dict[TargetId, TargetNote] = {}
        self._foreign: dict[TargetId, str] = {}
        self._failed_disks: dict[Path, str] = {}
        """Disks that do not work, and why."""
        self._drained: frozenset[str] = frozenset()
        """Disks on which no target is made."""
        self._reserves = {Path(path): SpaceReserve(Path(path)) for path in paths}
        for path in map(Path, paths):
            try:
                self._identities[path] = _load(path, name, self._reserves[path])
            except FS3Error as failure:
                if failure.code is not Code.DISK or len(paths) == 1:
                    raise
                self._leave_out(path, failure.strerror or str(failure))
        self._check_any()
        clusters = {identity.cluster for identity in self._identities.values() if identity.cluster}
        if len(clusters) > 1:
            where = ", ".join(f"{path}: {one.cluster or 'none'}" for path, one in self._identities.items())
            raise error(Code.WRONG_CLUSTER, f"the data directories belong to different clusters ({where})")
        self.cluster = bytes.fromhex(clusters.pop()) if clusters else b""
        for path in list(self._identities):
            self._find_targets(path)
        self._check_any()
        self.directory = directory_identity(next(iter(self._identities)))
        for path in self._identities:
            self._reserves[path].fill()
        self._thread = WorkerThreads(1, f"fs3-recency-{name}")
        """Of what nothing waits for; it ends with this object."""
        self._known_targets = {TargetId(target) for identity in self._identities.values() for target in identity.targets}

    def next_incarnation(self) -> int:
        """See `Disks.next_incarnation`. DISK when it cannot be written for another reason than that there is no room."""
        boots = max(identity.boots for identity in self._identities.values())
        if not boots:
            return 0
        self.store_incarnation(boots + 1)
        return boots + 1

    def store_incarnation(self, incarnation: int) -> None:
        """See `Disks.store_incarnation`. DISK when it cannot be written for another reason than that there is no room."""
        for identity in self._identities.values():
            identity.boots = incarnation
        try:
            self._save_all()
        except FS3Error as failure:
            if failure.code is not Code.NO_SPACE:
                raise
            log.warning("incarnation %d is not written down: %s", incarnation, failure)

    def join(self, cluster: bytes) -> None:
        """See `Disks.join`."""
        if self.cluster and self.cluster != cluster:
            raise error(
                Code.WRONG_CLUSTER,
                f"the data of node {self.name} belongs to cluster {self.cluster.hex()}, the manager is of {cluster.hex()}",
                str(next(iter(self._identities))),
            )
        self.cluster = cluster
        if any(identity.cluster != cluster.hex() for identity in self._identities.values()):
            for identity in self._identities.values():
                identity.cluster = cluster.hex()
            self._save_all()

    def targets(self) -> list[TargetId]:
        """See `Disks.targets`."""
        return sorted(self._homes)

    def lost_targets(self) -> dict[TargetId, str]:
        """See `Disks.lost`. While a disk does not work nobody knows what is on it: then nothing counts as lost."""
        if self._failed_disks:
            return {}
        where = ", ".join(map(str, self._identities))
        return {target: f"{where} has no data of target {target} any more" for target in self._missing()}

    def failed_targets(self) -> dict[TargetId, str]:
        """See `Disks.failed`."""
        found = dict(self._foreign)
        if self._failed_disks:
            why = "; ".join(f"{path}: {problem}" for path, problem in self._failed_disks.items())
            found.update(dict.fromkeys(self._missing(), why))
        return found

    def make(self, target: TargetId, *, whole: bool) -> None:
        """See `Disks.make`. On the disk that has the most room for each of its targets; see `leave_unused`."""
        if target in self._homes:
            raise error(Code.EXISTS, f"target {target} is here already", str(self._homes[target]))
        self._known_targets.add(target)
        # First remembered, then made: one that is lost between the two was empty, and is made again as not whole.
        for identity in self._identities.values():
            if target not in identity.targets:
                identity.targets.append(target)
        self._save_all()
        unused = {path for paths in self._by_device().values() if str(paths[0]) in self._drained for path in paths}
        usable = [path for path in self._identities if path not in unused] or self._identities
        path = max(usable, key=lambda path: _total_bytes(path) // (1 + self._count(path)))
        home = path / "targets" / str(target)
        note = TargetNote(whole=whole)
        fresh = path / "targets" / f".new-{target}"
        try:
            fresh.mkdir(exist_ok=True)
            self._write(fresh, target, note)
            fresh.rename(home)
            sync_directory(home.parent)
        except OSError as problem:
            raise error(Code.DISK, f"no place for target {target}: {problem.strerror}", str(home)) from problem
        self._homes[target] = home
        self._notes[target] = note
        self._foreign.pop(target, None)

    def ensure_target_dir(self, target: TargetId) -> Path:
        """The directory of a target; one that was never here is made, whole. DISK for one that is lost or cannot be used."""
        found = self._homes.get(target)
        if found is not None:
            return found
        problem = self.failed_targets().get(target) or self.lost_targets().get(target)
        if problem is not None:
            raise error(Code.DISK, problem, str(next(iter(self._identities))))
        self.make(target, whole=True)
        return self._homes[target]

    def read_note(self, target: TargetId) -> TargetNote:
        """See `Disks.note`."""
        return self._notes[target]

    def write_note(self, target: TargetId, note: TargetNote) -> None:
        """See `Disks.write_note`."""
        if note == self._notes[target]:
            return
        try:
            self._write(self._homes[target], target, note)
        except OSError as problem:
            code = Code.NO_SPACE if problem.errno in NO_ROOM else Code.DISK
            raise error(code, f"target.json cannot be written: {problem.strerror}", str(self._homes[target])) from problem
        self._notes[target] = note

    async def read_recency(self, target: TargetId) -> bytes:
        """See `Disks.read_recency`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read_recency, target)

    async def write_recency(self, target: TargetId, content: bytes) -> None:
        """See `Disks.write_recency`."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._write_recency, target, content)

    def _read_recency(self, target: TargetId) -> bytes:
        file = self._recency_file(target)
        try:
            return file.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as problem:
            raise error(Code.DISK, f"{_RECENCY} cannot be read: {problem.strerror}", str(file)) from problem

    def _write_recency(self, target: TargetId, content: bytes) -> None:
        file = self._recency_file(target)
        fresh = file.with_name(f".new-{_RECENCY}")
        try:
            fresh.write_bytes(content)
            fresh.rename(file)
        except OSError as problem:
            with suppress(OSError):
                fresh.unlink()  # half of it would take room that is missed
            code = Code.NO_SPACE if problem.errno in NO_ROOM else Code.DISK
            raise error(code, f"{_RECENCY} cannot be written: {problem.strerror}", str(file)) from problem

    def _recency_file(self, target: TargetId) -> Path:
        home = self._homes.get(target)
        if home is None:
            raise error(Code.DISK, f"target {target} has no directory here")
        return home / _RECENCY

    def quarantine(self, target: TargetId) -> str:
        """See `Disks.quarantine`."""
        home = self._homes[target]
        places = (home.with_name(f"{home.name}.damaged-{number}") for number in range(1, _DAMAGED_MAX))
        try:
            place = next(place for place in places if not place.exists())
            home.rename(place)
            sync_directory(home.parent)
        except StopIteration:
            raise error(Code.DISK, f"there are {_DAMAGED_MAX} damaged stores of target {target} here", str(home)) from None
        except OSError as problem:
            raise error(Code.DISK, f"the damaged store cannot be moved away: {problem.strerror}", str(home)) from problem
        del self._homes[target]
        del self._notes[target]
        return str(place)

    async def discard(self, target: TargetId) -> None:
        """See `Disks.discard`."""
        home = self._homes.get(target)
        self._known_targets.discard(target)
        for identity in self._identities.values():
            if target in identity.targets:
                identity.targets.remove(target)
        if home is not None:
            # Out of the way first, so that half of it is never opened; what a loss of power leaves is deleted at the next start.
            place = home.with_name(f"{home.name}{_RETIRED}")
            try:
                home.rename(place)
                sync_directory(home.parent)
            except OSError as problem:
                raise error(Code.DISK, f"it cannot be deleted: {problem.strerror}", str(home)) from problem
            del self._homes[target]
            del self._notes[target]
            await asyncio.get_running_loop().run_in_executor(self._thread, partial(shutil.rmtree, place, ignore_errors=True))
        self._save_all()

    def draw_token(self) -> bytes:
        """See `Disks.draw_token`."""
        return os.urandom(GENERATION_TOKEN_BYTES)

    def measure_space(self) -> list[DiskSpace]:
        """See `Disks.measure_space`."""
        on_device = {
            device: tuple(target for target in self.targets() if self._homes[target].parent.parent in paths)
            for device, paths in self._by_device().items()
        }
        return [
            msgspec.structs.replace(disk, targets=on_device.get(disk.device, ()), is_drained=disk.path in self._drained)
            for disk in measure_space(self._identities)
        ]

    def leave_unused(self, paths: Sequence[str]) -> bool:
        """See `Disks.leave_unused`."""
        before, self._drained = self._drained, frozenset(paths)
        return self._drained != before

    def _by_device(self) -> dict[int, list[Path]]:
        """The directories of each file system that answers, in their order: together they are one disk."""
        found: dict[int, list[Path]] = {}
        for path in self._identities:
            with suppress(OSError):
                found.setdefault(durable_files.device_of(path), []).append(path)
        return found

    # --- disks that do not work --------------------------------------------------------------------------------------

    def _leave_out(self, path: Path, why: str) -> None:
        log.error("data directory %s is left out: %s", path, why)
        self._failed_disks[path] = why
        self._identities.pop(path, None)
        self._homes = {target: home for target, home in self._homes.items() if home.parent.parent != path}

    def _check_any(self) -> None:
        if not self._identities:
            whys = "; ".join(f"{path}: {why}" for path, why in self._failed_disks.items())
            raise error(Code.DISK, f"no data directory can be used: {whys}")

    def _count(self, path: Path) -> int:
        return sum(home.parent.parent == path for home in self._homes.values())

    # --- files -------------------------------------------------------------------------------------------------------

    def _missing(self) -> list[TargetId]:
        return sorted(self._known_targets - set(self._homes) - set(self._foreign))

    def _save_all(self) -> None:
        """Write every node.json; a disk that does not take it is left out from now on. DISK when none does, NO_SPACE when one
        that is full does not: what it says may be older than what the others say."""
        full: FS3Error | None = None
        for path, identity in list(self._identities.items()):
            try:
                self._reserves[path].write_durably(path / "node.json", msgspec.json.encode(identity))
            except OSError as problem:
                why = f"node.json cannot be written: {problem.strerror}"
                if problem.errno in NO_ROOM:
                    full = error(Code.NO_SPACE, why, str(path / "node.json"))
                    continue
                if len(self._identities) == 1:
                    raise error(Code.DISK, why, str(path / "node.json")) from problem
                self._leave_out(path, why)
        if full is not None:
            raise full

    def _find_targets(self, path: Path) -> None:
        try:
            homes = sorted((path / "targets").iterdir())
        except OSError as problem:
            self._leave_out(path, f"it cannot be read: {problem.strerror}")
            return
        for home in homes:
            if home.name.endswith(_RETIRED):
                shutil.rmtree(home, ignore_errors=True)
            if not home.name.isdecimal():
                continue
            target = TargetId(int(home.name))
            if target in self._homes:
                raise error(Code.CONFIG, f"target {target} is in {self._homes[target]} and in {home}", str(home))
            try:
                self._notes[target] = self._read_note(home, target)
                self._homes[target] = home
            except FS3Error as problem:
                log.error("target %d cannot be used: %s", target, problem)
                self._foreign[target] = str(problem)

    def _read_note(self, home: Path, target: TargetId) -> TargetNote:
        """What target.json says. It is made before the store, so without one it is not known how far the store is: not whole."""
        file = home / "target.json"
        try:
            said = msgspec.json.decode(file.read_bytes(), type=_TargetFile)
            after = bytes.fromhex(said.scrub_after)
            generations = tuple(Generation(each.number, bytes.fromhex(each.token)) for each in said.generations)
        except FileNotFoundError:
            log.warning("%s is missing: target %d counts as one that is not complete", file, target)
            return TargetNote(whole=False)
        except OSError as problem:
            raise error(Code.DISK, f"target.json cannot be read: {problem.strerror}", str(file)) from problem
        except (msgspec.DecodeError, ValueError) as wrong:
            log.warning("%s is damaged (%s): target %d counts as one that is not complete", file, wrong, target)
            return TargetNote(whole=False)
        if said.format != FORMAT:
            raise error(Code.CONFIG, f"target.json has format {said.format}, this version of fs3 reads {FORMAT}", str(file))
        if said.target != target:
            raise error(Code.CONFIG, f"the directory belongs to target {said.target}, not to {target}", str(file))
        if said.cluster and self.cluster and said.cluster != self.cluster.hex():
            raise error(
                Code.CONFIG, f"the directory belongs to cluster {said.cluster}, the node to {self.cluster.hex()}", str(file)
            )
        return TargetNote(said.whole, after, said.scrub_passes, generations[-generations_kept_max:])

    def _write(self, home: Path, target: TargetId, note: TargetNote) -> None:
        cluster = self.cluster.hex()
        written = [_GenerationEntry(each.number, each.token.hex()) for each in note.generations]
        said = _TargetFile(FORMAT, cluster, target, note.whole, note.scrub_after.hex(), note.scrub_passes, written)
        self._reserves[home.parent.parent].write_durably(home / "target.json", msgspec.json.encode(said))


def _load(path: Path, name: str, reserve: SpaceReserve) -> _NodeFile:
    file = path / "node.json"
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / "targets").mkdir(exist_ok=True)
        text = file.read_bytes()
    except FileNotFoundError:
        return _initialise(path, name, reserve)
    except OSError as problem:
        raise error(Code.DISK, f"the data directory cannot be used: {problem.strerror}", str(path)) from problem
    try:
        identity = msgspec.json.decode(text, type=_NodeFile)
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


def _initialise(path: Path, name: str, reserve: SpaceReserve) -> _NodeFile:
    identity = _NodeFile(FORMAT, name)
    try:
        orphans = [home.name for home in (path / "targets").iterdir() if home.name.isdecimal()]
        if not orphans:
            reserve.write_durably(path / "node.json", msgspec.json.encode(identity))
    except OSError as problem:
        raise error(Code.DISK, f"the data directory cannot be used: {problem.strerror}", str(path)) from problem
    if orphans:
        raise error(Code.CONFIG, "there are targets, but node.json, which says whose they are, is missing", str(path))
    return identity


def _total_bytes(path: Path) -> int:
    try:
        usage = os.statvfs(path)
    except OSError:
        return 0
    return usage.f_blocks * usage.f_frsize
