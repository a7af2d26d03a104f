"""A service process that cannot do its duty any more stops as it should, and ends with the reason."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.cli import serve, wiring
from fs3.cli.directory import ClusterDirectory
from fs3.cli.options import ServeOptions, ServiceRole


def options(path: Path) -> ServeOptions:
    return ServeOptions(ServiceRole.meta, "meta-7", path, "", "", "", "", (), 1, 1, 1, None)


@pytest.mark.parametrize("when", ["while it starts", "while it serves"])
def test_a_failed_service_is_stopped_and_the_reason_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    stopped: list[str] = []

    async def start_service(options: ServeOptions, stack: AsyncExitStack) -> dict[str, str]:
        stack.callback(stopped.append, options.name)
        asyncio.get_running_loop().call_soon(options.shutdown.fail, error(Code.DISK, "the disk fails"))
        asyncio.get_running_loop().call_soon(options.shutdown.fail, error(Code.DISK, "what came of it"))
        if when == "while it starts":
            await asyncio.Event().wait()
        return {}

    monkeypatch.setattr(wiring, "start_service", start_service)
    with pytest.raises(FS3Error, match="meta-7 has ended, as it cannot do its duty: the disk fails"):
        asyncio.run(serve._run(options(tmp_path), None))
    assert stopped == ["meta-7"]


def test_the_last_line_of_a_process_is_found(tmp_path: Path) -> None:
    directory = ClusterDirectory(tmp_path)
    assert directory.last_line("meta") == ""
    log = directory.log_path("meta")
    log.parent.mkdir(parents=True)
    log.write_bytes(b"")
    assert directory.last_line("meta") == ""
    log.write_text("x" * 10_000 + "\nfs3: meta has ended\n\n")
    assert directory.last_line("meta") == "fs3: meta has ended"
