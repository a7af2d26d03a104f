"""Opens and reads of one file each: a lone one is asked for on its own, those of many travel together."""

import asyncio
from types import SimpleNamespace

import pytest

from fs3.api.small_files import SmallFiles, small_file_bytes_max
from fs3.base.errors import NotFound, error
from fs3.base.status import Code

DATA = bytes(range(256)) * 2048


class Client:
    """Files that all have the same bytes, and the calls for them."""

    def __init__(self):
        self.calls = []

    async def open(self, path, mode="r"):
        self.calls.append("open")
        await asyncio.sleep(0)
        if path == "/none":
            raise error(Code.NOT_FOUND, "no such file", path)
        return file_of(path)

    async def pread(self, file, length, offset=0):
        self.calls.append("pread")
        await asyncio.sleep(0)
        return DATA[offset : offset + length]

    async def open_many(self, paths):
        self.calls.append(f"open {len(paths)}")
        await asyncio.sleep(0)
        return [error(Code.NOT_FOUND, "no such file", path) if path == "/none" else file_of(path) for path in paths]

    async def preadv_many(self, requests):
        self.calls.append(f"pread {len(requests)}")
        if any(file.path == "/broken" for file, _, _ in requests):
            raise error(Code.UNAVAILABLE, "one of them cannot be read")
        counts = []
        for _, offset, view in requests:
            found = DATA[offset : offset + len(view)]
            view[: len(found)] = found
            counts.append(len(found))
        return counts


def file_of(path):
    return SimpleNamespace(path=path, length=len(DATA), data=None)


@pytest.fixture
def client():
    return Client()


@pytest.fixture
def files(client):
    return SmallFiles(client)


async def test_one_after_the_other_each_asks_for_itself(client, files):
    for _ in range(3):
        file = await files.open("/f")
        assert await files.pread(file, 10, 5) == DATA[5:15]
    assert client.calls == ["open", "pread"] * 3


async def test_those_that_come_while_one_is_under_way_share_a_request(client, files):
    opened = await asyncio.gather(*(files.open(f"/{number}") for number in range(10)))
    assert [file.path for file in opened] == [f"/{number}" for number in range(10)]
    read = await asyncio.gather(*(files.pread(file, 300, 7 * at) for at, file in enumerate(opened)))
    assert read == [DATA[7 * at : 7 * at + 300] for at in range(10)]
    assert sorted(client.calls) == ["open", "open 9", "pread", "pread 9"]


async def test_a_batch_of_one_is_no_batch(client, files):
    first, missing = await asyncio.gather(files.open("/f"), files.open("/none"), return_exceptions=True)
    assert first.path == "/f"
    assert isinstance(missing, NotFound)
    assert client.calls == ["open", "open"]


async def test_a_missing_file_is_no_error_of_the_others(client, files):
    first, missing, last = await asyncio.gather(*map(files.open, ["/f", "/none", "/g"]), return_exceptions=True)
    assert (first.path, last.path) == ("/f", "/g")
    assert isinstance(missing, NotFound)
    assert (await files.open("/h")).path == "/h"
    assert client.calls == ["open", "open 2", "open"], "after a failure nothing counts as under way"


async def test_a_shared_read_that_fails_is_asked_for_on_its_own(client, files):
    broken = [file_of(path) for path in ("/f", "/broken", "/g")]
    assert await asyncio.gather(*(files.pread(file, 4, 0) for file in broken)) == [DATA[:4]] * 3
    assert client.calls.count("pread") == 3


async def test_a_large_range_travels_alone_and_an_end_is_an_end(client, files):
    file = file_of("/f")
    size = small_file_bytes_max + 1
    whole = await asyncio.gather(*(files.pread(file, size, 0) for _ in range(3)))
    assert whole == [DATA[:size]] * 3
    assert client.calls == ["pread"] * 3
    assert await asyncio.gather(*(files.pread(file, 100, len(DATA) - 3) for _ in range(2))) == [DATA[-3:]] * 2
