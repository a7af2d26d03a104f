"""The page of a cluster in a real browser, and who serves it.

With FS3_SCREENSHOTS, pictures of the page and the figures of a large cluster are kept in that directory.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener, urlopen

import pytest

from fs3.api.connect import connect
from fs3.api.kvcache import KVCache
from fs3.base.ids import NodeId
from fs3.cli.local import LocalCluster
from fs3.cli.ports import free_ports
from fs3.core.dashboard.changes import changes_between
from fs3.drivers.os.clock import OsClock
from fs3.model.chain import PublicState
from fs3.services.mgmtd.dashboard import DashboardFeed
from tests.chromium import Chromium, find_chromium
from tests.simulated_cluster import SCRIPT, SimulatedCluster, ToldSurvey, serve_page
from tests.space import SpaceGuard

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]
SIZES = ((360, 800), (1280, 900), (3840, 2160))
needs_chromium = pytest.mark.skipif(
    find_chromium() is None, reason="no Chromium is installed (apt-get install chromium): the page was looked at by no browser"
)
ROOT_DATA = "document.documentElement.dataset"


@contextmanager
def served_cluster(home: Path, **shape: Any) -> Iterator[LocalCluster]:
    """A cluster whose processes have metrics ports."""
    cluster = LocalCluster(home / "cluster", **shape)
    cluster.shape.metrics_port = free_ports(len(cluster.shape.names()))
    with cluster:
        yield cluster


def page_url(cluster: LocalCluster, manager: str = "mgmtd") -> str:
    return f"http://127.0.0.1:{cluster.shape.metrics_port_of(manager)}/"


@pytest.fixture
def browser(space_guard: SpaceGuard) -> Iterator[Chromium]:
    program = find_chromium()
    assert program is not None
    with space_guard.lend("browser") as home, Chromium(program, home / "profile") as found:
        found.resize(1280, 900)
        yield found


def keep_pictures(browser: Chromium, name: str) -> None:
    """Of each size, and of the dark page, where they are wanted."""
    if not (wanted := os.environ.get("FS3_SCREENSHOTS")):
        return
    for width, height in SIZES:
        browser.resize(width, height)
        browser.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 300)))")
        browser.screenshot(Path(wanted) / f"{name}-{width}.png")
    browser.resize(1280, 900)
    browser.prefer("dark")
    browser.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 300)))")
    browser.screenshot(Path(wanted) / f"{name}-dark.png")
    browser.prefer("light")


async def fill_caches(url: str) -> None:
    async with await connect(url) as client:
        for name in (SCRIPT, "deepseek-v3@fp8/tp8"):
            async with await KVCache.of(client, namespace=name, page_bytes=4096) as cache:
                keys = [b"%d" % number for number in range(20)]
                assert all(status.ok for status in await cache.put_from(keys, [bytes(4096)] * 20))
                assert (await cache.lookup([*keys, b"unknown"])).hits == 20


@needs_chromium
def test_a_node_is_killed_under_load_and_the_page_shows_that_and_how_it_heals(
    space_guard: SpaceGuard, browser: Chromium, under_load: Callable[..., Any]
) -> None:
    with space_guard.lend("dashboard") as home, served_cluster(home, storage=4, targets=3) as cluster:
        asyncio.run(fill_caches(cluster.url))
        with under_load(cluster):
            browser.open(page_url(cluster))
            browser.wait_for(f"{ROOT_DATA}.state === 'live'")
            assert browser.text("#verdict") == "Healthy"
            browser.wait_for("document.querySelectorAll('[data-node]').length === 5")
            browser.wait_for("document.querySelector('#now-bytes').textContent.includes('MiB/s')")
            browser.wait_for(f"document.querySelector('#caches-rows').textContent.includes({json.dumps(SCRIPT)})")
            keep_pictures(browser, "well")

            cluster.kill("storage-2")
            node = "document.querySelector('[data-node=\"storage-2\"]')"
            browser.wait_for(f"{node}.dataset.state === 'silent'")
            assert "silent" in browser.text('[data-node="storage-2"]')
            assert "storage-2 has not been heard" in browser.text('[data-code="node-silent"]')
            browser.wait_for(f"{node}.dataset.state === 'dead'")
            browser.wait_for("document.querySelector('#verdict').textContent === 'Degraded'")
            browser.wait_for("document.querySelector('[data-code=\"node-dead\"]')?.dataset.severity === 'degraded'")
            assert "node storage-2 is dead" in browser.text('[data-code="node-dead"]')
            browser.wait_for("document.querySelector('[data-code=\"target-behind\"]')?.dataset.severity === 'degraded'")
            browser.wait_for("document.querySelector('#chains-rows').textContent.includes('storage-2: offline')")
            browser.wait_for("document.querySelector('#events').textContent.includes('storage-2 (storage) has stopped')")
            assert "degraded" in browser.text("title")
            browser.wait_for("document.querySelector('#slow-rows').textContent.includes('Storage.Update')")
            keep_pictures(browser, "degraded")

            cluster.start("storage-2")
            browser.wait_for(f"{node}.dataset.state === 'well'")
            browser.wait_for("document.querySelector('#verdict').textContent === 'Healthy'")
            browser.wait_for("document.querySelector('#events').textContent.includes('was syncing and is serving')")
            browser.wait_for("document.querySelector('#chains-odd').hidden")
            assert browser.text("#resyncs") == "Nothing has to be repaired."
            keep_pictures(browser, "healed")
        assert browser.evaluate("document.title") != "owned"
        assert browser.console == []


@needs_chromium
def test_a_large_cluster_on_the_page(browser: Chromium) -> None:
    """180 nodes and 10 000 chains: what it takes is written down, and bounded where it does not depend on the machine."""
    clock = OsClock()
    cluster = SimulatedCluster(180, 10_000, clock)
    with serve_page(cluster, clock) as url:
        browser.open(f"{url}/")
        first_ms = browser.wait_for(f"Number({ROOT_DATA}.firstPictureMs ?? 0)")
        assert browser.evaluate("document.querySelectorAll('#nodes-rows tr').length") == 181
        browser.wait_for(f"Number({ROOT_DATA}.updates) > 3")
        memory_bytes = browser.page_memory_bytes()
        heap_bytes = browser.heap_bytes()

        cluster.silent[NodeId(17)] = clock.now()
        browser.wait_for("document.querySelector('[data-node=\"storage-17\"]').dataset.state === 'silent'")
        cluster.set_state(17, PublicState.OFFLINE, alive=False)
        browser.wait_for("document.querySelector('#verdict').textContent === 'Degraded'")
        update_ms = browser.wait_for(f"Number({ROOT_DATA}.updateMs)")
        assert "168 of 10" in browser.text("#chains-says")
        assert browser.evaluate("document.querySelectorAll('#nodes-rows tr')[0].dataset.node") == "storage-17"
        keep_pictures(browser, "large")
        cluster.set_state(17, PublicState.SYNCING, alive=True)
        browser.wait_for("document.querySelectorAll('#resyncs .bar').length === 50")
        keep_pictures(browser, "large-syncing")
        cluster.set_state(17, PublicState.SERVING, alive=True)
        browser.wait_for("document.querySelector('#verdict').textContent === 'Healthy'")
        assert browser.evaluate("document.title") != "owned"
        assert SCRIPT in browser.text("#caches-rows")
        assert browser.console == []
    figures = {
        "first_picture_ms": first_ms, "update_of_a_dead_node_ms": update_ms, "page_memory_bytes": memory_bytes,
        "script_heap_bytes": heap_bytes,
    }  # fmt: skip
    if wanted := os.environ.get("FS3_SCREENSHOTS"):
        (Path(wanted) / "large.json").write_text(json.dumps(figures, indent=2) + "\n")
    assert heap_bytes < 20e6
    assert memory_bytes < 100e6


@needs_chromium
def test_the_page_by_keyboard_and_for_readers(browser: Chromium) -> None:
    clock = OsClock()
    cluster = SimulatedCluster(4, 12, clock)
    cluster.set_state(2, PublicState.OFFLINE, alive=False)
    with serve_page(cluster, clock) as url:
        browser.open(f"{url}/")
        browser.wait_for("document.querySelector('[data-code=\"node-dead\"]')?.dataset.severity === 'degraded'")
        found = []
        for _ in range(40):
            browser.press("Tab")
            found.append(browser.evaluate("document.activeElement.id || document.activeElement.textContent.slice(0, 40)"))
        assert found[0] == "Skip to what is wrong"
        order = [found.index(each) for each in ("theme", "What to do", "10 min", "chart-bytes", "chain-map", "nodes-filter")]
        assert order == sorted(order)

        # A runbook opens, is read, closes, and the focus is where it was.
        browser.evaluate("document.querySelector('[data-code=\"node-dead\"] > button').focus()")
        browser.press("Enter")
        browser.wait_for("document.querySelector('#runbook').open && document.querySelector('#runbook-body ol') !== null")
        assert browser.text("#runbook-title") == "A node is dead"
        assert "Look at its machine" in browser.text("#runbook-body")
        browser.press("Escape")
        browser.wait_for("!document.querySelector('#runbook').open")
        assert browser.evaluate("document.activeElement.textContent") == "What to do"
        # It stays there while the sentence beside it is told anew.
        said = browser.text('[data-code="node-dead"] ul')
        browser.wait_for(f"document.querySelector('[data-code=\"node-dead\"] ul').textContent !== {json.dumps(said)}")
        assert browser.evaluate("document.activeElement.textContent") == "What to do"

        # Canvases say what they show, as a whole and by piece.
        browser.evaluate("document.querySelector('#chain-map').focus()")
        browser.press("ArrowRight")
        browser.press("ArrowRight")
        assert browser.text("#chain-cell").startswith("Chain 2 is ")
        assert "behind" in browser.evaluate("document.querySelector('#chain-map').getAttribute('aria-label')")
        browser.wait_for("document.querySelector('#chart-calls').getAttribute('aria-label').includes('reads: ')")
        # Every state has its word beside its colour and its shape.
        assert browser.evaluate(
            "[...document.querySelectorAll('.state')].every((each) => each.textContent && each.querySelector('svg'))"
        )
        # Nothing is wider than the window, however small that is.
        for width in (360, 768, 1280, 3840):
            browser.resize(width, 900)
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.console == []


@needs_chromium
def test_what_changes_leads_the_page_to_the_same_state(browser: Chromium) -> None:
    """The page's own code applies what the manager's code has made of two states."""
    clock = OsClock()
    cluster = SimulatedCluster(6, 30, clock)
    feed = DashboardFeed(cluster, clock, ToldSurvey(clock), "mgmtd")
    states = []
    for number, state, alive in (
        (1, PublicState.SERVING, True), (2, PublicState.OFFLINE, False), (3, PublicState.OFFLINE, False),
        (2, PublicState.SYNCING, True), (2, PublicState.SERVING, True), (3, PublicState.SERVING, True),
    ):  # fmt: skip
        cluster.set_state(number, state, alive=alive)
        feed.sample()
        time.sleep(0.25)  # states are shared for so long
        found = feed.read_state()
        assert found is not None
        states.append(json.loads(json.dumps(found)))
    with serve_page(cluster, clock) as url:
        browser.open(f"{url}/")
        for before, after in pairwise(states):
            changes = changes_between(before, after)
            assert changes
            applied = browser.evaluate(
                "import('/page/store.js').then(({ applyChanges }) => {"
                f"const state = {json.dumps(before)}; applyChanges(state, {json.dumps(changes)}); return state; }})"
            )
            assert by_name(applied) == by_name(after)


def by_name(state: dict[str, Any]) -> dict[str, Any]:
    """The order of nodes is the page's own."""
    return {**state, "nodes": sorted(state["nodes"], key=lambda node: str(node["name"]))}


