"""The directory: who may open it, what it may hold, and what happens when it is full."""

import asyncio
import os
import subprocess
import sys
import textwrap

import lmdb
import pytest

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.drivers.lmdb import LmdbKV
from fs3.drivers.lmdb.env import Environment
from fs3.drivers.os.directory_lock import DirectoryLock
from fs3.sim.conformance.kv import failure, get, puts, read_all_rows, start_transaction


def run(script, *arguments):
    """Run Python in another process; its stdout."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


SECOND = """
    import sys
    from pathlib import Path
    from fs3.base.errors import FS3Error
    from fs3.drivers.lmdb import LmdbKV
    from fs3.drivers.os.directory_lock import DirectoryLock
    try:
        kept = eval(sys.argv[2])
        print("opened")
    except FS3Error as why:
        print(why.code.name, why)
"""


async def test_processes_share_a_store_but_not_with_one_that_wants_it_alone(tmp_path):
    kv = LmdbKV.open(tmp_path)
    assert run(SECOND, tmp_path, "LmdbKV.open(sys.argv[1])") == "opened\n"
    said = run(SECOND, tmp_path, "DirectoryLock(Path(sys.argv[1]))")
    assert "BUSY" in said
    assert str(tmp_path) in said
    assert f"pid {os.getpid()}" in said, "who has it, not who had it last"
    await kv.close()
    assert run(SECOND, tmp_path, "DirectoryLock(Path(sys.argv[1]))") == "opened\n", "closed: anybody may have it"


def test_whoever_has_a_directory_alone_is_named(tmp_path):
    lock = DirectoryLock(tmp_path)
    for way in ("DirectoryLock(Path(sys.argv[1]))", "LmdbKV.open(sys.argv[1])"):
        said = run(SECOND, tmp_path, way)
        assert "BUSY" in said
        assert f"pid {os.getpid()}" in said
    lock.release()


async def test_the_same_process_is_refused_a_second_time_and_keeps_its_lock(tmp_path):
    kv = LmdbKV.open(tmp_path)
    with pytest.raises(FS3Error, match="this process") as refused:
        LmdbKV.open(tmp_path)
    assert refused.value.code is Code.BUSY
    await kv.transact(puts({b"a": b"1"}))
    await kv.close()
    again = LmdbKV.open(tmp_path)
    assert await again.read(get(b"a")) == b"1"
    await again.close()


def test_the_lock_ends_with_its_process_even_if_a_forked_child_lives_on(tmp_path):
    script = """
        import os, sys, time
        from fs3.drivers.os.directory_lock import DirectoryLock
        from pathlib import Path
        lock = DirectoryLock(Path(sys.argv[1]))
        read, write = os.pipe()
        if os.fork() == 0:
            os.close(write)
            os.close(1), os.close(2)
            os.read(int(sys.argv[2]), 1)
            os._exit(0)
        os._exit(0)
    """
    read, write = os.pipe()
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(tmp_path), str(read)], pass_fds=(read,), check=True)
    Environment(tmp_path, "kv", 1, map_bytes=1 << 20, map_bytes_max=1 << 20).close()
    os.close(write)
    os.close(read)


def test_another_version_is_refused(tmp_path):
    Environment(tmp_path, "kv", 3, map_bytes=1 << 20, map_bytes_max=1 << 20).close()
    with pytest.raises(FS3Error, match=r"'fs3 kv 3', this software reads 'fs3 kv 2'") as refused:
        LmdbKV.open(tmp_path)
    assert refused.value.code is Code.UNSUPPORTED
    Environment(tmp_path, "kv", 3, map_bytes=1 << 20, map_bytes_max=1 << 20).close()


def test_a_foreign_environment_is_refused(tmp_path):
    foreign = lmdb.open(str(tmp_path))
    with foreign.begin(write=True) as txn:
        txn.put(b"theirs", b"1")
    foreign.close()
    with pytest.raises(FS3Error, match="another program"):
        LmdbKV.open(tmp_path)


def test_a_file_that_is_no_environment_is_refused(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"hello" * 5000)
    with pytest.raises(FS3Error, match=r"is damaged.*not an LMDB file.*copy") as refused:
        LmdbKV.open(tmp_path)
    assert refused.value.code is Code.DATA_LOSS
    assert str(tmp_path) in str(refused.value)


async def test_a_full_map_grows(tmp_path):
    kv = LmdbKV.open(tmp_path, map_bytes=128 << 10, map_bytes_max=64 << 20)
    for number in range(20):
        await kv.transact(puts({b"%03d" % number: bytes(100_000)}))
    assert len(await read_all_rows(kv)) == 20
    assert kv.measure_used_bytes() > 2_000_000
    await kv.close()
    again = LmdbKV.open(tmp_path, map_bytes=128 << 10, map_bytes_max=64 << 20)
    assert len(await read_all_rows(again)) == 20
    await again.transact(puts({b"more": bytes(100_000)}))
    await again.close()


async def test_a_map_at_its_limit_refuses_and_works_again(tmp_path):
    kv = LmdbKV.open(tmp_path, map_bytes=1 << 20, map_bytes_max=2 << 20)
    stored, full = 0, None
    while full is None:
        future = start_transaction(kv, puts({b"%03d" % stored: bytes(50_000)}))
        await asyncio.wait({future})
        full = future.exception()
        stored += full is None
    assert full.code is Code.NO_SPACE
    assert "2.0 MiB" in str(full)
    assert stored > 20
    assert len(await read_all_rows(kv)) == stored, "nothing is lost"
    assert (await failure(start_transaction(kv, puts({b"xxx": bytes(50_000)})))).code is Code.NO_SPACE
    await kv.transact(puts({b"%03d" % number: None for number in range(10)}))
    await kv.transact(puts({b"small": b"1"}))
    for number in range(5):
        await kv.transact(puts({b"new%d" % number: bytes(50_000)}))
    assert len(await read_all_rows(kv)) == stored - 10 + 6
    await kv.close()


def test_a_full_disk_refuses_loses_nothing_and_works_again(tmp_path):
    """The file may not grow past a limit, which is how a full disk looks to LMDB; then there is room again."""
    script = """
        import asyncio, resource, signal, sys
        from fs3.base.errors import FS3Error
        from fs3.drivers.lmdb import LmdbKV
        from fs3.sim.conformance.kv import puts, read_all_rows

        async def main():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            kv = LmdbKV.open(sys.argv[1])
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
            stored = 0
            while True:
                try:
                    await kv.transact(puts({b"%04d" % stored: bytes(20_000)}))
                    stored += 1
                except FS3Error as why:
                    print(why.code.name)
                    break
            assert 20 < stored < 60, stored
            assert len(await read_all_rows(kv)) == stored
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            for number in range(30):
                await kv.transact(puts({b"later%d" % number: bytes(20_000)}))
            assert len(await read_all_rows(kv)) == stored + 30
            await kv.close()
            again = LmdbKV.open(sys.argv[1])
            assert len(await read_all_rows(again)) == stored + 30
            await again.close()

        asyncio.run(main())
    """
    assert run(script, tmp_path).strip() == "NO_SPACE"


async def test_commits_are_synced_data_first(tmp_path):
    """What a killed process shows nothing of, since the page cache outlives it: only the loss of power does."""
    environment = Environment(tmp_path, "kv", 1, map_bytes=1 << 20, map_bytes_max=1 << 20)
    flags = environment._env.flags()
    assert flags["sync"]
    assert flags["metasync"]
    assert not flags["writemap"]
    assert not flags["map_async"]
    environment.close()
