"""Metadata put back from a copy: what the copy has is there, and what was made since it never shows up in other files."""

import asyncio
import json
import subprocess
import sys
from contextlib import contextmanager

import fsspec
import pytest

from fs3.api.connect import connect_embedded
from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.cli.metadata_copy import back_up, put_back
from fs3.client.fsck.cluster import Fsck
from fs3.core.meta.fsck.problems import name_of
from fs3.core.meta.restore import first_id_at, inode_ids_per_second_max
from fs3.drivers.lmdb import LmdbKV
from fs3.sim.conformance.kv import puts

pytestmark = pytest.mark.timeout(300)


def admin(*arguments, status=0):
    """What `fs3 admin …` says."""
    command = [sys.executable, "-m", "fs3.cli.main", "admin", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout or done.stderr


@contextmanager
def opened(path):
    fs = fsspec.filesystem("fs3", path=str(path), skip_instance_cache=True)
    try:
        yield fs
    finally:
        fs.close()


async def write_file(client, path, content, offset=0):
    file = await client.open(path, "x")
    await client.pwrite(file, content, offset)
    return (await client.close(file)).id


async def read_file(client, path):
    file = await client.open(path)
    try:
        return await client.pread(file, 1 << 20)
    finally:
        await client.close(file)


async def test_ids_and_bytes_do_not_come_back(tmp_path):
    data, copy = tmp_path / "data", tmp_path / "copy"
    client = await connect_embedded(data)
    kept = await write_file(client, "/kept", b"k" * 100_000)
    # In use: the copy is made by another process.
    said = json.loads(await asyncio.to_thread(admin, "backup-meta", data, copy, "--json"))
    assert said["rows"] > 3
    given = {kept}
    for number in range(8):
        given.add(await write_file(client, f"/lost-{number}", b"SECRET" * 50_000))
    refused = await asyncio.to_thread(admin, "restore-meta", copy, data, status=1)
    assert "in use by another process" in refused
    await client.aclose()

    for _ in range(2):
        # Twice from the same copy: it knows neither of the files made before it was put back first, nor of those after.
        done = json.loads(admin("restore-meta", copy, data, "--json"))
        assert done["replaced"].startswith(str(data))
        client = await connect_embedded(data)
        assert [entry.name for entry in await client.list_all("/")] == ["kept"]
        assert await read_file(client, "/kept") == b"k" * 100_000
        for number in range(8):
            inode = await write_file(client, f"/new-{number}", b"n", offset=299_999)
            assert inode >= done["first_inode_id"]
            assert inode not in given
            given.add(inode)
            assert await read_file(client, f"/new-{number}") == bytes(299_999) + b"n"
        await client.aclose()

    client = await connect_embedded(data)
    fsck = Fsck(client.meta, client.storage, client.manager)
    found = await fsck.check()
    assert {name_of(problem) for problem in found.problems} == {"orphan-chunk"}
    await client.aclose()
    assert (
        "orphan-chunk"
        in subprocess.run(
            [sys.executable, "-m", "fs3.cli.main", "admin", "fsck", "--repair", str(data)],
            capture_output=True,
            text=True,
            timeout=120,
        ).stdout
    )
    assert "nothing is wrong" in admin("fsck", data)


async def test_all_locks_have_ended(tmp_path):
    data, copy = tmp_path / "data", tmp_path / "copy"
    client = await connect_embedded(data)
    await write_file(client, "/f", b"x")
    file = await client.open("/f")
    await client.lock(file)
    await asyncio.to_thread(admin, "backup-meta", data, copy)
    await client.close(file)
    await client.aclose()
    admin("restore-meta", copy, data)
    async with await connect_embedded(data) as client:
        assert await client.try_lock(await client.open("/f"))
        assert not (await Fsck(client.meta, client.storage, client.manager).check()).problems


def test_bytes_of_small_files_are_in_the_copy(tmp_path):
    data, copy = tmp_path / "data", tmp_path / "copy"
    names = ("same", "rewritten", "replaced", "removed", "grown", "grown-again")
    old = {name: name.encode() * 3 for name in names}
    with opened(data) as fs:
        for name in names:
            fs.pipe_file(f"/{name}", old[name])
        admin("backup-meta", data, copy)
        with fs.open("/rewritten", "r+b") as file:
            file.write(b"new")
        fs.pipe_file("/replaced", bytes(100_000))
        fs.rm("/removed")
        for name in ("grown", "grown-again"):
            with fs.open(f"/{name}", "r+b") as file:
                file.seek(5)
                file.write(b"G" * 100_000)
    admin("restore-meta", copy, data)
    with opened(data) as fs:
        assert {name: fs.cat_file(f"/{name}") for name in names} == old
        with fs.open("/grown-again", "r+b") as file:
            file.seek(50_000)
            file.write(b"Z")
        assert fs.cat_file("/grown-again") == b"grown" + b"G" * 49_995 + b"Z"
    found = admin("fsck", "--repair", data, status=1)
    assert found.count("too-short") == 2
    assert found.count("orphan-chunk") == 1
    assert "nothing is wrong" in admin("fsck", data)
    with opened(data) as fs:
        assert fs.cat_file("/grown") == b"grown" + b"G" * 100_000
        assert {name: fs.cat_file(f"/{name}") for name in names[:4]} == {name: old[name] for name in names[:4]}


async def test_a_store_that_is_lost_is_put_back(tmp_path):
    data, copy = tmp_path / "data", tmp_path / "copy"
    client = await connect_embedded(data)
    await write_file(client, "/kept", b"k")
    await client.aclose()
    await asyncio.to_thread(back_up, data / "meta", copy)
    for name in ("data.mdb", "lock.mdb"):
        (data / "meta" / name).unlink()
    with pytest.raises(FS3Error, match=r"gone or empty.*docs/metadata-recovery.md") as refused:
        await connect_embedded(data)
    assert refused.value.code is Code.DATA_LOSS
    assert "has the" in await asyncio.to_thread(admin, "restore-meta", copy, data)
    client = await connect_embedded(data)
    assert await read_file(client, "/kept") == b"k"
    await client.aclose()


@pytest.fixture
async def copied(tmp_path):
    """(store, copy) of a namespace with one file."""
    client = await connect_embedded(tmp_path / "data")
    await write_file(client, "/kept", b"k")
    await client.aclose()
    await asyncio.to_thread(back_up, tmp_path / "data" / "meta", tmp_path / "copy")
    return tmp_path / "data" / "meta", tmp_path / "copy"


async def refusal(function, *arguments):
    with pytest.raises(FS3Error) as why:
        await asyncio.to_thread(function, *arguments)
    return why.value


async def test_copies_that_are_not_whole_are_refused_and_the_store_stays(copied):
    store, copy = copied
    before = (store / "data.mdb").read_bytes()
    whole = (copy / "data.mdb").read_bytes()
    now = (copy / "copy.json").stat().st_mtime_ns + SECOND
    for at in (0, 5000, len(whole) // 2, len(whole) - 1):
        (copy / "data.mdb").write_bytes(whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :])
        assert (await refusal(put_back, copy, store, now)).code is Code.DATA_LOSS
    (copy / "data.mdb").write_bytes(whole[:-4096])
    assert (await refusal(put_back, copy, store, now)).code is Code.DATA_LOSS
    (copy / "data.mdb").write_bytes(whole)
    manifest = (copy / "copy.json").read_bytes()
    (copy / "copy.json").write_bytes(b"{}")
    assert (await refusal(put_back, copy, store, now)).code is Code.DATA_LOSS
    (copy / "copy.json").unlink()
    assert (await refusal(put_back, copy, store, now)).code is Code.NOT_FOUND
    (copy / "copy.json").write_bytes(manifest)
    assert "clock" in str(await refusal(put_back, copy, store, 1_000_000_000 * SECOND))
    assert (store / "data.mdb").read_bytes() == before
    assert not [*store.glob("data.mdb.replaced-*"), *store.glob("restoring")]
    await asyncio.to_thread(put_back, copy, store, now)


async def test_a_clock_that_gives_ids_that_were_given_is_refused(copied):
    store, copy = copied
    now = (copy / "copy.json").stat().st_mtime_ns
    await asyncio.to_thread(put_back, copy, store, now + 3600 * SECOND)
    why = await refusal(put_back, copy, store, now + 1800 * SECOND)
    assert why.code is Code.INVALID
    assert "clock" in str(why)


async def test_a_copy_of_another_cluster_is_refused(copied, tmp_path):
    _, copy = copied
    client = await connect_embedded(tmp_path / "other")
    await client.aclose()
    now = (copy / "copy.json").stat().st_mtime_ns
    assert (await refusal(put_back, copy, tmp_path / "other" / "meta", now)).code is Code.WRONG_CLUSTER


async def test_a_copy_is_put_back_only_where_a_store_is_or_may_be(copied, tmp_path):
    _, copy = copied
    other = tmp_path / "other"
    assert "no such directory" in await asyncio.to_thread(admin, "restore-meta", copy, other, status=1)
    assert not other.exists()
    other.mkdir()
    (other / "notes").touch()
    assert "no metadata store" in await asyncio.to_thread(admin, "restore-meta", copy, other, status=1)
    assert [entry.name for entry in other.iterdir()] == ["notes"]
    (other / "notes").unlink()
    assert "has the" in await asyncio.to_thread(admin, "restore-meta", copy, other)
    assert (other / "data.mdb").exists()


async def test_what_is_no_sound_metadata_store_is_not_copied(copied, tmp_path):
    store, copy = copied
    assert (await refusal(back_up, tmp_path / "nothing", tmp_path / "new")).code is Code.NOT_FOUND
    assert (await refusal(back_up, store, copy)).code is Code.EXISTS
    kv = LmdbKV.open(tmp_path / "foreign")
    await kv.transact(puts({b"a": b"1"}))
    await kv.close()
    assert (await refusal(back_up, tmp_path / "foreign", tmp_path / "new")).code is Code.UNSUPPORTED
    (store / "data.mdb").write_bytes((store / "data.mdb").read_bytes()[: 3 * 4096])
    assert (await refusal(back_up, store, tmp_path / "new")).code is Code.DATA_LOSS
    assert not (tmp_path / "new").exists()


def test_ids_of_restores_stay_exact_in_json_and_rise_with_the_clock():
    year = 365 * 86_400 * SECOND
    assert first_id_at(230 * year) < 1 << 53
    assert first_id_at(60 * year + SECOND) - first_id_at(60 * year) == inode_ids_per_second_max
