"""A damaged metadata store under a whole file system: names are found or answered as damaged, and no process ends."""

import os
import subprocess
import sys
import textwrap

import pytest

from fs3.api.connect import connect_embedded

pytestmark = pytest.mark.timeout(300)

NAMES = [f"/d{number % 7}/file-{number:03}" for number in range(200)]

CHILD = """
    import asyncio, errno, os, sys
    from pathlib import Path
    sys.path[:0] = sys.argv[2:]
    from fs3.api.connect import connect_embedded
    from fs3.base.errors import FS3Error
    from fs3.base.prng import Prng
    from tests.integration.meta.test_damaged_store import NAMES

    PAGE = 4096
    directory = Path(sys.argv[1])
    file = directory / "meta" / "data.mdb"
    whole = file.read_bytes()
    used = [page for page in range(len(whole) // PAGE) if any(whole[page * PAGE + 32 : (page + 1) * PAGE])]

    async def look():
        refused = 0
        client = await connect_embedded(directory)
        try:
            for name in NAMES:
                try:
                    inode = await client.stat(name)
                    assert inode.length == 0 and inode.mode & 0o777 == 0o640, inode
                except FS3Error as why:
                    assert why.errno == errno.EIO, (name, why)
                    refused += 1
            for number in range(7):
                try:
                    found = {f"/d{number}/{entry.name}" for entry in await client.list_all(f"/d{number}")}
                except FS3Error as why:
                    assert why.errno == errno.EIO, why
                else:
                    assert found == {name for name in NAMES if name.startswith(f"/d{number}/")}
        finally:
            await client.aclose()
        return refused

    async def main():
        prng = Prng(int(os.environ.get("DAMAGE_SEED", "1")))
        counts = {"refused to open": 0, "some names refused": 0, "no harm": 0}

        async def count(trial, rotten):
            print("trial", trial, flush=True)
            file.write_bytes(rotten)
            try:
                counts["some names refused" if await look() else "no harm"] += 1
            except FS3Error as why:
                assert why.errno in (errno.EIO, errno.EOPNOTSUPP), why
                counts["refused to open"] += 1

        for trial in range(int(os.environ.get("DAMAGE_TRIALS", "20"))):
            rotten = bytearray(whole)
            page = used[prng.below(len(used))]
            if prng.below(5) == 0:
                rotten[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
            else:
                rotten[page * PAGE + prng.below(PAGE)] ^= 1 << prng.below(8)
            await count(f"{trial} in page {page}", rotten)
        # Which pages are in use depends on the moment they were written, so these two are aimed.
        await count("in every copy of a name", whole.replace(b"file-100", b"file-!00"))
        await count("in both roots", bytes([255]) * 2 * PAGE + whole[2 * PAGE :])
        print(counts)

    asyncio.run(main())
"""


async def test_no_existing_name_is_ever_absent(tmp_path):
    directory = tmp_path / "data"
    client = await connect_embedded(directory)
    for number in range(7):
        await client.mkdir(f"/d{number}")
    for name in NAMES:
        await client.close(await client.open(name, "x"))
        await client.chmod(name, 0o640)
    await client.aclose()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(directory), os.getcwd(), *sys.path],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-300:] + done.stderr
    counts = eval(done.stdout.splitlines()[-1])
    assert counts["refused to open"]
    assert counts["some names refused"]
