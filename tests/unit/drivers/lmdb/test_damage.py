"""Damaged stores: what is answered is right or says that it is damaged; nothing is absent that was there, and nothing crashes."""

import asyncio
import subprocess
import sys
import textwrap
from functools import partial

import lmdb
import pytest

from fs3.base.checksum import seal_row
from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.core.txn import KVRowDamaged
from fs3.drivers.lmdb import LmdbKV
from fs3.drivers.lmdb.damage import KnownDamage
from fs3.drivers.lmdb.page_file import DamagedRow
from fs3.sim.conformance.kv import get, puts, read_all_rows, scan

PAGE = 4096
KEYS = [b"INOD%08d" % number for number in range(0, 3000, 3)]


def value_of(key):
    return key[-3:] * (1 + int(key[4:]) % 60) + (b"x" * 9000 if int(key[4:]) % 500 == 0 else b"")


@pytest.fixture
async def made(tmp_path):
    """The directory of a store with branch pages, long values, and pages that are free."""
    directory = tmp_path / "kv"
    kv = LmdbKV.open(directory)
    await kv.transact(puts({key: value_of(key) for key in KEYS} | {b"gone%d" % number: b"y" * 500 for number in range(300)}))
    await kv.transact(puts({b"gone%d" % number: None for number in range(300)}))
    await kv.transact(puts({key: value_of(key) for key in KEYS[::10]}))
    await kv.close()
    return directory


def write_raw(directory, rows):
    """Rows as they are on the disk; None: none."""
    with lmdb.open(str(directory), max_dbs=1, map_size=1 << 30) as env:
        database = env.open_db(b"rows")
        with env.begin(write=True, db=database) as txn:
            for key, sealed in rows.items():
                if sealed is None:
                    txn.delete(key)
                else:
                    txn.put(key, sealed)


CHILD = """
    import asyncio, os, sys
    sys.path[:0] = sys.argv[2:]
    from fs3.base.errors import FS3Error
    from fs3.base.prng import Prng
    from fs3.base.status import Code
    from fs3.drivers.lmdb import LmdbKV
    from fs3.sim.conformance.kv import get, scan
    from tests.unit.drivers.lmdb.test_damage import KEYS, PAGE, value_of
    from pathlib import Path

    directory = Path(sys.argv[1])
    file = directory / "data.mdb"
    whole = file.read_bytes()
    used = [page for page in range(len(whole) // PAGE) if any(whole[page * PAGE + 32 : (page + 1) * PAGE])]

    async def look(kv):
        wrong = refused = 0
        for key in [*KEYS, b"INOD00000001", b"NONE"]:
            try:
                found = await kv.read(get(key))
            except FS3Error as why:
                assert why.code is Code.DATA_LOSS, why
                refused += 1
                continue
            assert found == (value_of(key) if key in kept else None), (key, found)
        for begin, end in ((KEYS[0], b"J"), (KEYS[100], KEYS[200]), (KEYS[600], KEYS[601]), (KEYS[5], KEYS[900])):
            try:
                found = await kv.read(scan(begin, end, 5000))
            except FS3Error as why:
                assert why.code is Code.DATA_LOSS, why
                refused += 1
                continue
            assert [key for key, _ in found] == [key for key in KEYS if begin <= key < end]
        return refused

    async def main():
        prng = Prng(int(os.environ.get("DAMAGE_SEED", "7")))
        counts = {"refused to open": 0, "some rows refused": 0, "no harm": 0}
        for trial in range(int(os.environ.get("DAMAGE_TRIALS", "120"))):
            rotten = bytearray(whole)
            page = used[prng.below(len(used))]
            how = prng.below(10)
            if how == 0:
                rotten[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
            elif how == 1:
                other = used[prng.below(len(used))]
                rotten[page * PAGE : (page + 1) * PAGE] = whole[other * PAGE : (other + 1) * PAGE]
            elif how == 2:
                del rotten[page * PAGE + prng.below(PAGE) :]
            else:
                at = page * PAGE + (prng.below(PAGE) if how < 8 else prng.below(200))
                rotten[at] ^= 1 << prng.below(8)
            print("trial", trial, how, page, flush=True)
            file.write_bytes(rotten)
            try:
                kv = LmdbKV.open(directory)
            except FS3Error as why:
                assert why.code in (Code.DATA_LOSS, Code.UNSUPPORTED), why
                assert str(directory) in str(why)
                counts["refused to open"] += 1
                continue
            counts["some rows refused" if await look(kv) else "no harm"] += 1
            await kv.close()
        print(counts)

    kept = set(KEYS)
    asyncio.run(main())
"""


def test_damage_at_random_places_is_answered_as_damage(made):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(made), *sys.path], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-200:] + done.stderr
    counts = eval(done.stdout.splitlines()[-1])
    assert min(counts.values()) > 4, counts


