"""Traces of a cluster in a collector, by OpenTelemetry's own exporter: the commands of docs/observability.md."""

from __future__ import annotations

import http.server
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fs3.cli.ports import free_ports
from tests.external.library import library
from tests.space import SpaceGuard

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.external, pytest.mark.processes, pytest.mark.timeout(300)]

PROGRAM = """
import fsspec
fs = fsspec.filesystem("fs3", cluster="{address}")
fs.pipe_file("/sample", bytes(300_000))
assert len(fs.cat_file("/sample")) == 300_000
"""


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes what is sent to it."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(body)  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Any]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    server.bodies = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def spans_of(collector: Any) -> dict[bytes, tuple[str, Any]]:
    """By their id, with the service that sent them."""
    found = {}
    request = library("opentelemetry.proto.collector.trace.v1.trace_service_pb2").ExportTraceServiceRequest
    for body in list(collector.bodies):
        for resource in request.FromString(body).resource_spans:
            about = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                found |= {each.span_id: (about["service.name"], each) for each in scope.spans}
    return found


def test_the_documented_commands_send_traces_of_all_processes(collector: Any, space_guard: SpaceGuard) -> None:
    library("opentelemetry.exporter.otlp.proto.http")
    text = (ROOT / "docs" / "observability.md").read_text()
    (script,) = (block for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) if "OTEL_EXPORTER" in block)
    port = free_ports(10)
    with space_guard.lend("collector") as home:
        program = home / "train.py"
        program.write_text(PROGRAM.format(address=f"127.0.0.1:{port}"))
        for was, becomes in {
            r"pip install .*\n": "",
            r"http://collector:4318": f"http://127.0.0.1:{collector.server_port}",
            r"/tmp/fs3-data": str(home / "data"),
            r"fs3 up ": f"fs3 up --port {port} ",
            r"FS3_TRACE_RATIO=0.01": "FS3_TRACE_RATIO=1",
            r"python train.py": f"{sys.executable} {program}",
        }.items():
            script, count = re.subn(was, becomes, script)
            assert count, f"{was} is in the documented commands"
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        try:
            done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, timeout=200, env=environment)
            assert done.returncode == 0, done.stderr
            deadline = time.monotonic() + 60
            while not {"fs3-client", "fs3-meta", "fs3-storage"} <= {name for name, _ in spans_of(collector).values()}:
                assert time.monotonic() < deadline, "every process has sent its spans"
                time.sleep(0.1)
        finally:
            down = ["fs3", "down", "--data-dir", str(home / "data")]
            subprocess.run(down, capture_output=True, timeout=100, env=environment, check=False)
    # Those that ended send what is left.
    spans = spans_of(collector)
    served = [each for name, each in spans.values() if name == "fs3-storage" and each.name == "Storage.Update"]
    assert served
    for span in served:
        names = []
        while span.parent_span_id:
            name, span = spans[span.parent_span_id]
            names.append(name)
        assert names[-1] == "fs3-client", "the root is what the program asked for"
        assert span.name.startswith("fs3 ")
