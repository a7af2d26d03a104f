"""A process is killed while it writes: everything it acknowledged is there, and nothing is there by halves."""

import asyncio
import signal
import subprocess
import sys
import textwrap

import pytest

from fs3.drivers.lmdb import LmdbKV
from fs3.sim.conformance.kv import read_all_rows

WRITER = textwrap.dedent("""
    import asyncio, itertools, os, sys
    from fs3.drivers.lmdb import LmdbKV

    async def main():
        kv = LmdbKV.open(sys.argv[1])
        numbers = itertools.count(int(sys.argv[2]))

        async def write(number):
            async def op(txn):
                for part in b"abc":
                    txn.put(b"%08d%c" % (number, part), os.urandom(40))
            await kv.transact(op)
            os.write(1, b"%08d\\n" % number)   # one write: a line is there whole or not at all

        async def client():
            while True:
                await write(next(numbers))

        await asyncio.gather(*(client() for _ in range(32)))

    asyncio.run(main())
""")


async def stored_keys(directory):
    kv = LmdbKV.open(directory)
    keys = [key for key, _ in await read_all_rows(kv)]
    await kv.close()
    return keys


@pytest.mark.processes
def test_acknowledged_transactions_survive_kill_9(tmp_path):
    acknowledged: set[bytes] = set()
    for life in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "kv"), str(life * 1_000_000)], stdout=subprocess.PIPE
        )
        for _ in range(400 + 217 * life):
            acknowledged.add(writer.stdout.readline().strip())
        writer.send_signal(signal.SIGKILL)
        acknowledged |= {line.strip() for line in writer.stdout if line.endswith(b"\n")}
        writer.stdout.close()
        assert writer.wait() == -signal.SIGKILL
        keys = asyncio.run(stored_keys(tmp_path / "kv"))
        parts: dict[bytes, bytes] = {}
        for key in keys:
            parts[key[:8]] = parts.get(key[:8], b"") + key[8:]
        assert acknowledged <= set(parts)
        assert set(parts.values()) == {b"abc"}
    assert len(acknowledged) >= 1800
