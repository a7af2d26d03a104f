"""Callers open and read on their own threads while the services they talk to are killed, stand still and come back: they get the
same answers as everybody."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import fsspec
import pytest

from fs3.base.errors import DeadlineExceeded
from fs3.cli.local import LocalCluster
from tests.space import SpaceGuard

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(240),
    # Python 3.12 warns of fork() beside threads. That it works nevertheless is what is tested here.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

METAS = ("meta", "meta-2")
SMALL = b"beside its inode"
LARGE = os.urandom(300_000)


@pytest.fixture(scope="module")
def pair(space_guard: SpaceGuard) -> Iterator[LocalCluster]:
    """Two metadata processes."""
    with (
        space_guard.lend("direct-opens") as home,
        LocalCluster(home / "cluster", storage=1, replicas=1, targets=1, metas=2) as cluster,
    ):
        yield cluster


@pytest.fixture
def fs(pair: LocalCluster) -> Iterator[Any]:
    made = fsspec.filesystem("fs3", cluster=pair.address, skip_instance_cache=True)
    made.pipe({"/d/small": SMALL, "/d/large": LARGE})
    yield made
    made.rm("/d", recursive=True)
    made.close()


@pytest.fixture
def direct(fs: Any, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Per request that was tried without the loop, whether it was done."""
    meta = fs._pool.get_nowait(fs.loop).meta
    ask = meta.ask_directly
    tried: list[bool] = []

    def noted(request: Any) -> Any:
        tried.append(False)
        answer = ask(request)
        tried[-1] = answer is not None
        return answer

    monkeypatch.setattr(meta, "ask_directly", noted)
    return tried


def look(fs: Any) -> None:
    """Everything there is to ask for, with the answers that are right."""
    assert fs.cat_file("/d/small") == SMALL
    assert fs.cat_file("/d/large", 1000, 5096) == LARGE[1000:5096]
    with fs.open("/d/large", "rb") as file:
        file.seek(200_000)
        assert file.read(100) == LARGE[200_000:200_100]
    with pytest.raises(FileNotFoundError) as missing:
        fs.cat_file("/d/none")
    assert missing.value.filename == "/d/none"
    with pytest.raises(IsADirectoryError):
        fs.open("/d", "rb")


def look_until(fs: Any, reached: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < give_up_at
        look(fs)


@contextmanager
def readers(fs: Any, count: int) -> Iterator[Callable[[int], None]]:
    """Threads that look all the time; a function that waits for so many more looks of each."""
    looks = [0] * count
    stop = threading.Event()

    def work(number: int) -> None:
        while not stop.is_set():
            look(fs)
            looks[number] += 1

    with ThreadPoolExecutor(count) as pool:
        working = [pool.submit(work, number) for number in range(count)]

        def progress(more: int) -> None:
            wanted = [seen + more for seen in looks]
            give_up_at = time.monotonic() + 60
            while any(seen < goal for seen, goal in zip(looks, wanted, strict=True)):
                assert time.monotonic() < give_up_at
                for one in working:
                    if one.done():
                        one.result()
                time.sleep(0.01)

        try:
            yield progress
        finally:
            stop.set()
        for one in working:
            one.result()


def done_again(direct: list[bool]) -> Callable[[], bool]:
    """Requests are done without the loop from now on."""
    begin = len(direct)
    return lambda: any(direct[begin:])


@pytest.mark.parametrize("count", [1, 5])
def test_services_are_killed_in_turn(pair: LocalCluster, fs: Any, direct: list[bool], count: int) -> None:
    look_until(fs, done_again(direct))
    with readers(fs, count) as progress:
        for name in METAS:
            progress(3)
            pair.kill(name)
            progress(3)
            pair.start(name)
    look_until(fs, done_again(direct))


def test_services_stand_still_in_turn(pair: LocalCluster, fs: Any, direct: list[bool]) -> None:
    look_until(fs, done_again(direct))
    for name in METAS:
        pair.pause(name)
        try:
            look(fs)
            look(fs)
        finally:
            pair.resume(name)
    look_until(fs, done_again(direct))


def test_the_only_service_is_waited_for_until_it_is_back(pair: LocalCluster, fs: Any, direct: list[bool]) -> None:
    look_until(fs, done_again(direct))
    pair.kill(*METAS)
    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look, fs)
        with pytest.raises(DeadlineExceeded):
            fs.cat_file("/d/small", timeout=0.3)
        for name in METAS:
            pair.start(name)
        looking.result(60)
    look_until(fs, done_again(direct))


def test_forked_children_have_connections_of_their_own(pair: LocalCluster, fs: Any, direct: list[bool]) -> None:
    look_until(fs, done_again(direct))
    with readers(fs, 1) as progress:
        progress(1)
        children = []
        for _ in range(3):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    for _ in range(5):
                        look(fs)
                    status = 0
                finally:
                    os._exit(status)
            children.append(child)
        progress(3)
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    look_until(fs, done_again(direct))
