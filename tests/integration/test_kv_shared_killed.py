"""Processes that share a store are killed, stopped and started again in the middle of commits, with the lock in their hands."""

import asyncio
import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from fs3.base.prng import Prng
from fs3.drivers.lmdb import LmdbKV
from fs3.sim.conformance.kv import get, puts, read_all_rows
from fs3.sim.conformance.kv_shared import process_peer

WRITER = textwrap.dedent("""
    import asyncio, itertools, os, sys
    from fs3.drivers.lmdb import LmdbKV

    async def main():
        kv = LmdbKV.open(sys.argv[1])
        name = sys.argv[2].encode()
        numbers = itertools.count()

        async def write(number):
            async def op(txn):
                total = int(await txn.get(b"total") or b"0") + 1
                txn.put(b"total", b"%d" % total)
                for part in b"abc":
                    txn.put(b"row %s %08d%c" % (name, number, part), b"%d" % total)
                return total
            total = await kv.transact(op)
            os.write(1, b"%s %08d %d\\n" % (name, number, total))   # one write: a line is there whole or not at all

        async def client():
            while True:
                await write(next(numbers))

        await asyncio.gather(*(client() for _ in range(8)))

    asyncio.run(main())
""")


async def start_writer(directory, life):
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(directory), f"life{life:03}", stdout=asyncio.subprocess.PIPE
    )


@pytest.mark.processes
async def test_acknowledged_transactions_of_all_survive_the_kill_of_any(tmp_path):
    prng = Prng(5)
    acknowledged: dict[bytes, bytes] = {}

    async def read_lines(writer, lines):
        for _ in range(lines):
            name, number, total = (await writer.stdout.readline()).split()
            acknowledged[name + b" " + number] = total

    async def rest(writer):
        async for line in writer.stdout:
            if line.endswith(b"\n"):
                name, number, total = line.split()
                acknowledged[name + b" " + number] = total
        await writer.wait()

    writers = [await start_writer(tmp_path, life) for life in range(3)]
    for life in range(3, 13):
        for writer in writers:
            await read_lines(writer, 20 + prng.below(30))
        victim = writers.pop(prng.below(len(writers)))
        victim.kill()
        # The others go on: none of them waits for a lock that nobody has.
        for writer in writers:
            await read_lines(writer, 40)
        await rest(victim)
        writers.append(await start_writer(tmp_path, life))
    for writer in writers:
        writer.kill()
        await rest(writer)
    kv = LmdbKV.open(tmp_path)
    rows = dict(await read_all_rows(kv))
    await kv.close()
    total = int(rows.pop(b"total"))
    found: dict[bytes, set[tuple[bytes, bytes]]] = {}
    for key, value in rows.items():
        found.setdefault(key[4:-1], set()).add((key[-1:], value))
    assert {len(parts) for parts in found.values()} == {3}, "nothing is there by halves"
    totals = {name: {value for _, value in parts} for name, parts in found.items()}
    assert all(totals[name] == {value} for name, value in acknowledged.items()), "what was acknowledged is there, as it was said"
    assert sorted(int(value) for values in totals.values() for value in values) == list(range(1, total + 1)), (
        "one after the other"
    )
    assert len(acknowledged) > 1000


async def stop_process(pid: int) -> None:
    """SIGSTOP, and until it stands still: a signal that was sent may be delivered a little later."""
    os.kill(pid, signal.SIGSTOP)
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":  # noqa: ASYNC110 - the kernel tells nobody
        await asyncio.sleep(0.001)


@pytest.mark.processes
async def test_a_stopped_process_stops_no_reader_and_one_that_is_killed_no_writer(tmp_path):
    writer = await start_writer(tmp_path, 1)
    await writer.stdout.readline()
    async with process_peer("LmdbKV.open(directory)", tmp_path) as peer:
        kv = LmdbKV.open(tmp_path)
        assert await peer.run("get", "ours") is None, "it is open: that takes the lock once"
        for _ in range(5):
            await stop_process(writer.pid)
            before = await kv.read(get(b"total"))
            assert await peer.run("get", "total") == before.decode()
            os.kill(writer.pid, signal.SIGCONT)
            while await kv.read(get(b"total")) == before:
                await writer.stdout.readline()
        await stop_process(writer.pid)
        waiting = [asyncio.ensure_future(peer.run("put", "ours", "1")), asyncio.ensure_future(kv.transact(puts({b"own": b"1"})))]
        writer.kill()
        await asyncio.gather(*waiting)
        assert await peer.run("get", "own") == "1"
        assert await kv.read(get(b"ours")) == b"1"
        await kv.close()
    await writer.communicate()
