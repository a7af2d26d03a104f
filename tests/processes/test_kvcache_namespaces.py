"""Namespaces of a real cluster: made with settings, set while in use, cleared, deleted; by program and on the command line."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

import fs3
from fs3.api.kvcache import KVCache, Status
from fs3.base.errors import Exists, InvalidArgument, NotFound
from fs3.base.units import SECOND
from fs3.cli.local import LocalCluster
from fs3.cli.main import app, main

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

PAGE = 10_007
WAIT_NS = 10 * SECOND
WAIT_S = 60


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as local:
        yield local


def page_of(number: int) -> bytes:
    return number.to_bytes(2, "big") * (PAGE // 2) + b"."


KEYS = [b"%d" % number for number in range(50)]
PAGES = [page_of(number) for number in range(50)]


async def chunk_count(client: fs3.Client) -> int:
    """Of all targets."""
    return sum(target.chunks for target in await client.storage.space())


async def wait_chunk_count(client: fs3.Client, count: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while await chunk_count(client) != count:
            pass


async def test_a_deleted_namespace_leaves_nothing_behind(cluster: LocalCluster) -> None:
    async with await fs3.connect(cluster.url) as client, await fs3.connect(cluster.url) as other:
        cache = await KVCache.of(client, namespace="brief", page_bytes=PAGE)
        beside = await KVCache.of(client, namespace="beside", page_bytes=PAGE)
        before = await chunk_count(client)
        assert await cache.put_from(KEYS, PAGES) == [Status.OK] * 50
        assert await beside.put_from(KEYS[:3], PAGES[:3]) == [Status.OK] * 3

        deletions = client.manager.routing.namespace_deletions
        await KVCache.delete_namespace(other, "brief")
        assert [each.name for each in await KVCache.list_namespaces(other, "b")] == ["beside"]
        await wait_chunk_count(client, before + 3 * 3)

        # Who has it open finds nothing, and is told when it stores.
        await client.manager.wait_routing(lambda routing: routing.namespace_deletions > deletions, WAIT_NS)
        assert await cache.get_into([b"1"], [bytearray(PAGE)]) == [Status.MISS]
        assert (await cache.lookup([b"1"])).statuses == [Status.MISS]
        assert await cache.remove([b"1"]) == [Status.OK]
        await cache.clear()
        with pytest.raises(FileNotFoundError, match="the namespace was deleted: 'brief'"):
            await cache.put_from([b"1"], [PAGES[1]])
        # Nor does it find what is stored under its name afterwards, even when that was cleared meanwhile.
        again = await KVCache.of(other, namespace="brief", page_bytes=PAGE)
        await again.clear()
        assert await again.put_from([b"1"], [PAGES[2]]) == [Status.OK]
        assert await cache.get_into([b"1"], [bytearray(PAGE)]) == [Status.MISS]
        assert (await beside.lookup(KEYS)).hits == 3
        for gone in (KVCache.delete_namespace, KVCache.clear_namespace, KVCache.get_namespace):
            with pytest.raises(FileNotFoundError, match="no such namespace: 'gone'"):
                await gone(other, "gone")


async def test_a_handle_that_shares_the_client_hears_of_a_deletion_first(cluster: LocalCluster) -> None:
    async with await fs3.connect(cluster.url) as client:
        cache = await KVCache.of(client, namespace="shared", page_bytes=PAGE)
        before = await chunk_count(client)
        assert await cache.put_from(KEYS[:1], PAGES[:1]) == [Status.OK]
        await KVCache.delete_namespace(client, "shared")
        assert (await cache.lookup(KEYS[:1])).statuses == [Status.MISS]
        await wait_chunk_count(client, before)


async def test_a_namespace_is_cleared_for_everybody(cluster: LocalCluster) -> None:
    async with await fs3.connect(cluster.url) as client, await fs3.connect(cluster.url) as other:
        cache = await KVCache.of(client, namespace="cleared", page_bytes=PAGE, budget_bytes=1 << 30)
        beside = await KVCache.of(other, namespace="cleared", page_bytes=PAGE)
        before = await chunk_count(client)
        assert await cache.put_from(KEYS, PAGES) == [Status.OK] * 50
        assert (await beside.lookup(KEYS)).hits == 50
        ids = [cache.namespace_id]
        for _ in range(2):
            deletions = other.manager.routing.namespace_deletions
            await cache.clear()
            ids.append(cache.namespace_id)
            assert (await cache.lookup(KEYS)).statuses == [Status.MISS] * 50
            await other.manager.wait_routing(lambda routing, known=deletions: routing.namespace_deletions > known, WAIT_NS)  # type: ignore[misc]
            # The others go on, each with its next call, and share what is stored from now on.
            assert await beside.get_into(KEYS[:1], [bytearray(PAGE)]) == [Status.MISS]
            assert await beside.put_from(KEYS[:1], PAGES[1:2]) == [Status.OK]
            buffer = bytearray(PAGE)
            assert await cache.get_into(KEYS[:1], [buffer]) == [Status.OK]
            assert buffer == PAGES[1]
            await wait_chunk_count(client, before + 3)
        assert ids == sorted(set(ids)), "no id comes twice"
        cleared = await KVCache.clear_namespace(cluster.url, "cleared")
        assert (cleared.budget_bytes, cleared.page_bytes, cleared.made_as) == (1 << 30, PAGE, ids[0])
        await wait_chunk_count(client, before)


async def test_what_another_client_has_stored_since_it_cleared_is_cleared_too(cluster: LocalCluster) -> None:
    """Also by a client that has heard of nothing, and knows the namespace under an id that it has no more."""
    async with await fs3.connect(cluster.url) as client, await fs3.connect(cluster.url) as other:
        cache = await KVCache.of(client, namespace="twice", page_bytes=PAGE)
        beside = await KVCache.of(other, namespace="twice", page_bytes=PAGE)
        first = beside.namespace_id
        await cache.clear()
        assert await cache.put_from(KEYS[:1], PAGES[:1]) == [Status.OK]
        assert beside.namespace_id == first
        deletions = client.manager.routing.namespace_deletions
        await beside.clear()
        assert await beside.put_from(KEYS[1:2], PAGES[1:2]) == [Status.OK]
        await client.manager.wait_routing(lambda routing: routing.namespace_deletions > deletions, WAIT_NS)
        assert (await cache.lookup(KEYS[:2])).bitmap == [False, True]
        # Whoever deletes it need not know how often it was cleared.
        stale = await KVCache.get_namespace(client, "twice")
        await beside.clear()
        await client.manager.delete_namespace(stale.name, stale.made_as)
        assert await KVCache.list_namespaces(other, "twice") == []


async def test_settings_are_set_while_it_is_in_use(cluster: LocalCluster) -> None:
    async with await fs3.connect(cluster.url) as client:
        settings = {"budget_bytes": 1 << 30, "ttl": 0.5, "pin_bytes": 1 << 20, "owner": "team"}
        cache = await KVCache.of(client, namespace="limited", page_bytes=PAGE, **settings)  # type: ignore[arg-type]
        found = await KVCache.get_namespace(client, "limited")
        assert (found.budget_bytes, found.ttl_ms, found.pin_bytes, found.owner) == (1 << 30, 500, 1 << 20, "team")
        # Opened again, it keeps its own.
        await KVCache.of(client, namespace="limited", page_bytes=PAGE, budget_bytes=1 << 40)
        assert await KVCache.get_namespace(client, "limited") == found
        changed = await KVCache.set_namespace(client, "limited", budget_bytes=math.inf, ttl=3600)
        assert (changed.budget_bytes, changed.ttl_ms, changed.pin_bytes, changed.owner) == (0, 3_600_000, 1 << 20, "team")
        assert await KVCache.get_namespace(cluster.url, "limited") == changed
        assert await cache.put_from(KEYS[:1], PAGES[:1]) == [Status.OK]
        with pytest.raises(InvalidArgument, match=f"budget_bytes is {PAGE - 1}, must be {PAGE} .one page."):
            await KVCache.set_namespace(client, "limited", budget_bytes=PAGE - 1)
        with pytest.raises(InvalidArgument, match="pin_bytes is 1048576, must be at most the budget of 20000"):
            await KVCache.set_namespace(client, "limited", budget_bytes=20_000)
        with pytest.raises(InvalidArgument, match=f"budget_bytes 10: {PAGE} to"):
            await KVCache.of(client, namespace="new", page_bytes=PAGE, budget_bytes=10)
        with pytest.raises(NotFound, match="no such namespace: 'new'"):
            await KVCache.set_namespace(client, "new", ttl=1)


async def test_one_that_is_there_is_not_made_again(cluster: LocalCluster) -> None:
    made = await KVCache.create_namespace(cluster.url, "once", page_bytes=PAGE, replicas=1, ttl=60, owner="team")
    assert (made.page_bytes, made.replicas, made.budget_bytes, made.ttl_ms, made.owner) == (PAGE, 1, 0, 60_000, "team")
    with pytest.raises(Exists, match="there is such a namespace already: 'once'"):
        await KVCache.create_namespace(cluster.url, "once", page_bytes=PAGE)
    with fs3.BlockingKVCache(cluster.url, namespace="once", page_bytes=PAGE, owner="others") as cache:
        assert (cache.replicas, cache.clear()) == (1, None)
    assert (await KVCache.get_namespace(cluster.url, "once")).owner == "team"


def kv(cluster: LocalCluster, *arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, ["kv", *arguments, "--cluster", cluster.url])
    assert result.exit_code == status, result.output
    return result.output


def table(text: str) -> dict[str, str]:
    return {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1].strip() for line in text.splitlines()[1:]}


def test_on_the_command_line(cluster: LocalCluster) -> None:
    made = kv(
        cluster, "create", "cli/new", "--page", "2000", "--replicas", "2", "--budget", "10GB", "--ttl", "1.5h", "--pins", "1MiB"
    )
    assert table(made) | {"id": ""} == {
        "name": "cli/new",
        "page": "2.0 KiB (2000 bytes)",
        "replicas": "2",
        "budget": "9.3 GiB",
        "ttl": "1.5h",
        "pins": "1.0 MiB",
        "owner": "none",
        "tenant": "none",
        "id": "",
    }
    assert kv(cluster, "show", "cli/new") == made
    changed = json.loads(kv(cluster, "set", "cli/new", "--budget", "none", "--ttl", "7d", "--owner", "team", "--json"))
    wanted = {"budget_bytes": 0, "ttl_ms": 7 * 24 * 3_600_000, "pin_bytes": 1 << 20, "owner": "team", "replicas": 2}
    assert {name: changed[name] for name in wanted} == wanted
    kv(cluster, "create", "cli/old", "--page", "2000")

    async def put() -> None:
        async with await KVCache.open(cluster.url, namespace="cli/new", page_bytes=2000) as cache:
            assert await cache.put_from(["a", "b"], [bytes(2000)] * 2) == [Status.OK] * 2

    asyncio.run(put())
    assert [" ".join(line.split()) for line in kv(cluster, "ls", "cli/").splitlines()[1:]] == [
        "cli/new 2.0 KiB 2 none 7d 1.0 MiB team",
        "cli/old 2.0 KiB 3 none none none",
    ]
    assert kv(cluster, "clear", "cli/new") == "cli/new: cleared\n"
    assert json.loads(kv(cluster, "show", "cli/new", "--json")) == changed | {"id": changed["id"] + 2}
    asyncio.run(put())
    assert sorted(kv(cluster, "rm", "cli/none", "cli/old", "cli/new", status=1).splitlines()) == [
        "cli/new: deleted",
        "cli/old: deleted",
        "fs3: there is no such namespace: 'cli/none'",
    ]
    assert json.loads(kv(cluster, "ls", "cli/", "--json")) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "bad", "--page", "four"), "'four' is not a size such as"),
        (("create", "bad", "--page", "1000", "--ttl", "soon"), "'soon' is not a duration such as"),
        (("create", "bad", "--page", "1000", "--budget", "-1"), "'-1' is not a size such as"),
        (("set", "bad"), "nothing to set"),
        (("set", "bad", "--pins", "none"), "'none' is not a size such as"),
        (("set", "bad", "--ttl", "0"), "'0' is not a duration such as"),
        (("create", "bad"), "Missing option '--page'"),
        (("clear",), "Missing argument 'names'"),
        (("rm",), "Missing argument 'names'"),
        (("ls", "a", "b"), "unexpected extra argument"),
        (("stat", "bad", "xy", "--hex"), "'xy' is not hexadecimal"),
    ],
)
def test_what_cannot_be_on_the_command_line(cluster: LocalCluster, arguments: tuple[str, ...], words: str) -> None:
    said = " ".join(kv(cluster, *arguments, status=2).replace("│", " ").split())
    assert words in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "", "--page", "1000"), "namespace '' has 0 bytes; 1 to 255 are allowed"),
        (("create", "x" * 256, "--page", "1000"), "has 256 bytes; 1 to 255 are allowed"),
        (("create", "x\udcff", "--page", "1000"), "has no UTF-8"),
        (("create", "bad", "--page", "0"), "page_bytes 0: 1 to 67108864 are allowed"),
        (("create", "bad", "--page", "65MiB"), "page_bytes 68157440: 1 to 67108864 are allowed"),
        (("create", "bad", "--page", "1000", "--replicas", "-1"), "replicas -1: 0 to 16 are allowed"),
        (("create", "bad", "--page", "1000", "--budget", "999"), "budget_bytes 999: 1000 to"),
        (("create", "bad", "--page", "1000", "--budget", "1000", "--pins", "2000"), "pin_bytes 2000: 0 to 1000 are allowed"),
        (("create", "bad", "--page", "1000", "--owner", "o" * 256), "owner has 256 bytes; at most 255 are allowed"),
        (("set", "bad", "--ttl", "99999d"), "ttl 8639913600.0: seconds, more than 0 and at most"),
        (("set", "bad", "--ttl", "1h"), "no such namespace: 'bad'"),
        (("show", "bad"), "no such namespace: 'bad'"),
        (("stat", "bad", "k" * 4097), "the key has 4097 bytes; 1 to 4096 are allowed"),
        (("stat", "bad", "k"), "no such namespace: 'bad'"),
    ],
)
def test_what_no_namespace_can_be_is_one_line(
    cluster: LocalCluster,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["fs3", "kv", *arguments, "--cluster", cluster.url])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (1, "")
    assert words in said.err
    assert said.err.count("\n") == 1


def test_names_that_cannot_be_keep_nothing_from_the_others(cluster: LocalCluster) -> None:
    for name in ("first", "last"):
        kv(cluster, "create", f"cli/{name}", "--page", "1000")
    for verb, done in (("clear", "cleared"), ("rm", "deleted")):
        said = kv(cluster, verb, "cli/first", "", "x" * 300, "cli/none", "cli/last", status=1)
        assert [line for line in said.splitlines() if not line.startswith("fs3: ")] == [f"cli/first: {done}", f"cli/last: {done}"]
        assert said.count("1 to 255 are allowed") == 2
    assert json.loads(kv(cluster, "ls", "cli/", "--json")) == []


async def test_nothing_to_set(cluster: LocalCluster) -> None:
    with pytest.raises(InvalidArgument, match="nothing to set: give budget_bytes, ttl, pin_bytes, owner or tenant"):
        await KVCache.set_namespace(cluster.url, "any")