async def test_a_row_that_rotted_is_refused_and_the_others_are_not(made):
    rotten = bytearray(seal_row(KEYS[7], value_of(KEYS[7])))
    rotten[-1] ^= 4
    write_raw(made, {KEYS[7]: bytes(rotten)})
    kv = LmdbKV.open(made)
    assert kv.damaged_rows == (KEYS[7],)
    for op in (get(KEYS[7]), scan(KEYS[5], KEYS[9], 10), scan(KEYS[6], KEYS[8], 1, reverse=True), scan(b"", b"J", 5000)):
        with pytest.raises(KVRowDamaged) as refused:
            await kv.read(op)
        assert refused.value.key == KEYS[7] or refused.value.damaged == KEYS[7]
    assert await kv.read(get(KEYS[8])) == value_of(KEYS[8])
    assert len(await kv.read(scan(b"", b"J", 5))) == 5
    assert len(await kv.read(scan(KEYS[8], b"J", 5000))) == len(KEYS) - 8
    await kv.close()


async def test_a_row_under_another_key_makes_absence_beside_it_untrue(made):
    moved = KEYS[7][:-1] + b"2"
    write_raw(made, {KEYS[7]: None, moved: seal_row(KEYS[7], value_of(KEYS[7]))})
    kv = LmdbKV.open(made)
    with pytest.raises(KVRowDamaged, match="or absent") as refused:
        await kv.read(get(KEYS[7]))
    assert (refused.value.key, refused.value.damaged) == (KEYS[7], moved)
    with pytest.raises(KVRowDamaged):
        await kv.transact(puts({KEYS[7]: b"would be there twice"}))
    with pytest.raises(KVRowDamaged):
        await kv.read(scan(KEYS[7], KEYS[7] + b"\0", 10))
    assert await kv.read(get(KEYS[8] + b"x")) is None, "absence elsewhere is an answer"
    await kv.transact(puts({KEYS[9] + b"x": b"and so is a new row"}))
    await kv.transact(puts({moved: None}))
    assert (kv.damaged_rows, await kv.read(get(KEYS[7]))) == ((), None)
    await kv.transact(puts({KEYS[7]: b"again"}))
    await kv.close()
    again = LmdbKV.open(made)
    assert (again.damaged_rows, await again.read(get(KEYS[7]))) == ((), b"again")
    await again.close()


@pytest.mark.parametrize("byte", [b"\0", b"\1", b"5", b"\xff"])
@pytest.mark.parametrize("at", [0, 5, 9, 11])
async def test_a_key_that_rots_while_the_store_is_open_is_never_absence(tmp_path, at, byte):
    """Wherever the search for any key passes by it: in a page of rows, or as the mark between two of them."""
    every = [b"INOD%08d" % number for number in range(400)]
    kv = LmdbKV.open(tmp_path / "kv")
    await kv.transact(puts({key: key * 5 for key in every}))
    whole = (tmp_path / "kv" / "data.mdb").read_bytes()
    absent = [key + b"x" for key in every]
    for key in every[10:390:31]:
        rotten = key[:at] + byte + key[at + 1 :]
        if rotten == key:
            continue
        flip_on_disk(tmp_path / "kv", key, rotten)
        for other in (*every, *absent):
            try:
                found = await kv.read(get(other))
            except KVRowDamaged:
                continue
            assert found == (other * 5 if len(other) == 12 else None), (rotten, other)
        for begin, end in ((b"", b"Z"), (key, key + b"\0"), (every[3], key), (key, every[-2]), (every[5], every[-5])):
            for reverse in (False, True):
                try:
                    found = await kv.read(partial(read_range, begin, end, reverse))
                except KVRowDamaged:
                    continue
                assert found == sorted((each for each in every if begin <= each < end), reverse=reverse), (rotten, begin, end)
        with (tmp_path / "kv" / "data.mdb").open("r+b") as out:
            out.write(whole)
        kv._damage.rows.clear()
    await kv.close()


async def read_range(begin, end, reverse, txn):
    return [key for key, _ in await txn.scan(begin, end, 5000, reverse=reverse)]


@pytest.mark.parametrize("content", [None, b""])
def test_a_store_whose_file_is_gone_is_not_a_new_one(made, content):
    (made / "data.mdb").unlink()
    if content is not None:
        (made / "data.mdb").write_bytes(content)
    with pytest.raises(FS3Error, match=r"gone or empty.*docs/metadata-recovery.md") as refused:
        LmdbKV.open(made)
    assert refused.value.code is Code.DATA_LOSS


def test_rows_whose_name_has_changed_are_not_made_anew(made):
    file = made / "data.mdb"
    file.write_bytes(file.read_bytes().replace(b"rows", b"rowr"))
    with pytest.raises(FS3Error, match=r"damaged.*the rows are not among") as refused:
        LmdbKV.open(made)
    assert refused.value.code is Code.DATA_LOSS


