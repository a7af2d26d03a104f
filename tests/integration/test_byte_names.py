"""Names that are not UTF-8 through the native client, fsspec and the wires."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import fs3
from fs3.api.client import Client
from fs3.base.errors import FS3Error, NotFound

RAW = "caf\udce9"
OTHER = "\udcff\udcfe"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with await fs3.connect_embedded(tmp_path / "fs3") as client:
        yield client


async def test_the_native_client_takes_and_gives_them(client: Client) -> None:
    await client.makedirs(f"/{RAW}/{OTHER}")
    file = await client.open(f"/{RAW}/f", "w")
    await client.pwrite(file, b"x")
    await client.close(file)
    await client.rename(f"/{RAW}/f", f"/{RAW}/{OTHER}/g")
    await client.link(f"/{RAW}/{OTHER}/g", f"/{OTHER}")
    await client.symlink(f"{RAW}/{OTHER}", "/s")
    assert await client.readlink("/s") == f"{RAW}/{OTHER}"
    assert await client.pread(await client.open("/s/g"), 9) == b"x"
    assert [entry.name for entry in await client.list_all("/", with_inodes=True)] == [RAW, "s", OTHER]
    assert [entry.name async for entry in client.list("/", after=RAW)] == ["s", OTHER]
    found = await client.batch_stat([f"/{OTHER}", f"/{RAW}/none", "/s/g"])
    assert found[0] == found[2]
    assert isinstance(found[1], NotFound)
    assert found[1].filename == f"/{RAW}/none"


async def test_errors_show_them_escaped(client: Client) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        await client.stat(f"/{OTHER}")
    assert caught.value.filename == f"/{OTHER}"
    assert r"'/\udcff\udcfe'" in str(caught.value)
    await client.mkdir("/d")
    with pytest.raises(FS3Error) as refused:
        await client.rename("/d", f"/{RAW}/x")
    str(refused.value).encode()
    with pytest.raises(ValueError, match="surrogates"):
        await client.stat("/\ud800")


async def test_the_next_page_begins_behind_one(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fs3.api.namespace.list_entries_max", 2)
    names = ["a", RAW, f"{RAW}\udc80", "é", "\udcff"]
    for name in names:
        await client.mkdir(f"/{name}")
    assert [entry.name for entry in await client.list_all("/")] == names


def test_fsspec_takes_and_gives_them(fs: Any, room: str) -> None:
    fs.pipe_file(f"{room}/{RAW}/{OTHER}", b"data")
    assert fs.cat_file(f"{room}/{RAW}/{OTHER}") == b"data"
    with fs.open(f"{room}/{RAW}/written", "wb") as file:
        file.write(b"x" * 300_000)
    assert fs.ls(f"{room}/{RAW}", detail=False) == [f"{room}/{RAW}/written", f"{room}/{RAW}/{OTHER}"]
    fs.symlink(f"{RAW}/{OTHER}", f"{room}/s")
    assert fs.info(f"{room}/s")["destination"] == f"{RAW}/{OTHER}"
    assert fs.info(f"{room}/s")["size"] == 4
    assert fs.find(room) == sorted(f"{room}/{name}" for name in ("s", f"{RAW}/written", f"{RAW}/{OTHER}"))
    assert fs.find(f"{room}/{RAW}", prefix="\udcff") == [f"{room}/{RAW}/{OTHER}"]
    assert fs.glob(f"{room}/*/*{OTHER[1]}") == [f"{room}/{RAW}/{OTHER}"]
    fs.mv(f"{room}/{RAW}/{OTHER}", f"{room}/{OTHER}")
    fs.cp_file(f"{room}/{OTHER}", f"{room}/copy\udcff")
    assert fs.cat([f"{room}/{OTHER}", f"{room}/copy\udcff"]) == {f"{room}/{OTHER}": b"data", f"{room}/copy\udcff": b"data"}
    assert [len(names) for _, _, names in fs.walk(room)] == [3, 1]
    fs.rm(f"{room}/{RAW}", recursive=True)
    with pytest.raises(FileNotFoundError):
        fs.info(f"{room}/{RAW}")