class KeepRedirects(HTTPRedirectHandler):
    """Redirects are answers."""

    def redirect_request(self, *_: Any, **__: Any) -> Request | None:
        """See `HTTPRedirectHandler`."""
        return None


def answer_of(url: str) -> tuple[int, str]:
    """Status, and where it redirects to."""
    try:
        with build_opener(KeepRedirects).open(url, timeout=10) as answer:
            return answer.status, ""
    except HTTPError as refused:
        return refused.code, refused.headers.get("Location", "")
    except (URLError, OSError):
        return 0, ""


def wait_for_answer(url: str, wanted: tuple[int, str]) -> None:
    deadline = time.monotonic() + 60
    while (found := answer_of(url)) != wanted:
        assert time.monotonic() < deadline, f"{url} answers {found}"
        time.sleep(0.05)


def test_every_manager_leads_to_the_page_of_the_primary(space_guard: SpaceGuard) -> None:
    with space_guard.lend("managers") as home, served_cluster(home, storage=1, replicas=1, mgmtds=2) as cluster:
        first, second = page_url(cluster), page_url(cluster, "mgmtd-2")
        wait_for_answer(first, (200, ""))
        wait_for_answer(second, (307, first))
        command = [sys.executable, "-m", "fs3.cli.main", "dashboard", cluster.url]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"{first}\n"
        found = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
        assert {each["name"]: f"{each['url']}/" for each in found} == {"mgmtd": first, "mgmtd-2": second}
        cluster.kill("mgmtd")
        wait_for_answer(second, (200, ""))
        with urlopen(f"{second}events", timeout=10) as stream:
            lines = iter(stream)
            assert next(line for line in lines if line.startswith(b"event: ")) == b"event: state\n"
            state = json.loads(next(lines).removeprefix(b"data: "))["state"]
        assert state["cluster"]["manager"] == "mgmtd-2"
        assert any(event["code"] == "primary" and "mgmtd-2" in event["text"] for event in state["events"])


def test_in_a_cluster_with_security_the_manager_proves_itself_to_the_processes(space_guard: SpaceGuard) -> None:
    with space_guard.lend("secured") as home, served_cluster(home, storage=1, replicas=1) as cluster:
        on = [sys.executable, "-m", "fs3.cli.main", "security", "on", str(cluster.directory.path)]
        subprocess.run(on, capture_output=True, check=True)
        with urlopen(f"{page_url(cluster)}events", timeout=60) as stream:
            for line in stream:
                if line.startswith(b"data: "):
                    message = json.loads(line.removeprefix(b"data: "))
                    found = message.get("state", message.get("set", {})).get("slow", {})
                    if found.get("asked") == 3:  # a manager, a metadata process, a storage process
                        break
            else:
                raise AssertionError("the stream has ended")


def test_a_cluster_without_metrics_ports_says_how_to_get_a_page(space_guard: SpaceGuard) -> None:
    with space_guard.lend("pageless") as home, LocalCluster(home / "cluster", storage=1, replicas=1) as cluster:
        command = [sys.executable, "-m", "fs3.cli.main", "dashboard", cluster.url]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "mgmtd serves no page" in done.stderr
    assert "--metrics-port" in done.stderr