def test_a_state_that_a_meta_page_forgets_is_not_taken_back(made):
    """LMDB goes by the meta page that says the higher number: a rotten one would undo the last commit."""
    whole = (made / "data.mdb").read_bytes()
    at = 16 + 24 + 2 * 48 + 8
    states = [int.from_bytes(whole[page * PAGE + at : page * PAGE + at + 8], "little") for page in (0, 1)]
    newest = states.index(max(states))
    for wrong in (1, 64):
        rotten = bytearray(whole)
        rotten[newest * PAGE + at : newest * PAGE + at + 8] = (max(states) ^ wrong).to_bytes(8, "little")
        (made / "data.mdb").write_bytes(rotten)
        with pytest.raises(FS3Error, match="meta pages are of the states"):
            LmdbKV.open(made)


class TestScrub:
    async def test_it_goes_over_all_rows_and_finds_what_has_become_damaged(self, made):
        kv = LmdbKV.open(made)
        assert await scrub_all(kv) == len(KEYS)
        assert kv.damaged_rows == ()
        rotten = bytearray(seal_row(KEYS[501], value_of(KEYS[501])))
        rotten[5] ^= 1
        flip_on_disk(made, seal_row(KEYS[501], value_of(KEYS[501])), bytes(rotten))
        assert await scrub_all(kv) == len(KEYS)
        assert kv.damaged_rows == (KEYS[501],)
        flip_on_disk(made, bytes(rotten), seal_row(KEYS[501], value_of(KEYS[501])))
        await scrub_all(kv)
        assert kv.damaged_rows == (), "read back well: it was the reading that was wrong"
        await kv.close()

    async def test_it_goes_on_while_others_write(self, made):
        kv = LmdbKV.open(made)

        async def write():
            for number in range(300):
                await kv.transact(puts({KEYS[number * 7 % len(KEYS)]: b"%d" % number * 50, b"more%04d" % number: b"z" * 300}))

        writing = asyncio.create_task(write())
        await scrub_all(kv)
        while not writing.done():
            assert await scrub_all(kv) >= len(KEYS)
        await writing
        assert (kv.damaged_rows, kv.failure) == ((), None)
        assert await scrub_all(kv) == len(KEYS) + 300
        await kv.close()

    async def test_a_page_that_must_not_be_followed_takes_the_store_out_of_use(self, made):
        kv = LmdbKV.open(made)
        file = made / "data.mdb"
        whole = file.read_bytes()
        with file.open("r+b") as out:
            for at in range(0, len(whole), PAGE):
                # Of this page, and of what it was in former states.
                if seal_row(KEYS[501], value_of(KEYS[501])) in whole[at : at + PAGE]:
                    out.seek(at)
                    out.write(bytes(PAGE))
        with pytest.raises(FS3Error, match=r"page .* docs/metadata-recovery.md"):
            await scrub_all(kv)
        assert kv.failure.code is Code.DATA_LOSS
        for refused in (kv.read(get(KEYS[501])), kv.transact(puts({b"a": b"1"})), kv.scrub(b"")):
            with pytest.raises(FS3Error) as why:
                await refused
            assert why.value.code is Code.DATA_LOSS
        await kv.close()


async def scrub_all(kv):
    rows, begin = 0, b""
    while begin is not None:
        step = await kv.scrub(begin)
        rows, begin = rows + step.rows, step.next
    return rows


def flip_on_disk(directory, before, after):
    file = directory / "data.mdb"
    content = file.read_bytes()
    with file.open("r+b") as out:
        at = content.find(before)
        while at >= 0:
            out.seek(at)
            out.write(after)
            at = content.find(before, at + 1)


async def test_a_file_that_is_too_large_for_the_opening_is_left_to_the_scrub(made, monkeypatch):
    rotten = b"not a sum and a value"
    write_raw(made, {KEYS[7]: rotten})
    monkeypatch.setattr("fs3.drivers.lmdb.file_check.lmdb_opening_check_bytes_max", PAGE)
    kv = LmdbKV.open(made)
    assert kv.damaged_rows == ()
    with pytest.raises(KVRowDamaged):
        await kv.read(get(KEYS[7]))
    await scrub_all(kv)
    assert kv.damaged_rows == (KEYS[7],)
    await kv.close()


def test_known_damage_covers_the_keys_between_sound_neighbours():
    damage = KnownDamage([DamagedRow(b"f", b"b\0", b"k"), DamagedRow(b"y", b"x", None)])
    for key in (b"b\0", b"c", b"f", b"jjj", b"x", b"\xff" * 400):
        with pytest.raises(KVRowDamaged):
            damage.require_absent(key)
    for key in (b"a", b"b", b"k", b"w"):
        damage.require_absent(key)
    damage.require_whole(b"k", b"x")
    with pytest.raises(KVRowDamaged):
        damage.require_whole(b"", b"c")
    damage.replace(b"b", b"l", [])
    assert list(damage.rows) == [b"y"]


async def test_every_row_is_read_back(made):
    kv = LmdbKV.open(made)
    assert await read_all_rows(kv) == [(key, value_of(key)) for key in KEYS]
    await kv.close()
