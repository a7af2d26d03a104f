"""Directed runs of programs on mounts of several machines, over a kernel that remembers what Linux's would. Each says what went
wrong, "" when nothing did."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any

from fs3.api.client import Client
from fs3.api.fuse.recent_lookups import RecentLookups
from fs3.base.errors import error
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.sim.ring2.kernel import SimKernel
from fs3.sim.ring2.scene_cluster import POLLS_MAX, SceneCluster
from fs3.sim.ring2.workloads.mounts import (
    RECORD_BYTES,
    AppendProgram,
    FileSlot,
    SharedLog,
    SharedSlots,
    SlotProgram,
    TurnFile,
    TurnProgram,
)

MOUNTS = ("client-1", "client-2")
PROGRAMS = 4
"""Of each kind, half of them on each mount."""
THINK_NS = 15 * MILLISECOND
PAST = 1_000_000_000_000_000_000


async def mount_on(stage: SceneCluster, client: str, seed: int) -> SimKernel:
    """A mount of a client."""

    async def begin(client: Client) -> SimKernel:
        return SimKernel(client, Prng(seed))

    return await stage.call(client, begin)


async def _mounts(stage: SceneCluster, seed: int) -> list[SimKernel]:
    return [await mount_on(stage, name, seed + number) for number, name in enumerate(MOUNTS)]


async def _run(stage: SceneCluster, programs: Iterable[Any], rounds: int, victims: Iterable[str]) -> str:
    """Programs in turn on one mount and the other, while services are killed. The first problem, if they did anything at all."""
    programs = list(programs)
    works = [
        stage.start(MOUNTS[number % 2], lambda _, program=program: program.run(rounds, THINK_NS))  # type: ignore[misc]
        for number, program in enumerate(programs)
    ]
    for victim in victims:
        await asyncio.sleep(0.4)
        stage.cluster.hosts[victim].kill()
        stage.cluster.hosts[victim].start()
    await asyncio.wait(works)
    for work in works:
        work.result()
    done = sum(program.rounds for program in programs)
    return "" if done > len(programs) * rounds // 2 else f"{done} rounds end well: hardly any"


def _slots(name: str, sizes: Iterable[tuple[int, int]]) -> SharedSlots:
    """Slots at (offset, size), in turn of a program of one mount and the other."""
    return SharedSlots(name, [FileSlot(number % PROGRAMS % 2, offset, size) for number, (offset, size) in enumerate(sizes)])


def _slot_programs(mounts: list[SimKernel], shared: SharedSlots, seed: int, tell: Callable[[str], None]) -> list[SlotProgram]:
    return [
        SlotProgram(number % 2, mounts[number % 2], Prng(seed + number), shared, shared.slots[number::PROGRAMS], tell)
        for number in range(PROGRAMS)
    ]


async def programs_write_one_file(stage: SceneCluster) -> str:
    """Programs of two mounts write their own places of one file, which grows soon or is large, and read those of all."""
    problems: list[str] = []
    mounts = await _mounts(stage, 1)
    grows = _slots("grows", [(number * number * 900, 700) for number in range(8)])
    large = _slots("large", [(number * 9_000, 6_000) for number in range(12)])
    programs: list[SlotProgram] = []
    for seed, shared in enumerate((grows, large)):
        programs += _slot_programs(mounts, shared, 10 * seed, problems.append)
    hardly = await _run(stage, programs, 40, ("meta-1", stage.initial_order[0], "meta-1", stage.initial_order[1]))
    return problems[0] if problems else hardly


async def programs_write_small_files(stage: SceneCluster) -> str:
    """The same with files that begin small, which they are as long as no two write them at once."""
    problems: list[str] = []
    mounts = await _mounts(stage, 7)
    programs: list[SlotProgram] = []
    for number in range(12):
        shared = _slots(f"small-{number}", [(place * 900, 700) for place in range(8)])
        programs += _slot_programs(mounts, shared, 10 * number, problems.append)
    hardly = await _run(stage, programs, 8, ("meta-1", stage.initial_order[0]))
    return problems[0] if problems else hardly


async def programs_open_at_once(stage: SceneCluster) -> str:
    """Several programs of one machine open a file, which one of another machine has just changed, at the same moment."""
    one, two = await _mounts(stage, 8)
    versions = range(1, 60)

    async def write(_: Client, version: int) -> None:
        file = await one.open("opened", os.O_RDWR | os.O_CREAT)
        await one.write(file, bytes([version]) * 10_000)
        await one.close(file)

    async def read(_: Client) -> set[int]:
        file = await two.open("opened")
        found = await two.read(file, 0, 10_000)
        await two.close(file)
        return set(found)

    for version in versions:
        await stage.call(MOUNTS[0], lambda client, version=version: write(client, version))  # type: ignore[misc]
        for reading in [stage.start(MOUNTS[1], read) for _ in range(4)]:
            if (found := await reading) != {version}:
                return f"a program that opens version {version} of a file reads {sorted(found)}"
    return ""


async def programs_append_on_mounts(stage: SceneCluster) -> str:
    """Programs of two mounts append records to one file, and read it."""
    problems: list[str] = []
    mounts = await _mounts(stage, 2)
    log = SharedLog("log")
    programs = [AppendProgram(number, mounts[number % 2], Prng(number), log, problems.append) for number in range(PROGRAMS)]
    hardly = await _run(stage, programs, 40, ("meta-1", stage.initial_order[0]))
    return problems[0] if problems else hardly


async def _turns(stage: SceneCluster, seed: int, *, is_locked: bool) -> str:
    problems: list[str] = []
    mounts = await _mounts(stage, seed)
    programs = []
    for number, limit in enumerate((12_000, 40_000, 300_000, 25_000, 25_000, 25_000)):
        file = TurnFile(f"turns-{number}", limit, is_locked=is_locked)
        for program in range(PROGRAMS):
            mount, prng = program % 2, Prng(100 * number + program + seed)
            programs.append(TurnProgram(mount, mounts[mount], prng, file, 1 + program // 2, problems.append))
    hardly = await _run(stage, programs, 12, ("meta-1", stage.initial_order[1]))
    return problems[0] if problems else hardly


async def programs_take_turns_by_opening(stage: SceneCluster) -> str:
    """One at a time opens a file, finds what the one before has closed, changes it in all ways, and closes it."""
    return await _turns(stage, 3, is_locked=False)


async def programs_take_turns_by_locking(stage: SceneCluster) -> str:
    """The same with a lock: the file stays open on both mounts, and is read there at any time."""
    return await _turns(stage, 4, is_locked=True)


async def a_flush_that_fails(stage: SceneCluster) -> str:
    """Storage has no room for a while: every sync and close of every handle says so, and nothing that was written is given up
    while a handle is open."""
    one, two = await _mounts(stage, 5)
    written = Prng(5).bytes(300_000)

    async def fail_and_go_on(client: Client) -> str:
        first, second = await one.open("full", os.O_RDWR | os.O_CREAT), await one.open("full", os.O_RDWR)
        await one.write(first, b"-" * len(written))
        await one.fsync(first)
        store = client.pwrite

        async def refuse(*_: Any) -> int:
            raise error(Code.NO_SPACE, "no room")

        client.pwrite = refuse  # type: ignore[method-assign,assignment]
        with suppress(OSError):  # it may be told so soon
            await one.write(first, written)
        for what, ending in (("a sync", one.fsync), ("another sync", one.fsync), ("a close", one.close)):
            try:
                await ending(first)
                return f"{what} says that what could not be stored is stored"
            except OSError as wrong:
                if wrong.errno != errno.ENOSPC:
                    return f"{what} fails with {wrong}"
        client.pwrite = store  # type: ignore[method-assign]
        await one.fsync(second)
        await one.close(second)
        return ""

    async def look(_: Client) -> str:
        found = await two.read_all(await two.open("full"))
        return (
            "" if found == written else f"of {len(written)} bytes that were synced in the end {len(found)} are there, or others"
        )

    return await stage.call(MOUNTS[0], fail_and_go_on) or await stage.call(MOUNTS[1], look)


async def what_is_written_and_not_stored(stage: SceneCluster) -> str:
    """A small file is cut, and grows out of memory; a large one is written, and read when the kernel has dropped its pages."""
    one, two = await _mounts(stage, 9)

    async def cut(_: Client) -> str:
        file = await one.open("cut", os.O_RDWR | os.O_CREAT)
        await one.write(file, b"a" * 12_000)
        await one.fsync(file)
        await one.truncate(file, 100)
        await one.write(file, b"b" * 100, 20_000)
        await one.close(file)
        return ""

    async def write(_: Client) -> str:
        file = await one.open("written", os.O_RDWR | os.O_CREAT)
        await one.write(file, b"a" * 200_000)
        await one.fsync(file)
        await one.write(file, b"b" * 5_000, 50_000)
        await one.forget_data(file.node.number)
        found = await one.read(file, 50_000, 5_000)
        await one.close(file)
        return "" if found == b"b" * 5_000 else f"what was written is read as {found[:8]!r}"

    async def look(_: Client) -> str:
        found = await two.read_all(await two.open("cut"))
        wanted = b"a" * 100 + bytes(19_900) + b"b" * 100
        return "" if found == wanted else f"a file that was cut and has grown has {found.count(b'a')} of its old bytes"

    return await stage.call(MOUNTS[0], write) or await stage.call(MOUNTS[0], cut) or await stage.call(MOUNTS[1], look)


async def a_file_is_followed(stage: SceneCluster) -> str:
    """A program reads a file that stays open, as `tail -f` does, while another machine appends: it sees bytes, and no zeros."""
    one, two = await _mounts(stage, 6)
    line = b"0123456789\n"

    async def append(_: Client) -> None:
        file = await one.open("followed", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for _number in range(30):
            await one.write(file, line)
            await asyncio.sleep(0.02)
        await one.close(file)

    async def follow(_: Client) -> str:
        file = await two.open("followed")
        found = b""
        for _number in range(POLLS_MAX):
            if await two.fstat(file) > len(found):
                found += await two.read(file, len(found), 4096)
            if len(found) >= 30 * len(line):
                break
            await asyncio.sleep(0.01)
        return "" if found == 30 * line else f"who follows a file reads {found[-len(line) :]!r} at {len(found)}"

    writing = stage.start(MOUNTS[0], append)
    await asyncio.sleep(0.1)
    problem = await stage.call(MOUNTS[1], follow)
    await writing
    return problem


async def a_look_up_is_old(stage: SceneCluster) -> str:
    """A program looks a file up and is slow to open it: meanwhile another one of its mount makes it longer."""
    kernel = await mount_on(stage, MOUNTS[0], 3)
    kernel.operations.lookups = RecentLookups(lambda: 0)  # however slow it is

    async def write(length: int) -> None:
        file = await kernel.open("looked-up", os.O_RDWR | os.O_CREAT)
        await kernel.write(file, b"a" * length)
        await kernel.close(file)
        await kernel.join()

    async def find_after(work: Coroutine[Any, Any, None], at: int) -> bytes:
        looked_up = await kernel.look_up("looked-up")
        await asyncio.create_task(work)
        file = await kernel.open_node(looked_up)
        found = await kernel.read(file, at, RECORD_BYTES)
        await kernel.close(file)
        await kernel.join()
        return found

    async def run(_: Client) -> str:
        await write(100_000)
        written = await find_after(write(150_000), 140_000)
        if written != b"a" * RECORD_BYTES:
            return f"who opens it after a write finds {written!r}"
        lengthened = await find_after(kernel.truncate_path("looked-up", 200_000), 190_000)
        return "" if lengthened == bytes(RECORD_BYTES) else f"who opens it when it was made longer finds {lengthened!r}"

    return await stage.call(MOUNTS[0], run)


async def others_set_times_of_what_a_program_writes(stage: SceneCluster) -> str:
    """Another client sets the mtime of a small and of a large file that a program of a mount has written and not closed. It
    stays, unless the program writes again."""
    (kernel, _) = await _mounts(stage, 11)

    async def write(_: Client, name: str, size: int, *, again: bool) -> None:
        file = await kernel.open(name, os.O_RDWR | os.O_CREAT)
        await kernel.write(file, b"a" * size)
        await asyncio.sleep(4)
        if again:
            await kernel.write(file, b"b", size // 2)
        await asyncio.sleep(2)
        await kernel.close(file)
        await kernel.join()

    for size in (100, 100_000):
        for again in (False, True):
            name = f"{size}-{'again' if again else 'once'}"
            work = stage.start(MOUNTS[0], lambda client: write(client, name, size, again=again))  # noqa: B023
            await asyncio.sleep(2)
            await stage.call("client-3", lambda client: client.utimes(f"/{name}", mtime_ns=PAST))  # noqa: B023
            await work
            mtime = (await stage.call("client-3", lambda client: client.stat(f"/{name}"))).mtime_ns  # noqa: B023
            if again is (mtime == PAST):
                return f"{name}: its mtime is {'from before the last write' if again else 'not what was set after it'}"
    return ""


MOUNT_SCENES: dict[str, Callable[[SceneCluster], Awaitable[str]]] = {
    "programs_write_one_file": programs_write_one_file,
    "programs_write_small_files": programs_write_small_files,
    "programs_open_at_once": programs_open_at_once,
    "programs_append_on_mounts": programs_append_on_mounts,
    "programs_take_turns_by_opening": programs_take_turns_by_opening,
    "programs_take_turns_by_locking": programs_take_turns_by_locking,
    "a_flush_that_fails": a_flush_that_fails,
    "what_is_written_and_not_stored": what_is_written_and_not_stored,
    "a_file_is_followed": a_file_is_followed,
    "a_look_up_is_old": a_look_up_is_old,
    "others_set_times_of_what_a_program_writes": others_set_times_of_what_a_program_writes,
}
