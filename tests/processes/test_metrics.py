"""Metrics of a real cluster: everything the processes say is in the catalogue, and says what was done."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fs3.api.connect import connect
from fs3.api.kvcache import KVCache
from fs3.cli.local import LocalCluster
from fs3.cli.ports import free_ports
from fs3.model.metrics.catalogue import CATALOGUE
from fs3.model.metrics.metric import HistogramReading, MetricKind
from fs3.wire.exposition import Reading, parse_text
from tests.processes.machine_lab import wait_until
from tests.processes.prometheus import needs_prometheus, read_deployed, running_prometheus
from tests.space import SpaceGuard

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def local(space_guard: SpaceGuard) -> Iterator[LocalCluster]:
    with space_guard.lend("metrics") as home:
        cluster = LocalCluster(home / "cluster", storage=2, replicas=2)
        cluster.shape.metrics_port = free_ports(len(cluster.shape.names()))
        with cluster:
            yield cluster


def scrape(cluster: LocalCluster, name: str) -> str:
    with urlopen(f"http://127.0.0.1:{cluster.shape.metrics_port_of(name)}/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return answer.read().decode()


def value(readings: list[Reading], name: str, **labels: str) -> float:
    """The sum of the readings of that name with these labels."""
    return sum(one.value for one in readings if one.name == name and labels.items() <= one.labels.items())


async def use(url: str) -> None:
    async with await connect(url) as client:
        file = await client.open("/metrics-file", "w")
        await client.pwrite(file, b"x" * 300_000, 0)
        await client.close(file)
        file = await client.open("/metrics-file", "r")
        assert len(await client.pread(file, 300_000, 0)) == 300_000
        await client.close(file)
        async with await KVCache.of(client, namespace='odd "name"\\ü', page_bytes=4096) as cache:
            assert all(status.ok for status in await cache.put_from([b"a", b"b"], [bytes(4096)] * 2))
            assert (await cache.lookup([b"a", b"c"])).hits == 1
        readings = client.metrics()
        opened = readings.get("fs3_rpc_called_seconds", "Meta", "Open", "OK")
        assert isinstance(opened, HistogramReading)
        assert sum(opened.counts) == 2
        assert {sample.metric.name for sample in readings} <= CATALOGUE.keys()


async def make_file(url: str, path: str) -> None:
    async with await connect(url) as client:
        file = await client.open(path, "w")
        await client.pwrite(file, b"x" * 300_000, 0)
        await client.close(file)


def test_what_was_done_is_in_the_figures(local: LocalCluster) -> None:
    asyncio.run(use(local.url))
    meta = parse_text(scrape(local, "meta"))
    assert value(meta, "fs3_rpc_served_seconds_count", verb="Open", code="OK") == 2
    assert value(meta, "fs3_meta_operations_total", operation="open") == 2
    assert value(meta, "fs3_store_commits_total") > 0
    odd = 'odd "name"\\ü'

    def scrape_storage() -> list[Reading]:
        return [reading for name in ("storage-1", "storage-2") for reading in parse_text(scrape(local, name))]

    # What a client reports of its look-ups is not waited for.
    wait_until(lambda: value(scrape_storage(), "fs3_kv_keys_found_total", namespace=odd) == 1, lambda: "no key was found", 20)
    storage = scrape_storage()
    assert value(storage, "fs3_rpc_served_payload_received_bytes_total", verb="Update") >= 300_000
    assert value(storage, "fs3_disk_write_seconds_count") >= 2
    assert value(storage, "fs3_read_ios_total") >= 1
    assert value(storage, "fs3_target_serving") == 4
    assert value(storage, "fs3_kv_puts_total", namespace=odd) == 2
    mgmtd = parse_text(scrape(local, "mgmtd"))
    assert value(mgmtd, "fs3_manager_primary") == 1
    assert value(mgmtd, "fs3_nodes", alive="true") == 3
    assert value(mgmtd, "fs3_chains", state="whole") == value(mgmtd, "fs3_chains") > 0


@pytest.mark.parametrize("name", ["mgmtd", "meta", "storage-1"])
def test_everything_a_process_says_is_in_the_catalogue(local: LocalCluster, name: str) -> None:
    role = name.partition("-")[0]
    found = {family.name: family for family in text_string_to_metric_families(scrape(local, name))}
    for family in found.values():
        full = f"{family.name}_total" if family.type == "counter" else family.name
        metric = CATALOGUE[full]
        assert family.type == metric.kind, full
        assert not metric.roles or role in metric.roles, full
        for sample in family.samples:
            labels = set(sample.labels) - ({"le"} if metric.kind is MetricKind.HISTOGRAM else set())
            assert labels == set(metric.labels), full
    own = [metric for metric in CATALOGUE.values() if metric.roles == (role,) and not metric.labels]
    expected = {metric.name.removesuffix("_total") for metric in own}
    assert expected <= found.keys(), expected - found.keys()


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language in docs/metrics.md."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / "metrics.md").read_text(), re.DOTALL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_documented_commands(space_guard: SpaceGuard) -> None:
    (script,) = blocks("sh")
    with space_guard.lend("documented") as home:
        ports = free_ports(15)
        script = script.replace("/tmp/fs3-data", str(home / "data")).replace("9400", str(ports + 10))
        script = script.replace("fs3 up ", f"fs3 up --port {ports} ")
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    assert "fs3_manager_primary 1" in done.stdout
    assert f"metrics at http://127.0.0.1:{ports + 10}/metrics, and so on up to port {ports + 14}" in done.stdout


def test_the_documented_program(local: LocalCluster) -> None:
    (program,) = blocks("python")
    program = program.replace("127.0.0.1:8000", local.address)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("HistogramReading(")
    assert "fs3_chunk_updates_total 0" in done.stdout


@needs_prometheus
def test_prometheus_scrapes_a_cluster_and_sees_a_node_die(space_guard: SpaceGuard) -> None:
    with space_guard.lend("scraped") as home:
        cluster = LocalCluster(home / "cluster", storage=2, replicas=2)
        names = cluster.shape.names()
        cluster.shape.metrics_port = free_ports(len(names))
        targets = [f"127.0.0.1:{cluster.shape.metrics_port_of(name)}" for name in names]
        config = read_deployed("prometheus.yml")
        config["scrape_configs"][0]["static_configs"][0]["targets"] = targets
        with cluster, running_prometheus(home, config) as prometheus:

            def wait_for(what: str, expression: str, condition: Callable[[dict[str, float]], bool]) -> None:
                def holds() -> bool:
                    found = prometheus.query(expression)
                    return found is not None and condition(found)

                wait_until(holds, lambda: what)

            wait_until(lambda: prometheus.scrapes(targets), lambda: "every process is scraped")
            wait_for("the manager tells of its chains", 'fs3_chains{state="whole"}', lambda found: sum(found.values()) > 0)
            wait_for("the cluster is well", "fs3_problems > 0", lambda found: not found)
            cluster.kill("storage-2")
            seen = {"node-dead", "target-behind", "chain-one-copy"}
            wait_for("the dead node is seen", "fs3_problems > 0", lambda found: found.keys() >= seen)
            wait_for("an alert is pending", 'ALERTS{alertname="Fs3OneCopyLeft"}', bool)
            cluster.start("storage-2")
            wait_for("the cluster is seen to have healed", "fs3_problems > 0", lambda found: not found)


def fs3(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "fs3.cli.main", *arguments], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_documented_ways_to_look(local: LocalCluster) -> None:
    """Every command of docs/observability.md."""
    (script,) = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "observability.md").read_text(), re.DOTALL)
    asyncio.run(make_file(local.url, "/metrics-file"))
    said = ""
    for line in script.splitlines():
        words = line.partition(" #")[0].split()[1:]
        said += fs3(*(word.replace("fs3://127.0.0.1:8000", f"fs3://{local.address}") for word in words))
    assert "is healthy" in said
    assert "is the primary manager, in epoch 1" in said
    assert "Process.GetMetrics" in said or "Mgmtd.Heartbeat" in said
    assert "stat and read" in said


def test_the_documented_ways_to_trace_a_program(local: LocalCluster, tmp_path: Path) -> None:
    """Every program of docs/observability.md, of which `train` is the caller's own."""
    written = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "observability.md").read_text(), re.DOTALL)
    assert len(written) == 2
    for program in written:
        done = subprocess.run(
            [sys.executable, "-c", TRAIN + program], cwd=tmp_path, capture_output=True, text=True, timeout=100,
            env={**os.environ, "FS3_CLUSTER": local.address},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    events = json.loads((tmp_path / "io.json").read_text())["traceEvents"]
    assert {"fs3 write", "fs3 read", "fs3 KV put", "fs3 KV get"} <= {event["name"] for event in events}


TRAIN = """
def train():
    import asyncio, fsspec
    from fs3.api.kvcache import KVCache

    files = fsspec.filesystem("fs3")
    files.pipe_file("/trained", bytes(300_000))
    assert len(files.cat_file("/trained")) == 300_000

    async def pages():
        async with (
            await fs3.connect("fs3:///") as client,
            await KVCache.of(client, namespace="trained", page_bytes=4096) as cache,
        ):
            assert (await cache.put_from([b"a"], [bytes(4096)]))[0].ok
            assert (await cache.get_into([b"a"], [bytearray(4096)]))[0].ok

    asyncio.run(pages())
"""


def test_where_the_time_of_a_write_went(local: LocalCluster) -> None:
    asyncio.run(make_file(local.url, "/traced file"))
    document = json.loads(fs3("trace", f"{local.url.rstrip('/')}/traced file", "--write", "--json"))
    assert document["silent"] == {}
    spans = list(walk(document["trace"]))
    updates = [span for span in spans if span["name"] == "Storage.Update" and span["kind"] == "served"]
    assert sorted(span["role"] for span in updates) == ["head", "tail"]
    assert {span["process"] for span in spans} == {"client", "meta", "storage-1", "storage-2"}
    assert {"commit", "disk"} <= {span["name"] for span in spans if span["kind"] == "part"}
    assert sum(document["shares_us"].values()) == pytest.approx(document["total_us"])
    assert fs3("ls", f"{local.url.rstrip('/')}/").count("fs3-trace") == 0, "the copy is gone"


def test_a_cluster_is_named_by_its_directory(local: LocalCluster) -> None:
    directory = str(local.directory.path)
    asyncio.run(make_file(local.url, "/named"))
    document = json.loads(fs3("trace", "/named", "--data-dir", directory, "--json"))
    assert {span["process"] for span in walk(document["trace"])} >= {"client", "meta"}
    assert json.loads(fs3("slow", "--data-dir", directory, "--json"))["silent"] == {}


def test_where_the_time_of_a_page_went(local: LocalCluster) -> None:
    async def put() -> None:
        async with (
            await connect(local.url) as client,
            await KVCache.of(client, namespace="traced", page_bytes=4096) as cache,
        ):
            assert all(status.ok for status in await cache.put_from([b"page"], [bytes(4096)]))

    asyncio.run(put())
    document = json.loads(fs3("trace", local.url, "--namespace", "traced", "--key", "page", "--json"))
    names = {(span["name"], span["kind"]) for span in walk(document["trace"])}
    assert {("fs3 KV lookup", "operation"), ("fs3 KV get", "operation"), ("Storage.Read", "served")} <= names
    wrong = [sys.executable, "-m", "fs3.cli.main", "trace", local.url, "--namespace", "traced", "--key", "absent"]
    done = subprocess.run(wrong, capture_output=True, text=True, timeout=100)
    assert (done.returncode, "has no page of that key" in done.stderr) == (1, True)


def walk(span: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield span
    for part in span["parts"]:
        yield from walk(part)


def test_top_slow_and_events_for_programs(local: LocalCluster) -> None:
    found = json.loads(fs3("top", local.url, "--every", "300ms", "--json"))
    assert [each["name"] for each in found["processes"]] == ["mgmtd", "meta", "storage-1", "storage-2"]
    assert all(each["memory_bytes"] > 1 << 20 for each in found["processes"])
    assert json.loads(fs3("slow", local.url, "--json")).keys() == {"operations", "stalls", "silent"}
    found = json.loads(fs3("status", local.url, "--transports", "--json"))
    assert found["silent"] == {}
    assert {one["process"] for one in found["connections"]} == {"mgmtd", "meta", "storage-1", "storage-2"}
    assert {one["transport"] for one in found["connections"]} <= {"local", "tcp"}
    assert "the client has not asked for RDMA" in fs3("status", local.url, "--transports")
    events = [json.loads(line) for line in fs3("events", local.url, "--json").splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert {event["code"] for event in events} >= {"primary", "joined"}


def test_a_process_without_the_option_serves_none(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path / "other")
    assert cluster.shape.metrics_port_of("mgmtd") == 0
