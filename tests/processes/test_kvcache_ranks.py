"""Two ranks of one engine, each a process with a cache of its own, that agree in collectives on how much of a prompt is there.

A rank that raises, waits for ever or leaves out a key makes the other one wait for it in the next collective. So whatever happens
to one of them, both make the same number of collectives, within their timeouts, and read the same pages.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

import fs3
from fs3.api.kvcache import BlockingKVCache, Status
from fs3.cli.local import LocalCluster

PAGE = 3000
TIMEOUT_SECONDS = 2.0
KEYS = [f"block-{number}" for number in range(8)]

RANK = """
import json, socket, struct, sys
import fs3

url, namespace, page_bytes, timeout, descriptor = sys.argv[1:]
page_bytes = int(page_bytes)
other = socket.socket(fileno=int(descriptor))
other.settimeout(60)

def all_reduce_min(value):
    other.sendall(struct.pack(">q", value))
    return min(value, *struct.unpack(">q", other.recv(8, socket.MSG_WAITALL)))

def prefix(statuses):
    return next((at for at, status in enumerate(statuses) if not status.ok), len(statuses))

cache = fs3.BlockingKVCache(url, namespace=namespace, page_bytes=page_bytes, timeout=float(timeout))
print("ready", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    found = cache.lookup(request["keys"], lease_ms=5000)
    hits = all_reduce_min(found.hits)
    if request["lose"]:
        cache.remove(request["lose"])
    rooms = [bytearray(page_bytes) for _ in range(hits)]
    read = all_reduce_min(prefix(cache.get_into(request["keys"][:hits], rooms)))
    good = all(bytes(room) == key.encode().ljust(page_bytes, b".") for key, room in zip(request["keys"], rooms[:read]))
    print(json.dumps([found.hits, hits, read, good]), flush=True)
"""


class Rank:
    """One process. It is asked for a prompt, and says [pages found, pages both found, pages both read, they are right]."""

    def __init__(self, url: str, namespace: str, collective: socket.socket) -> None:
        self.namespace = namespace
        descriptor = collective.fileno()
        command = [sys.executable, "-c", RANK, url, namespace, str(PAGE), str(TIMEOUT_SECONDS), str(descriptor)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, pass_fds=[descriptor])
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def ask(self, keys: list[str], lose: list[str]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"keys": keys, "lose": lose}) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(60) == 0


class Ranks:
    """Two of them."""

    def __init__(self, urls: tuple[str, str], namespaces: tuple[str, str]) -> None:
        ends = socket.socketpair()
        self.ranks = [Rank(*each) for each in zip(urls, namespaces, ends, strict=True)]
        for end in ends:
            end.close()

    def ask(self, keys: list[str], lose: list[str] | None = None) -> tuple[list[int], int, int]:
        """A prompt for both; the second one loses some pages between its lookup and its get. What each has found, and what both
        have found and read."""
        for rank, lost in zip(self.ranks, ([], lose or []), strict=True):
            rank.ask(keys, lost)
        answers = [rank.answer() for rank in self.ranks]
        assert answers[0][1:] == answers[1][1:], "they do not agree"
        assert answers[0][3], "other bytes than were stored"
        return [answer[0] for answer in answers], answers[0][1], answers[0][2]

    def close(self) -> None:
        for rank in self.ranks:
            rank.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(storage=3, replicas=2, targets=2) as cluster:
        yield cluster


@pytest.fixture(params=["heads", "latents"])
def ranks(request: pytest.FixtureRequest, cluster: LocalCluster) -> Iterator[Ranks]:
    """Each with pages of its own, or both with the same ones; all are stored."""
    name = f"{request.param}-{uuid.uuid4().hex}"
    namespaces = (name, name) if request.param == "latents" else (f"{name}/0", f"{name}/1")
    for namespace in set(namespaces):
        with BlockingKVCache(cluster.url, namespace=namespace, page_bytes=PAGE) as cache:
            assert set(cache.put_from(KEYS, [key.encode().ljust(PAGE, b".") for key in KEYS])) == {Status.OK}
    ranks = Ranks((cluster.url, cluster.url), namespaces)
    yield ranks
    ranks.close()


def test_both_read_the_same_pages(cluster: LocalCluster, ranks: Ranks) -> None:
    assert ranks.ask(KEYS) == ([8, 8], 8, 8)
    assert ranks.ask([*KEYS[:3], "absent", *KEYS[3:]]) == ([3, 3], 3, 3)
    # One of them has lost a page that the other has, before the lookup and after it.
    second = ranks.ranks[1]
    with BlockingKVCache(cluster.url, namespace=second.namespace, page_bytes=PAGE) as cache:
        cache.remove(KEYS[5:6])
    found, hits, read = ranks.ask(KEYS)
    assert (found[1], hits, read) == (5, 5, 5)
    found, hits, read = ranks.ask(KEYS, lose=KEYS[2:3])
    shared = second.namespace == ranks.ranks[0].namespace
    assert (found, hits) == ([5, 5] if shared else [8, 5], 5)
    assert read in ((2, 5) if shared else (2,)), "one may have read a page of both before the other removes it"


def test_storage_that_is_gone_keeps_nobody_waiting(cluster: LocalCluster, ranks: Ranks) -> None:
    names = ("storage-1", "storage-2", "storage-3")
    cluster.pause(*names)
    try:
        for _ in range(5):
            assert ranks.ask(KEYS) == ([0, 0], 0, 0)
    finally:
        cluster.resume(*names)
    while ranks.ask(KEYS)[2] < 8:
        pass


def test_a_cluster_that_one_of_them_cannot_reach(cluster: LocalCluster) -> None:
    """It is on another host, whose network is gone: here, a cluster of its own that is killed."""
    with LocalCluster(storage=1, replicas=1, targets=1) as doomed:
        pages = [key.encode().ljust(PAGE, b".") for key in KEYS]
        for url in (cluster.url, doomed.url):
            with fs3.BlockingKVCache(url, namespace="apart", page_bytes=PAGE) as cache:
                cache.put_from(KEYS, pages)
        ranks = Ranks((cluster.url, doomed.url), ("apart", "apart"))
        assert ranks.ask(KEYS) == ([8, 8], 8, 8)
        doomed.kill()
        for _ in range(5):
            assert ranks.ask(KEYS) == ([8, 0], 0, 0)
        ranks.close()
