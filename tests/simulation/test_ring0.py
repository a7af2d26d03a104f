"""Ring 0: the store on files loses power at every dangerous moment, and any part of what was not synced reaches the disk all the
same; so does any name. Planted bugs are found: the quick ones by looking, the others by a remembered seed."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

from fs3.base.prng import Prng
from fs3.sim.remembered import read_seeds
from fs3.sim.ring import find_catcher
from fs3.sim.ring0.bugs import BUGS
from fs3.sim.ring0.disk import PowerLossDisk
from fs3.sim.ring0.ring import DiskRing
from fs3.sim.ring0.run import run_seed

REMEMBERED = Path(__file__).parent / "seeds-ring0.txt"
QUICK_SEEDS = 3
"""Budgets up to this are looked for in every run of the tests."""


run_clean = cache(run_seed)


@pytest.mark.parametrize("seed", [1, 2])
def test_power_loss_finds_what_the_index_says(seed: int) -> None:
    outcome = run_clean(seed)
    assert outcome.failures == []
    assert outcome.figures["images"] > 60


@pytest.mark.parametrize("name", [name for name, bug in BUGS.items() if bug.seeds <= QUICK_SEEDS])
def test_seeds_find(name: str) -> None:
    assert find_catcher(DiskRing(), name), f"{BUGS[name].what}: not found in {BUGS[name].seeds} seeds"


@pytest.mark.parametrize(("seed", "bug", "cause"), read_seeds(REMEMBERED))
def test_remembered_seeds(seed: int, bug: str, cause: str) -> None:
    assert run_clean(seed).is_clean, cause
    assert not bug or not DiskRing().run(seed, bug).is_clean, f"seed {seed} no longer notices: {cause}"


def test_every_slow_bug_has_a_remembered_seed() -> None:
    assert {name for name, bug in BUGS.items() if bug.seeds > QUICK_SEEDS} <= {bug for _, bug, _ in read_seeds(REMEMBERED)}


def test_a_run_is_the_same_every_time() -> None:
    assert run_seed(1).fingerprint == run_clean(1).fingerprint != run_clean(2).fingerprint


# --- the disk ------------------------------------------------------------------------------------------------------------


class Unobserved:
    """Nobody looks."""

    def on_moment(self, name: str) -> None: ...

    def on_record(self) -> None: ...

    def on_record_refused(self) -> None: ...

    def on_durable(self) -> None: ...


class Device:
    """A watched disk, of which many images are made."""

    def __init__(self, home: Path) -> None:
        self.disk = PowerLossDisk(home, Prng(1), Unobserved())
        self.root = self.disk.root

    def write(self, name: str, data: bytes, *, sync: bool) -> None:
        """With the calls that are watched."""
        fd = os.open(self.root / name, os.O_RDWR | os.O_CREAT)
        os.pwrite(fd, data, 0)
        if sync:
            os.fdatasync(fd)
        os.close(fd)

    def sync_names(self) -> None:
        """Sync the directory."""
        fd = os.open(self.root, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)

    def list_images(self) -> set[tuple[tuple[str, bytes], ...]]:
        """What losses of power may leave: names and contents."""
        found = set()
        for _ in range(200):
            with self.disk.make_image() as image:
                found.add(tuple(sorted((path.name, path.read_bytes()) for path in image.iterdir())))
        return found


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_a_new_name_is_lost_until_its_directory_is_synced(device: Device) -> None:
    with device.disk.watch():
        device.sync_names()
        device.write("a", b"data", sync=True)
        assert device.list_images() == {(), (("a", b"data"),)}
        device.sync_names()
        assert device.list_images() == {(("a", b"data"),)}


def test_bytes_are_lost_by_sectors_until_their_file_is_synced(device: Device) -> None:
    old, new = b"o" * 1024, b"n" * 1024
    with device.disk.watch():
        device.write("a", old, sync=True)
        device.sync_names()
        device.write("a", new, sync=False)
        halves = {(("a", first + second),) for first in (old[:512], new[:512]) for second in (old[:512], new[:512])}
        assert device.list_images() == halves


def test_a_move_happens_or_does_not(device: Device) -> None:
    with device.disk.watch():
        device.write("a", b"1", sync=True)
        device.write("b", b"2", sync=True)
        device.sync_names()
        (device.root / "a").rename(device.root / "b")
        assert device.list_images() == {(("a", b"1"), ("b", b"2")), (("b", b"1"),)}
        device.sync_names()
        assert device.list_images() == {(("b", b"1"),)}


def test_a_removed_name_may_come_back_until_its_directory_is_synced(device: Device) -> None:
    with device.disk.watch():
        device.write("a", b"1", sync=True)
        device.sync_names()
        (device.root / "a").unlink()
        assert device.list_images() == {(), (("a", b"1"),)}
        device.sync_names()
        assert device.list_images() == {()}
